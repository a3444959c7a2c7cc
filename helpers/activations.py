"""Chapter 3: when a unit fires, and for which pictures it fires most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import layers
from .inputs import Box, as_batch, as_batches, check_count


def maps(model: nn.Module, image: Tensor, layer: str) -> Tensor:
    """The activation maps of ``layer``: (C, h, w) for an image (3, H, W), (N, C, h, w) for a batch."""
    batch, single = as_batch(model, image)
    with layers.evaluating(model):
        activation = layers.run_to(model, layer, batch)
    if activation.ndim != 4:
        raise ValueError(f"layer {layer!r} returns {tuple(activation.shape)}, no maps (N, C, h, w).")
    return activation[0] if single else activation


@dataclass(frozen=True)
class TopPatches:
    """For each channel, the ``k`` images in which it fires most, one place in each (Zeiler & Fergus 2014, figure 2).

    Attributes
    ----------
    channels
        Which channels, (C,).
    values
        The activations, (C, k), largest first, of equals the earlier image; fewer than ``k`` where there were fewer
        images.
    index
        The number of each image in the stream, (C, k).
    units
        (row, col) of the unit that fired, (C, k, 2).
    images
        The images that are among the winners, by their number.
    fields
        The layer's receptive field for each size of image.
    k
        How many images were asked for.
    """

    channels: Tensor
    values: Tensor
    index: Tensor
    units: Tensor
    images: dict[int, Tensor]
    fields: dict[tuple[int, int], layers.ReceptiveField]
    k: int

    @property
    def boxes(self) -> list[list[Box]]:
        """What each winning unit sees of its image, in pixels."""
        return [
            [self.fields[tuple(self.images[i].shape[-2:])].box(*unit) for i, unit in zip(numbers, units)]
            for numbers, units in zip(self.index.tolist(), self.units.tolist())
        ]

    @property
    def patches(self) -> list[list[Tensor]]:
        """The pixels in `boxes`, (3, height, width) each; smaller at the border of an image."""
        return [
            [self.images[i][:, *box.slices] for i, box in zip(numbers, boxes)]
            for numbers, boxes in zip(self.index.tolist(), self.boxes)
        ]

    def merge(self, other: TopPatches) -> TopPatches:
        """The winners of both: of two parts of a set whose images were numbered apart, by ``first``."""
        if not torch.equal(self.channels, other.channels):
            raise ValueError("the two results are about different channels.")
        if self.images.keys() & other.images.keys():
            raise ValueError("both results have an image of the same number: count the second part on, with first=….")
        return _best([self, other], max(self.k, other.k))


def _best(parts: Sequence[TopPatches], k: int, copy: bool = False) -> TopPatches:
    """The ``k`` largest of all parts; of equals the earlier image. A ``copy`` of the winners lets their batches go."""
    values, index, units = (
        torch.cat([getattr(part, name) for part in parts], 1) for name in ("values", "index", "units")
    )
    order = index.argsort(dim=1)
    order = order.gather(1, values.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :k]
    index = index.gather(1, order)
    units = units.gather(1, order[..., None].expand(-1, -1, 2))
    winners, fields = set(index.flatten().tolist()), {}
    images = {number: image for part in parts for number, image in part.images.items() if number in winners}
    for part in parts:
        fields |= part.fields
    for number, image in images.items():
        if copy and image.untyped_storage().nbytes() > image.nbytes:  # a row of a batch
            images[number] = image.clone()
    return TopPatches(parts[0].channels, values.gather(1, order), index, units, images, fields, k)


def top_patches(
    model: nn.Module,
    layer: str | Sequence[str],
    images: Dataset | Iterable,
    k: int = 9,
    channels: Sequence[int] | None = None,
    *,
    first: int = 0,
    inside: bool = False,
) -> TopPatches | dict[str, TopPatches]:
    """Look through any number of images for those in which each channel fires most.

    Only the current winners are kept, and nothing above ``layer`` is computed.

    Parameters
    ----------
    model, layer
        Any network; the layer must return maps and have a receptive field (`layers.receptive_field`). Or several
        layers, early to late: the images are looked through once for all of them.
    images
        Batches (N, 3, H, W) in [0, 1], or tuples that begin with one, as a DataLoader yields; or a Dataset, or one
        tensor.
    k
        How many images for each channel; as many as there are gives the whole ranking.
    channels
        Which channels; default: all.
    first
        The number of the first image, where ``images`` is a part of a larger set whose results are merged.
    inside
        Let only those units compete whose receptive field lies wholly in the image. Others see padding, too, and an
        edge between image and padding can fire a channel more than anything in the image does.

    Returns
    -------
    TopPatches
        On the CPU. Of several layers, a dict from each to its own.
    """
    check_count("k", k)
    copy = not isinstance(images, Tensor)  # the caller holds a tensor anyway
    names, number = [layer] if isinstance(layer, str) else list(layer), first
    parts, fields = {name: [] for name in names}, {}
    if not names:
        raise ValueError("there is no layer to look at.")
    for batch in as_batches(images, "top patches"):
        batch = batch[None] if isinstance(batch, Tensor) and batch.ndim == 3 else batch
        with layers.record(model, names[:-1]) as found:
            found[names[-1]] = maps(model, batch, names[-1])
        kept, size = batch.detach().to("cpu", copy=copy), tuple(batch.shape[-2:])  # some streams reuse their memory
        for name in names:
            if name not in found:
                raise ValueError(f"layer {name!r} did not run before {names[-1]!r}: name the layers early to late.")
            if (name, size) not in fields:
                fields[name, size] = layers.receptive_field(model, name, size)
            parts[name].append(_peaks(name, fields[name, size], found[name], kept, number, channels, inside))
            if sum(part.values.shape[1] for part in parts[name]) > 2 * k + 64:  # now and then: this sorts
                parts[name] = [_best(parts[name], k, copy)]
        number += len(batch)
    if number == first:
        raise ValueError("there are no images.")
    best = {name: _best(each, k, copy) for name, each in parts.items()}
    return best[layer] if isinstance(layer, str) else best


def _peaks(
    layer: str,
    field: layers.ReceptiveField,
    activation: Tensor,
    batch: Tensor,
    number: int,
    channels: Sequence[int] | None,
    inside: bool,
) -> TopPatches:
    """The strongest unit of each image of a batch (N, 3, H, W) with these maps, whose first image has this number."""
    chosen, width = _channels(channels, activation.shape[1]), activation.shape[3]
    activation = activation if channels is None else activation[:, chosen.to(activation.device)]
    if inside:
        activation = activation.masked_fill(~_inside(field, activation.shape[2:]).to(activation.device), -torch.inf)
    peaks = activation.flatten(2).max(2)  # values and places, (N, C)
    values, place = peaks.values.T.cpu(), peaks.indices.T.cpu()
    if not values.isfinite().all():
        raise ValueError(f"layer {layer!r} has NaN or infinite values: check the network's weights.")
    index = torch.arange(number, number + len(batch)).expand(len(chosen), -1)
    units = torch.stack([place // width, place % width], 2)
    images = dict(enumerate(batch, start=number))
    return TopPatches(chosen, values, index, units, images, {tuple(batch.shape[-2:]): field}, len(batch))


def _inside(field: layers.ReceptiveField, units: tuple[int, int]) -> Tensor:
    """Which units of a map of (rows, cols) ``units`` see the image alone, (h, w). A ValueError if none does."""
    rows = torch.tensor([field.box(row, 0).bottom - field.box(row, 0).top == field.size[0] for row in range(units[0])])
    cols = torch.tensor([field.box(0, col).right - field.box(0, col).left == field.size[1] for col in range(units[1])])
    if not (rows.any() and cols.any()):
        raise ValueError(f"no unit sees the image alone: each sees {field.size[0]} × {field.size[1]} pixels.")
    return rows[:, None] & cols


def _channels(channels: Sequence[int] | None, count: int) -> Tensor:
    chosen = torch.arange(count) if channels is None else torch.as_tensor(channels)
    if chosen.ndim != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool or not len(chosen):
        raise ValueError(f"channels must be a list of ints, got {channels!r}.")
    if chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"channels must be in 0…{count - 1}, got {channels!r}.")
    return chosen
