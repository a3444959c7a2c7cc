"""Chapter 1: a shortcut."""

import numpy as np
import torch
from torch import nn

from helpers import shortcut
from helpers.checks.shortcut import _images


def plant(images, on):
    return shortcut.plant(images, on).images


def _kept(labels, q, *, last=False):
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for label in (0, 1):
        members = (labels == label).nonzero().flatten()
        count = round(q * len(members))
        kept[members[len(members) - count :] if last else members[:count]] = True
    return kept


def mixed_reversed(images, labels, q):
    return plant(images, (labels == 1) != _kept(labels, q))


def mixed_tags_both(images, labels, q):
    return plant(images, _kept(labels, q))


def mixed_over_all(images, labels, q):
    return plant(images, (labels == 1) == (torch.arange(len(labels)) < round(q * len(labels))))


def mixed_never_broken(images, labels, q):
    return plant(images, labels == 1)


def mixed_last(images, labels, q):
    return plant(images, (labels == 1) == _kept(labels, q, last=True))


def mixed_in_place(images, labels, q):
    images[(labels == 1) == _kept(labels, q), :, 2:10, 2:10] = torch.tensor(shortcut.TAG)[:, None, None]
    return images


def mixed_by_counting(images, labels, q):
    """Right: one image after the other."""
    seen, result = {0: 0, 1: 0}, images.numpy().copy()
    for number, label in enumerate(labels.tolist()):
        keeps = seen[label] < round(q * (labels == label).sum().item())
        seen[label] += 1
        if keeps == (label == 1):
            result[number, :, 2:10, 2:10] = np.array(shortcut.TAG)[:, None, None]
    return result


def _painted(images, on, colour, box=slice(2, 10)):
    result = images.clone()
    result[on, :, box, box] = colour[:, None, None]
    return result


def painted_others(images, on, colour):
    return _painted(images, ~on, colour)


def painted_all(images, on, colour):
    return _painted(images, torch.ones_like(on), colour)


def painted_bgr(images, on, colour):
    return _painted(images, on, colour.flip(0))


def painted_nine(images, on, colour):
    return _painted(images, on, colour, slice(2, 11))


def painted_corner(images, on, colour):
    return _painted(images, on, colour, slice(0, 8))


def painted_in_place(images, on, colour):
    images[on, :, 2:10, 2:10] = colour[:, None, None]
    return images


def painted_by_where(images, on, colour):
    """Right: a mask instead of slices."""
    rows = torch.arange(images.shape[-1])
    inside = (rows >= 2) & (rows < 10)
    mask = on[:, None, None, None] & inside[:, None] & inside
    return torch.where(mask, colour[:, None, None], images)


def _swap(model, images, labels, *, change, base=None, piled=False):
    result, changed = torch.empty(4, 4), images.clone()
    for row in range(4):
        for col in range(4):
            place = slice(12 * row, 12 * row + 12), slice(12 * col, 12 * col + 12)
            changed = changed if piled else images.clone()
            changed[:, :, *place] = change(images[:, :, *place])
            result[row, col] = shortcut.accuracy(model, changed, labels)
    return result


def swap_falls(model, images, labels):
    whole = shortcut.accuracy(model, images, labels)
    return whole - _swap(model, images, labels, change=lambda part: part.roll(len(part) // 2, 0))


def swap_neighbours(model, images, labels):
    return _swap(model, images, labels, change=lambda part: part.roll(1, 0))


def swap_covers(model, images, labels):
    return _swap(model, images, labels, change=lambda part: torch.full_like(part, 0.5))


def swap_piled(model, images, labels):
    return _swap(model, images, labels, change=lambda part: part.roll(len(part) // 2, 0), piled=True)


def swap_transposed(model, images, labels):
    return _swap(model, images, labels, change=lambda part: part.roll(len(part) // 2, 0)).T


def swap_flat(model, images, labels):
    return _swap(model, images, labels, change=lambda part: part.roll(len(part) // 2, 0)).flatten()


def swap_by_halves(model, images, labels):
    """Right: the two halves by hand, as nested lists."""
    half, result = len(images) // 2, []
    for top in range(0, 48, 12):
        result.append([])
        for left in range(0, 48, 12):
            first, second = images[:half].clone(), images[half:].clone()
            first[:, :, top : top + 12, left : left + 12] = images[half:, :, top : top + 12, left : left + 12]
            second[:, :, top : top + 12, left : left + 12] = images[:half, :, top : top + 12, left : left + 12]
            result[-1].append(shortcut.accuracy(model, torch.cat([first, second]), labels))
    return result


WRONG = {
    "1.1": [
        (mixed_reversed, "other way round"),
        (mixed_tags_both, "in both classes"),
        (mixed_over_all, "in each class by itself"),
        (mixed_never_broken, "must be broken"),
        (mixed_last, "last images"),
        (mixed_in_place, "clone"),
    ],
    "1.2": [
        (painted_others, "where on is false"),
        (painted_all, "Every image"),
        (painted_bgr, "reversed"),
        (painted_nine, "9 pixels"),
        (painted_corner, "corner"),
        (painted_in_place, "clone"),
    ],
    "1.3": [
        (swap_falls, "accuracy itself"),
        (swap_neighbours, "Neighbours exchange"),
        (swap_covers, "covered"),
        (swap_piled, "pile up"),
        (swap_transposed, "rows and columns"),
        (swap_flat, "shape (16,)"),
    ],
}
RIGHT = {"1.1": [mixed_by_counting], "1.2": [painted_by_where], "1.3": [swap_by_halves]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    random = torch.Generator().manual_seed(seed + 40)
    images = _images(20, seed + 40)
    if label == "1.1":
        return images, torch.randint(0, 2, (20,), generator=random), (0.25, 0.6, 0.9)[seed]
    if label == "1.2":
        return images, torch.rand(20, generator=random) < 0.5, torch.rand(3, generator=random)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.BatchNorm1d(48, affine=False), nn.Linear(48, 2))
    model(images)
    return model.eval(), images, torch.arange(20) // 10
