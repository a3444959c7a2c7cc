"""What every method accepts and what it refuses: images, targets, maps, boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .runtime import progress

Target = int | Tensor | None


class Box(NamedTuple):
    """A rectangle of pixels: rows ``top`` to ``bottom - 1``, columns ``left`` to ``right - 1``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the rectangle in the last two dimensions: ``image[..., *box.slices]``."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def as_batch(model: nn.Module, image: Tensor) -> tuple[Tensor, bool]:
    """Check ``image`` and return it as (N, 3, H, W) on the model's device and in its dtype; and whether it was single.

    Raises
    ------
    TypeError
        ``image`` is no floating-point tensor, or ``model`` is no ``nn.Module``.
    ValueError
        ``image`` has another shape than (3, H, W) or (N, 3, H, W), is empty, or has values that are not in [0, 1].
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}: load one with models.load().")
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image must be a torch.Tensor, got {type(image).__name__}: read a file with photos.load_image(path)."
        )
    if not image.is_floating_point():
        raise TypeError(f"image must be of a floating-point dtype, got {image.dtype}: divide 8-bit values by 255.")
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or image.numel() == 0:
        hint = ": move the channels to the front with permute(2, 0, 1)" if image.shape[-1:] == (3,) else ""
        raise ValueError(f"image must have shape (3, H, W) or (N, 3, H, W), got {tuple(image.shape)}{hint}.")
    low, high = (value.item() for value in image.detach().aminmax())
    if not (low >= 0 and high <= 1):  # false for NaN, too
        raise ValueError(
            f"image must have values in [0, 1], got {low:.3g} to {high:.3g}. A Classifier normalises by itself; "
            "for a network that wants normalised input use models.Classifier(network, mean=…, std=…)."
        )
    first = next(model.parameters(), image)
    batch = image if image.ndim == 4 else image[None]
    return batch.to(first.device, first.dtype), image.ndim == 3


def as_batches(images: Dataset | Iterable, name: str) -> Iterator[Tensor]:
    """The batches of a stream of images, with a progress bar of this ``name``.

    The stream yields batches (N, 3, H, W), or tuples that begin with one, as a DataLoader does; or it is a Dataset, or
    one tensor, which are taken in parts of 32.
    """
    if isinstance(images, Tensor):
        images = images.split(32) if images.ndim == 4 else [images]
    if isinstance(images, Dataset):
        images = DataLoader(images, batch_size=32, generator=torch.Generator())  # else it draws from the global one
    for batch in progress(images, name, "batch"):
        yield batch[0] if isinstance(batch, tuple | list) else batch


def as_logits(outputs: Tensor) -> Tensor:
    """Check that a network's ``outputs`` are (N, classes) finite numbers and return them."""
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"the model must map (N, 3, H, W) to (N, classes), got {got}.")
    if not outputs.detach().isfinite().all():
        raise ValueError("the model's output has NaN or infinite values: check its weights.")
    return outputs


def as_targets(target: Target, logits: Tensor) -> Tensor:
    """The target class of each image, shape (N,): ``target`` itself, or the predicted class where it is None.

    Raises
    ------
    TypeError
        ``target`` is neither None, nor an int, nor a tensor of ints.
    ValueError
        ``target`` is out of range, or has another number of entries than there are images.
    """
    count, classes = logits.shape
    if target is None:
        return logits.detach().argmax(1)
    targets = as_indices("target", target, count).to(logits.device)
    if targets.min() < 0 or targets.max() >= classes:
        raise ValueError(f"target must be in 0…{classes - 1}, the model has {classes} classes; got {target}.")
    return targets


def as_indices(name: str, value: int | Tensor, count: int) -> Tensor:
    """One index for each of ``count`` images, (count,); the errors call it by its ``name``.

    Raises
    ------
    TypeError
        ``value`` is neither an int nor a tensor of ints.
    ValueError
        It has another number of entries than 1 or ``count``.
    """
    if isinstance(value, bool) or not isinstance(value, int | Tensor):
        raise TypeError(f"{name} must be an int or a tensor of ints, got {type(value).__name__}.")
    indices = torch.as_tensor(value)
    if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, got {indices.dtype}.")
    if indices.ndim > 1 or indices.ndim == 1 and len(indices) != count:
        raise ValueError(f"{name} must be one int or {count} of them (one an image), got {tuple(indices.shape)}.")
    return indices.long().expand(count)


def check_count(name: str, value: int) -> None:
    """Refuse a ``value`` that is no positive int; the error calls it by its ``name``."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a positive int, got {value!r}.")


def as_map(heatmap: Tensor) -> Tensor:
    """Check that ``heatmap`` is one map (H, W) of finite values; return it in float64 on the CPU."""
    if not isinstance(heatmap, Tensor):
        raise TypeError(f"a map must be a torch.Tensor, got {type(heatmap).__name__}.")
    if heatmap.ndim != 2 or heatmap.numel() == 0:
        raise ValueError(f"a map must have shape (H, W), got {tuple(heatmap.shape)}: sum or maximise over channels.")
    heatmap = heatmap.detach().cpu().double()
    if not heatmap.isfinite().all():
        raise ValueError("a map must have finite values, got NaN or infinity.")
    return heatmap
