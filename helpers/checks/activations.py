"""Checks of the exercises of chapter 3, activation maps."""

import torch
from torch import Tensor

from helpers import layers, models

from . import draw, exercise
from .answers import Answer, Wrong, compare, tensor


def _field(kernel: int, stride: int, padding: int, layer: str = "relu5") -> Tensor:
    """Size, distance and start of the layer's receptive field in a LectureNet with this first convolution."""
    network = models.LectureNet(2)
    network.conv1 = torch.nn.Conv2d(3, 64, kernel, stride, padding)
    field = layers.receptive_field(network, layer, size=224)
    return torch.tensor([field.size[0], field.stride[0], field.start[0]], dtype=torch.float64)


@exercise("3.1", "changed(kernel, stride): size, distance and start of the field of relu5, three ints")
def changed(answer: Answer) -> None:
    for kernel, stride in ((7, 2), (11, 4), (5, 1), (9, 3)):
        truth = _field(kernel, stride, kernel // 2)
        exchanged = _field(stride, kernel, stride // 2) if stride > 1 else truth + 1
        compare(
            answer(kernel, stride),
            truth,
            hints={
                "The start forgets the first convolution's padding, kernel // 2.": _field(kernel, stride, 0),
                "The padding is 3 for every kernel here. It should be kernel // 2.": _field(kernel, stride, 3),
                "Kernel and stride are exchanged.": exchanged,
                "This is pool2. The exercise asks for relu5.": _field(kernel, stride, kernel // 2, "pool2"),
                "This is conv1. The exercise asks for relu5.": _field(kernel, stride, kernel // 2, "conv1"),
                "The size misses one: a field begins with 1 pixel, not with 0.": truth - torch.tensor([1.0, 0, 0]),
                "The start has the wrong sign: padding moves the field outside the picture.": truth
                * torch.tensor([1.0, 1, -1]),
            },
            what="the field",
            tolerance=1e-9,
        )


@exercise("3.2", "top_places(model, layer, batches, k): activations and numbers of the images, (k, C) each")
def top_places(answer: Answer) -> None:
    for seed, layer, k in ((0, "relu1", 5), (1, "conv2", 4)):
        model = draw.network(seed)
        images = torch.stack([draw.image(10 * seed + number) for number in range(7)])
        with layers.evaluating(model):
            maps = layers.run_to(model, layer, images.to(next(model.parameters()).device)).cpu()  # (N, C, h, w)
        count, channels = maps.shape[:2]
        every = maps.permute(1, 0, 2, 3).reshape(channels, count, -1)  # (C, N, places)
        values, order = every.flatten(1).sort(dim=1, descending=True, stable=True)
        values, numbers = values[:, :k].T, (order[:, :k] // every.shape[2]).T
        found = answer(model, layer, images.split(3), k)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong("It must return two things: the activations and the numbers of the images.")
        ours, index = tensor(found[0], "the activations"), tensor(found[1], "the numbers")
        if ours.shape == (channels, k):
            raise Wrong("The results have shape (C, k). Turn them: (k, C), the strongest first.")
        one = every.amax(2).sort(dim=1, descending=True, stable=True)
        weakest = every.flatten(1).sort(dim=1, stable=True).values[:, :k].T
        compare(
            ours,
            values,
            hints={
                "Every image has only one place here. All places of all images should compete.": one.values[:, :k].T,
                "These are the weakest places.": weakest,
                "Only the first batch competes.": _best(maps[:3], k),
                "Only the last batch competes.": _best(maps[6:], k),
                "They run from the weakest to the strongest. The strongest comes first.": values.flip(0),
                "The absolute value is taken. A strongly negative place does not fire.": _best(maps.abs(), k),
            },
            what="the activations",
        )
        # of equal activations either image may come first: ask for the activation at the image that is named
        if index.shape != numbers.shape:
            compare(index, numbers, what="the numbers")
        if not ((index >= 0) & (index < count) & (index == index.round())).all():
            raise Wrong(f"The numbers of the images must be ints from 0 to {count - 1}: divide by the places in a map.")
        has = torch.isclose(every[torch.arange(channels), index.long()].double(), values[..., None].double(), atol=1e-4)
        if not has.any(-1).all():
            within = torch.tensor([0, 1, 2, 0, 1, 2, 0])[numbers]
            compare(
                index,
                numbers,
                hints={
                    "The numbers begin again with every batch. Count on.": within,
                    "The numbers run from 1. The first image is 0.": numbers + 1,
                    "These are the columns within the map, not the images.": order[:, :k].T % maps.shape[3],
                    "These are the places within the map, not the images.": order[:, :k].T % every.shape[2],
                },
                what="the numbers",
            )


def _best(maps: Tensor, k: int) -> Tensor:
    return maps.transpose(0, 1).flatten(1).sort(dim=1, descending=True).values[:, :k].T


@exercise("3.3", "agreement(first, second): the share of channels that agree, and what chance would give, two floats")
def agreement(answer: Answer) -> None:
    for seed, size in ((0, 60), (1, 101)):
        random = torch.Generator().manual_seed(seed)
        first = (43 * torch.rand(size, generator=random) ** 2).long()
        second = torch.where(
            torch.rand(size, generator=random) < 0.4, first, torch.randint(0, 30, (size,), generator=random)
        )
        found = answer(first, second)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise Wrong("It must return two numbers: the share that agrees, and the share by chance.")
        same = (first == second).double()
        compare(
            found[0],
            same.mean(),
            hints={
                "This is how many agree. Divide by the number of channels.": same.sum(),
                "This is the share that does not agree.": 1 - same.mean(),
            },
            what="the share that agrees",
        )
        pairs = (first[:, None] == second).double()  # if any channel's first could meet any channel's second
        alike = (first[:, None] == first).double().mean()
        compare(
            found[1],
            pairs.mean(),
            hints={
                "This chance treats all classes alike. Some are the favourite of many channels.": 1 / 43,
                "This takes both shares from the first set.": alike,
                "This takes both shares from the second set.": (second[:, None] == second).double().mean(),
                "These are counts. Divide each by the number of channels.": pairs.sum(),
                "Divide both counts by the number of channels, not one of them.": pairs.mean() * size,
                "Add the products over the classes. This is their mean.": pairs.mean() / 43,
            },
            what="the share by chance",
        )
