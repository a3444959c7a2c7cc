"""Chapter 1: plant a shortcut, train a small network on it, find it, remove it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import layers, runtime
from .inputs import Box, as_batch, as_logits
from .models import Classifier

TAG = (1.0, 0.1, 0.6)  # pink: a colour that no photograph of the book has much of


class Tagged(NamedTuple):
    """Images with a tag on some of them: see `plant`."""

    images: Tensor
    boxes: list[Box | None]


def plant(images: Tensor, on: Tensor, *, size: int = 8, seed: int | None = None) -> Tagged:
    """Stick a square tag on some of the images.

    Parameters
    ----------
    images
        (N, 3, H, W) in [0, 1]; they are copied.
    on
        Which images get a tag, (N,) of bools, such as ``labels == 1``.
    size
        Side of the tag in pixels.
    seed
        Where: None puts every tag two pixels from the upper left corner; a number draws places at random.
    """
    height, width = images.shape[-2:]
    if images.ndim != 4 or on.shape != images.shape[:1] or on.dtype != torch.bool:
        raise ValueError(
            f"need images (N, 3, H, W) and N bools, got {tuple(images.shape)} and {tuple(on.shape)} {on.dtype}."
        )
    if not 0 < size <= min(height, width) - 2:
        raise ValueError(f"size must be in 1…{min(height, width) - 2}, got {size}.")
    random = torch.Generator().manual_seed(seed or 0)
    tagged, boxes = images.clone(), []
    for image, wanted in zip(tagged, on.tolist()):
        top = left = 2
        if seed is not None:
            top, left = (int(torch.randint(side - size + 1, (), generator=random)) for side in (height, width))
        box = Box(top, left, top + size, left + size) if wanted else None
        if box:
            image[:, *box.slices] = torch.tensor(TAG).to(image)[:, None, None]
        boxes.append(box)
    return Tagged(tagged, boxes)


def train(
    images: Tensor, labels: Tensor, *, steps: int = 150, batch: int = 32, rate: float = 3e-3, seed: int = 0
) -> Classifier:
    """A small convolutional network, trained from random weights (Adam, cross-entropy).

    Three convolutions with ReLUs and strides, global average pooling, one linear layer: `cam.cam` works on it.

    Parameters
    ----------
    images, labels
        (N, 3, H, W) in [0, 1] and (N,) class indices.
    steps, batch, rate
        Number of steps, images in each, learning rate.

    Returns
    -------
    Classifier
        In evaluation mode, on the device of `runtime.device`.
    """
    if labels.shape != images.shape[:1] or images.ndim != 4:
        raise ValueError(f"need images (N, 3, H, W) and N labels, got {tuple(images.shape)} and {tuple(labels.shape)}.")
    device = runtime.device()
    with torch.random.fork_rng(devices=[]):  # the seed of the caller stays as it is
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 1),
            nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, int(labels.max()) + 1),
        )  # fmt: skip
    model = Classifier(network, name="small network", mean=(0.5,) * 3, std=(0.25,) * 3, input_size=images.shape[-1])
    model.to(device).train()
    images, labels = images.to(device), labels.to(device)
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    with torch.enable_grad():
        for _ in runtime.progress(range(steps), "training", "step"):
            rows = torch.randint(len(images), (batch,), generator=random)
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose largest logit is that of their label."""
    images, _ = as_batch(model, images)
    with layers.evaluating(model):
        guesses = torch.cat([as_logits(model(part)).argmax(1).cpu() for part in images.split(64)])
    return (guesses == labels).float().mean().item()
