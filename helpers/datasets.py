"""Labelled sets of images: two that need no download, and torchvision's where there is a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2

from . import photos
from .inputs import Box, check_count
from .reading import shards
from .reading.shards import Files

CROP_CLASSES = tuple(name for name in photos.names() if name != "motorcycle_right")  # the left one from the side


class Images(Dataset):
    """Images in memory: items are (image (3, H, W) in [0, 1], label); ``classes`` names the labels.

    Where that is known, ``boxes`` says where in its photograph (of ``photo_size`` pixels) each image was cut, and
    ``names`` from which file it is.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        classes: tuple[str, ...],
        boxes: tuple[Box, ...] = (),
        names: tuple[str, ...] = (),
    ) -> None:
        self.images, self.labels, self.classes, self.boxes, self.names = images, labels, classes, boxes, names

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")


def crops(split: str, *, per_class: int = 20, size: int = 96, photo_size: int = 448, seed: int = 0) -> Images:
    """Random square crops of each packaged photograph, labelled by the photograph.

    Training crops lie in the left half of the photograph, test crops in the right half: no pixel is in both.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``.
    per_class
        Crops of each photograph.
    size, photo_size
        Side of a crop, and of the square to which the photograph is resized before it is cut, in pixels.
    """
    _check_split(split)
    check_count("per_class", per_class)
    if not 0 < size <= photo_size // 2:
        raise ValueError(f"size must be in 1…{photo_size // 2} (half of photo_size), got {size}.")
    random = np.random.default_rng([seed, split == "test"])
    half = photo_size // 2
    images, boxes = [], []
    for name in CROP_CLASSES:
        photo = photos.load(name, photo_size)
        for _ in range(per_class):
            top = int(random.integers(0, photo_size - size + 1))
            left = int(random.integers(0, half - size + 1)) + half * (split == "test")
            boxes.append(Box(top, left, top + size, left + size))
            images.append(photo[:, *boxes[-1].slices])
    labels = torch.arange(len(CROP_CLASSES)).repeat_interleave(per_class)
    return Images(torch.stack(images), labels, CROP_CLASSES, tuple(boxes))


def groceries(split: str, level: str = "coarse", *, root: str | Path | None = None, size: int = 160) -> Images | Files:
    """Photographs of groceries in shops (Klasson et al. 2019): the package's part of the set, or all of it.

    17 photographs of each of 43 coarse classes for training and 18 for testing, where the set has so many;
    ``helpers/data/README.md`` is their card. Classes are in the authors' order; ``names`` are paths in the whole set.

    Parameters
    ----------
    split
        ``"train"`` or ``"test"``, as the authors split them.
    level
        ``"coarse"`` for 43 classes (Apple, Milk …), ``"fine"`` for 81 (Granny-Smith, Arla-Standard-Milk …).
    root
        The folder ``dataset`` of the whole set, with ``classes.csv``, ``train.txt`` and ``test.txt``: 2,640 and 2,485
        photographs, read when they are asked for.
    size
        Side of the images in pixels: the central square, resized. The package's photographs have 160.

    Returns
    -------
    Images, or Files where ``root`` is given.

    Raises
    ------
    ValueError
        Another split, level or size; a shard is damaged; a list in ``root`` has a line of another form.
    FileNotFoundError
        A shard, or a list in ``root``, is missing.
    """
    _check_split(split)
    if level not in shards.LEVELS:
        raise ValueError(f"level must be 'coarse' or 'fine', got {level!r}.")
    check_count("size", size)
    if root is not None:
        return shards.listed(Path(root).expanduser(), split, level, size)
    images, labels, names, classes = [], [], [], {}
    for about, photograph in shards.samples(split):
        label = about["label" if level == "fine" else "coarse"]
        images.append(photos.decode(photograph, size, about["path"]))
        labels.append(label)
        names.append(about["path"])
        classes[label] = about["names"][shards.LEVELS.index(level)]
    ordered = tuple(classes[label] for label in range(len(classes)))
    return Images(torch.stack(images), torch.tensor(labels), ordered, names=tuple(names))


def caltech101(split: str, root: str | Path = "data", *, size: int = 224, per_class: int = 30, seed: int = 0) -> Subset:
    """Caltech-101 (Fei-Fei et al. 2004): ``per_class`` random images of a class for training, the others for testing.

    Downloads 130 MB into ``root`` where it is not there yet.
    """
    _check_split(split)
    crop = v2.Compose(
        [v2.RGB(), v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Resize(size), v2.CenterCrop(size)]
    )
    data = _torchvision(torchvision.datasets.Caltech101, root, transform=crop)
    labels = np.asarray(data.y)
    random = np.random.default_rng(seed)
    train = np.concatenate([random.permutation(np.flatnonzero(labels == c))[:per_class] for c in np.unique(labels)])
    index = train if split == "train" else np.setdiff1d(np.arange(len(labels)), train)
    subset = Subset(data, index.tolist())
    subset.classes = tuple(data.categories)
    return subset


def cifar10(split: str, root: str | Path = "data") -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 images for training and 10,000 for testing, 32×32; 170 MB into ``root``."""
    _check_split(split)
    convert = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return _torchvision(torchvision.datasets.CIFAR10, root, train=split == "train", transform=convert)


def _torchvision(dataset: type[Dataset], root: str | Path, **options) -> Dataset:
    """The set from ``root``, downloaded where it is not there; a clear error where that can't be done."""
    try:
        return dataset(str(root), download=True, **options)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{dataset.__name__} is not in {Path(root).resolve()} and can't be downloaded ({error}). With a network, "
            "run this once; without one use datasets.crops() or datasets.groceries()."
        ) from error
