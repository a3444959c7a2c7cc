"""Photographs: those that installed packages bring along, grids of them with a known truth, the reader's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor

from .inputs import Box
from .reading import pictures

# From name to (package folder, file). Origin and licence of each: the book's credits page.
_PNG = "astronaut brick camera chelsea coffee coins grass gravel horse ihc moon motorcycle_left motorcycle_right page"
_FILES = {
    **{name: ("skimage.data", f"{name}.png") for name in _PNG.split()},
    **{name: ("skimage.data", f"{name}.jpg") for name in ("hubble_deep_field", "retina", "rocket")},
    **{name: ("sklearn.datasets.images", f"{name}.jpg") for name in ("china", "flower")},
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}

# What the photographs show, in ImageNet's words: an answer in the set is right. Only these stand in `scoring.grids`.
KNOWN = {
    "camera": {"tripod"},
    "chelsea": {"Egyptian cat", "tabby", "tiger cat"},
    "china": {"palace", "bell cote"},
    "coffee": {"espresso", "cup", "coffee mug"},
    "flower": {"daisy"},
    "hopper": {"military uniform"},
    "motorcycle_left": {"moped", "motor scooter"},
    "rocket": {"missile", "projectile"},
}


def names() -> list[str]:
    """The photographs that `load` knows."""
    return sorted(_FILES)


def load(name: str, size: int = 224) -> Tensor:
    """One packaged photograph: its central square, resized to (3, ``size``, ``size``), values in [0, 1]."""
    if name not in _FILES:
        raise LookupError(f"no photograph {name!r}; there are {', '.join(names())}.")
    package, file = _FILES[name]
    with as_file(files(package) / file) as path:
        return load_image(path, size)


def load_image(path_or_url: str | Path, size: int = 224) -> Tensor:
    """A picture from a file or an http(s) address: its central square, resized, (3, ``size``, ``size``) in [0, 1].

    Raises
    ------
    FileNotFoundError
        No such file, only a folder or a device, or it may not be read; the address can't be reached, or does not send
        all of the picture within `reading.pictures.MAX_SECONDS`.
    ValueError
        The file is no picture, or is larger than `reading.pictures.MAX_BYTES` or than Pillow's limit on pixels; the
        address, or one that it redirects to, is not http(s); ``size`` is not positive.
    """
    return decode(pictures.read(path_or_url), size, str(path_or_url))


def decode(data: bytes, size: int = 224, place: str = "the file") -> Tensor:
    """A picture from the bytes of its file, as `load_image` returns it; ``place`` is its name in error messages.

    Raises
    ------
    ValueError
        As `load_image`.
    """
    return pictures.decode(data, size, place)


@dataclass(frozen=True)
class Grid:
    """A 2×2 collage whose cells are the ground truth of the grid pointing game (Böhle et al. 2021).

    ``image`` has shape (3, 2·size, 2·size); ``boxes``, ``names`` and ``targets`` go left to right, top to bottom.
    ``targets`` are the cells' class indices (empty where no classifier has named them).
    """

    image: Tensor
    boxes: tuple[Box, ...]
    names: tuple[str, ...]
    targets: tuple[int, ...] = ()


def grid(names: list[str] | tuple[str, ...], size: int = 224, targets: tuple[int, ...] = ()) -> Grid:
    """The 2×2 collage of four photographs, each resized to ``size`` pixels."""
    return collage([load(name, size) for name in names], names, targets)


def collage(images: Sequence[Tensor], names: Sequence[str], targets: Sequence[int] = ()) -> Grid:
    """The 2×2 collage of four square images of one size, (3, size, size)."""
    if len(images) != 4:
        raise ValueError(f"a grid has four photographs, got {len(images)}.")
    size = images[0].shape[-1]
    boxes = tuple(Box(row, col, row + size, col + size) for row in (0, size) for col in (0, size))
    rows = [torch.cat(tuple(images[start : start + 2]), 2) for start in (0, 2)]
    return Grid(torch.cat(rows, 1), boxes, tuple(names), tuple(targets))
