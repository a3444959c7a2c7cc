"""Photographs: those that installed packages bring along, grids of them with a known truth, the reader's own."""

from __future__ import annotations

import http.client
import io
import itertools
import urllib.request
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .inputs import Box

# From name to (package folder, file). Origin and licence of each: the book's credits page.
_FILES = {
    **{
        name: ("skimage.data", f"{name}.png") for name in ("astronaut", "brick", "camera", "chelsea", "coffee", "coins")
    },
    **{name: ("skimage.data", f"{name}.png") for name in ("grass", "gravel", "horse", "ihc", "moon", "page")},
    **{name: ("skimage.data", f"{name}.png") for name in ("motorcycle_left", "motorcycle_right")},
    **{name: ("skimage.data", f"{name}.jpg") for name in ("hubble_deep_field", "retina", "rocket")},
    **{name: ("sklearn.datasets.images", f"{name}.jpg") for name in ("china", "flower")},
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}

# What the photographs show, in ImageNet's words: an answer in the set is right. Only these can stand in a grid.
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

MAX_BYTES = 20_000_000


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
        No such file, or the address can't be reached.
    ValueError
        The file is no picture, or is larger than 20 MB or than Pillow's limit on pixels; ``size`` is not positive.
    """
    place = str(path_or_url)
    if place.startswith(("http://", "https://")):
        data = _fetch(place)
    else:
        path = Path(path_or_url).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"no file at {path}: give the path of a picture, or an address (https://…).")
        data = path.read_bytes()
    return decode(data, size, place)


def decode(data: bytes, size: int = 224, place: str = "the file") -> Tensor:
    """A picture from the bytes of its file, as `load_image` returns it; ``place`` is its name in error messages."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size!r}.")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{place} has more than {MAX_BYTES // 1_000_000} MB: make it smaller first.")
    try:
        with Image.open(io.BytesIO(data)) as file:
            picture = _as_rgb(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:  # its own message names the object in memory
        raise ValueError(f"{place} is no picture that can be read: its format is not known.") from error
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{place} is no picture that can be read: {error}") from error
    square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(square, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def _as_rgb(picture: Image.Image) -> Image.Image:
    """8 bits for each of three channels; what is transparent becomes white."""
    if picture.mode == "F":
        raise ValueError("a picture of floating-point numbers has no known range: save it with 8 bits a channel.")
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _fetch(url: str) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "visualizing-cnns"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # URLError is an OSError
        raise FileNotFoundError(f"{url} can't be reached ({error}): save the picture and give its path.") from error


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
    if len(names) != 4:
        raise ValueError(f"a grid has four photographs, got {len(names)}.")
    rows, cols = (0, 0, 1, 1), (0, 1, 0, 1)
    boxes = tuple(Box(r * size, c * size, (r + 1) * size, (c + 1) * size) for r, c in zip(rows, cols))
    image = torch.empty(3, 2 * size, 2 * size)
    for name, box in zip(names, boxes):
        image[:, *box.slices] = load(name, size)
    return Grid(image, boxes, tuple(names), tuple(targets))


def example_grids(classifier, n: int = 12, *, size: int = 224, confidence: float = 0.1, seed: int = 0) -> list[Grid]:
    """``n`` different grids of photographs that ``classifier`` gets right with at least this ``confidence``.

    Parameters
    ----------
    classifier
        A `models.Classifier` with ImageNet's category names.
    confidence
        Least probability of the right answer for the photograph alone.

    Raises
    ------
    ValueError
        The classifier knows fewer than four of the photographs, or there are fewer than ``n`` combinations.
    """
    targets = {}
    for name, labels in KNOWN.items():
        label, probability = classifier.predict(load(name, size), k=1)[0]
        if label in labels and probability >= confidence:
            targets[name] = classifier.index(label)
    groups = list(itertools.combinations(targets, 4))
    if len(groups) < n or n < 1:
        raise ValueError(
            f"asked for {n} grids, but the {len(targets)} photographs that {classifier.name} knows with probability "
            f"{confidence} or more give {len(groups)}: ask for fewer, or lower the confidence."
        )
    random = np.random.default_rng(seed)
    chosen = [random.permutation(groups[i]) for i in random.permutation(len(groups))[:n]]
    return [grid(list(map(str, four)), size, tuple(targets[name] for name in four)) for four in chosen]
