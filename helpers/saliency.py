"""Chapter 6: how the score changes when a pixel changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import layers
from .inputs import Target, as_batch, as_logits, as_targets, check_count
from .runtime import progress


def gradient(model: nn.Module, image: Tensor, target: Target = None, *, signed: bool = False) -> Tensor:
    """The gradient of the target's logit with respect to the pixels (Simonyan et al. 2014, section 3).

    Parameters
    ----------
    model
        Any network from (N, 3, H, W) to (N, classes).
    image
        (3, H, W) or (N, 3, H, W) in [0, 1].
    target
        Class index, one for each image, or None for the predicted class.
    signed
        Return the gradient itself, (3, H, W), instead of its largest absolute value over the channels.

    Returns
    -------
    Tensor
        (H, W), or (N, H, W) for a batch: logits per unit of brightness.
    """
    batch, single = as_batch(model, image)
    return _present(layers.pixel_gradient(model, batch, target), single, signed)


def smoothgrad(
    model: nn.Module,
    image: Tensor,
    target: Target = None,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
    signed: bool = False,
    batch_size: int = 8,
) -> Tensor:
    """The mean gradient over noisy copies of the image (SmoothGrad, Smilkov et al. 2017).

    Parameters
    ----------
    samples
        Number of copies.
    noise
        Standard deviation of the Gaussian noise as a share of the image's range, ``max - min``.
    signed
        Return the mean gradient (3, H, W) instead of its largest absolute value over the channels.

    Other parameters and the result are those of `gradient`. The target is that of the image without noise, and the
    noise is drawn on the CPU, so that every device sees the same.
    """
    batch, single = as_batch(model, image)
    check_count("samples", samples)
    if not noise >= 0:
        raise ValueError(f"noise must not be negative, got {noise!r}.")
    check_count("batch_size", batch_size)
    with layers.evaluating(model):
        targets = as_targets(target, as_logits(model(batch)))
    generator = torch.Generator().manual_seed(seed)
    means = []
    for picture, index in zip(batch, targets):
        scale = noise * (picture.max() - picture.min())
        total = torch.zeros_like(picture)
        starts = range(0, samples, batch_size)
        for start in progress(starts, "smoothgrad", "batch"):
            count = min(batch_size, samples - start)
            jitter = torch.randn(count, *picture.shape, generator=generator).to(picture.device, picture.dtype)
            total += layers.pixel_gradient(model, picture + scale * jitter, index.expand(count)).sum(0)
        means.append(total / samples)
    return _present(torch.stack(means), single, signed)


def _present(pixels: Tensor, single: bool, signed: bool) -> Tensor:
    maps = pixels if signed else pixels.abs().amax(1)
    return maps[0] if single else maps
