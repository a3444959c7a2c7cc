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
from .inputs import Box

CROP_CLASSES = tuple(name for name in photos.names() if name != "motorcycle_right")  # the left one from the side


class Images(Dataset):
    """Images in memory: items are (image (3, H, W) in [0, 1], label); ``classes`` names the labels.

    ``boxes`` says where in its photograph (of ``photo_size`` pixels) each image was cut, where that is known.
    """

    def __init__(self, images: Tensor, labels: Tensor, classes: tuple[str, ...], boxes: tuple[Box, ...] = ()) -> None:
        self.images, self.labels, self.classes, self.boxes = images, labels, classes, boxes

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
    if not isinstance(per_class, int) or per_class < 1:
        raise ValueError(f"per_class must be a positive int, got {per_class!r}.")
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


def faces(split: str) -> Images:
    """skimage's 200 patches of 25×25 pixels, half of them faces; every other one is for testing.

    Grey, repeated to three channels. The faces are a subset of Labeled Faces in the Wild (Huang et al. 2007).
    """
    _check_split(split)
    from skimage.data import lfw_subset

    patches = torch.from_numpy(lfw_subset()).float()  # (200, 25, 25): 100 faces, then 100 without
    labels = (torch.arange(len(patches)) >= 100).long()
    part = slice(int(split == "test"), None, 2)
    return Images(patches[part, None].repeat(1, 3, 1, 1), labels[part], ("face", "no face"))


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
            "run this once; without one use datasets.crops() or datasets.faces()."
        ) from error
