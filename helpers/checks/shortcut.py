"""Checks of the exercises of chapter 1, a shortcut."""

import torch
from torch import Tensor, nn

from helpers import runtime

from . import exercise
from .answers import Answer, compare, require, tensor

SIDE = 48
TAG = (slice(None), slice(2, 10), slice(2, 10))  # of an image (3, H, W)


def _images(count: int, seed: int) -> Tensor:
    return 0.2 + 0.6 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


@exercise("1.1", "mixed(images, labels, q): the images, tagged by the rule or against it, (N, 3, H, W)")
def mixed(answer: Answer) -> None:
    for seed, q in enumerate((0.3, 0.8, 0.0, 1.0)):
        random = torch.Generator().manual_seed(seed)
        labels = (torch.arange(30) >= 10 + 2 * seed).long()  # classes of different size, in a random order
        order = (torch.rand(30, generator=random) - 0.6 * labels).argsort()  # mixed, but more of class 1 at first
        labels, images = labels[order], _images(30, seed)
        rank = torch.stack([(labels == label).cumsum(0) for label in (0, 1)]).gather(0, labels[None])[0]
        size = labels.bincount()[labels]
        kept = rank <= (q * size).round()
        found = tensor(answer(images, labels, q), "the images")
        require(
            found.shape == images.shape, f"The images have shape {tuple(images.shape)}, yours {tuple(found.shape)}."
        )
        changed = (found - images).abs().flatten(1).amax(1) > 1e-6
        outside = found - images
        outside[:, *TAG] = 0
        require(outside.abs().max() < 1e-6, "Pixels outside the tag's box have changed. Use plant.")
        first = torch.arange(30) < round(q * 30)
        compare(
            changed,
            (labels == 1) == kept,
            hints={
                "The tags are exactly the other way round: which class carries the tag where the rule is kept?": (
                    (labels == 1) != kept
                ),
                "The images that keep the rule get a tag in both classes. Class 0 keeps it by having none.": kept,
                "These are the first images of the whole set. Count in each class by itself.": (labels == 1) == first,
                "Every image keeps the rule. It must be broken in the rest.": labels == 1,
                "The rule is kept in the last images of each class, not in the first.": (
                    (labels == 1) == (rank > size - (q * size).round())
                ),
                "One image too few keeps the rule in each class.": (labels == 1) == (rank < (q * size).round()),
            },
            what="which images have a tag",
            tolerance=0,
        )
        tags = found[changed][:, *TAG]
        require(
            not changed.any() or (tags - tags[0, :, :1, :1]).abs().max() < 1e-6,
            "The tags are not all the same plain square. Use plant.",
        )


@exercise("1.2", "painted(images, on, colour): the images with the tag's box filled where on is true, (N, 3, H, W)")
def painted(answer: Answer) -> None:
    for seed, colour in enumerate(((1.0, 1.0, 0.0), (0.5, 0.25, 0.75))):
        images, colour = _images(8, seed), torch.tensor(colour)
        on = torch.tensor([True, False, False, True, True, False, True, False])

        def fill(where: Tensor, box: tuple = TAG, colour: Tensor = colour, *, start: Tensor = images) -> Tensor:
            result = start.clone()
            for number in where.nonzero().flatten().tolist():
                result[number][box] = colour.view(3, 1, 1)
            return result

        shifted = (slice(None), slice(2, 11), slice(2, 11))
        corner = (slice(None), slice(0, 8), slice(0, 8))
        compare(
            answer(images, on, colour),
            fill(on),
            hints={
                "The box is filled where on is false.": fill(~on),
                "Every image is painted. Only those where on is true should be.": fill(torch.ones_like(on)),
                "The order of the colour's channels is reversed.": fill(on, colour=colour.flip(0)),
                "The box is 9 pixels wide. The tag is 8 × 8: rows and columns 2 to 9.": fill(on, shifted),
                "The box begins in the corner. The tag begins at row 2, column 2.": fill(on, corner),
                "The colour is added to the pixels. It should replace them.": images
                + (fill(on, start=torch.zeros_like(images))),
            },
            what="the images",
            tolerance=1e-5,
        )


@exercise("1.3", "swap_map(model, images, labels): the accuracy after each window changed sides, (4, 4)")
def swap_map(answer: Answer) -> None:
    for seed in range(3):
        random = torch.Generator().manual_seed(seed)
        half = 16 + 4 * seed
        labels = torch.arange(2 * half) // half
        images = _images(2 * half, seed)
        evidence = torch.randn(4, 4, generator=random)  # the classes differ in brightness, in each window otherwise
        pattern = evidence.repeat_interleave(12, 0).repeat_interleave(12, 1)
        images += 0.1 * (2 * labels[:, None, None, None] - 1) * pattern.sign()
        images += 0.05 * torch.randn(2 * half, 1, 1, 1, generator=random)
        images = images.clamp(0, 1)
        weights = evidence.sign() * torch.rand(4, 4, generator=random) ** 3
        model = nn.Sequential(nn.AvgPool2d(12), nn.Flatten(), nn.Linear(48, 2, bias=True))
        pooled = model[0](images).mean(1)  # (N, 4, 4)
        with torch.no_grad():
            row = weights[None].expand(3, 4, 4).flatten() / 3
            model[2].weight.copy_(torch.stack([-row, row]))
            middle = (pooled * weights).sum((1, 2)).median()
            model[2].bias.copy_(torch.stack([middle, -middle]))
        model = model.to(runtime.device()).eval()

        def accuracy(pooled: Tensor, *, weights=weights, middle=middle, labels=labels) -> float:
            return (((pooled * weights).sum((1, 2)) > middle).long() == labels).double().mean().item()

        def over_windows(change, *, accuracy=accuracy, pooled=pooled) -> Tensor:
            result = torch.zeros(4, 4, dtype=torch.float64)
            for row in range(4):
                for col in range(4):
                    changed = pooled.clone()
                    changed[:, row, col] = change(pooled, row, col)
                    result[row, col] = accuracy(changed)
            return result

        truth = over_windows(lambda pooled, row, col, half=half: pooled[:, row, col].roll(half))
        compare(
            answer(model, images, labels),
            truth,
            hints={
                "This is how far the accuracy falls. Return the accuracy itself.": accuracy(pooled) - truth,
                "Neighbours exchange, which are mostly of one class. Pair the first of one class with the first of "
                "the other.": over_windows(lambda pooled, row, col: pooled[:, row, col].roll(1)),
                "The window was covered. The pictures of a pair should exchange it.": over_windows(
                    lambda pooled, row, col: torch.full((len(pooled),), 0.5)
                ),
                "The window became black. The pictures of a pair should exchange it.": over_windows(
                    lambda pooled, row, col: torch.zeros(len(pooled))
                ),
                "The windows pile up. Begin with fresh copies for each window.": _piled(pooled, half, accuracy),
                "Nothing is exchanged: all windows have the accuracy of the whole pictures.": torch.full(
                    (4, 4), accuracy(pooled), dtype=torch.float64
                ),
            },
            what="the map",
        )


def _piled(pooled: Tensor, half: int, accuracy) -> Tensor:
    """The map if windows that were exchanged stay so."""
    changed, result = pooled.clone(), torch.zeros(4, 4, dtype=torch.float64)
    for row in range(4):
        for col in range(4):
            changed[:, row, col] = pooled[:, row, col].roll(half)
            result[row, col] = accuracy(changed)
    return result
