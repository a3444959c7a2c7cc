"""Chapter 2: the weights of the first layer, read as pictures."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

_STARTS = 6  # of the coarse grid's best Gabors, how many are refined


class Spectrum(NamedTuple):
    """One number for each filter: see `orientation`."""

    angle: Tensor
    frequency: Tensor
    colour: Tensor


class GaborFit(NamedTuple):
    """The Gabor nearest to each filter: see `gabor_fit`."""

    explained: Tensor
    fitted: Tensor
    angle: Tensor
    frequency: Tensor


def first_layer(model: nn.Module) -> Tensor:
    """A copy of the weights of the first convolution that takes three channels, shape (out, 3, kh, kw).

    Raises
    ------
    ValueError
        The model has no such convolution.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}: load one with models.load().")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[1] == 3:
            return module.weight.detach().clone()
    raise ValueError("the model has no convolution over three channels, whose weights could be shown in colour.")


def orientation(weights: Tensor, *, size: int = 64) -> Spectrum:
    """Direction and spatial frequency of each filter, from the peak of its power spectrum.

    Parameters
    ----------
    weights
        (out, in, kh, kw).
    size
        The filter is padded with zeros to this side, which samples its spectrum more finely.

    Returns
    -------
    Spectrum
        Three tensors (out,). ``angle``: direction in which the filter varies, in degrees from the horizontal, in
        [0, 180); a vertical edge has 0. ``frequency``: cycles per pixel, 0 for a blob, at most about 0.7.
        ``colour``: share of the energy that is left when the channels' mean is subtracted; 0 for a grey filter.
    """
    weights = _check(weights)
    if size < max(weights.shape[2:]):
        raise ValueError(f"size must be at least the filters' side, {max(weights.shape[2:])}, got {size}.")
    power = torch.fft.fft2(weights, s=(size, size)).abs().square().sum(1)  # (out, size, size), summed over channels
    row, col = (power.flatten(1).argmax(1) // size, power.flatten(1).argmax(1) % size)
    steps = torch.fft.fftfreq(size, dtype=weights.dtype, device=weights.device)
    down, right = steps[row], steps[col]
    # The image's rows count downwards, angles count upwards.
    angle = _degrees(torch.atan2(-down, right))
    colour = (weights - weights.mean(1, keepdim=True)).square().sum((1, 2, 3)) / weights.square().sum((1, 2, 3))
    return Spectrum(angle, (down.square() + right.square()).sqrt(), colour)


@torch.inference_mode(False)
def gabor_fit(weights: Tensor, *, steps: int = 150) -> GaborFit:
    r"""How much of each filter a Gabor explains (a Gaussian window times a wave; a blob where the wave is flat).

    :math:`g(u) = e^{-\frac12 |S R (u - m)|^2} \cos(2\pi f \cdot u + \varphi)`, with a centre, two widths, a direction
    and a frequency for the filter, and an amplitude and a phase for each channel (after Krizhevsky et al. 2012, figure
    3, and Jones & Palmer 1987). For given shape the amplitudes are a linear least-squares problem; the shape is found
    by a coarse grid, then by gradient descent from the best few.

    Parameters
    ----------
    weights
        (out, in, kh, kw).
    steps
        Steps of gradient descent (Adam) on the shape.

    Returns
    -------
    GaborFit
        ``explained`` (out,): share of the filter's energy, 0 to 1. ``fitted`` (out, in, kh, kw). ``angle`` (out,) in
        degrees as in `orientation`, ``frequency`` (out,) in cycles per pixel.
    """
    weights = _check(weights).clone()  # an inference tensor takes part in no gradient
    count, _, height, width = weights.shape
    side = max(height, width)
    grid = torch.meshgrid(_axis(height, weights), _axis(width, weights), indexing="ij")
    place = torch.stack([grid[1], -grid[0]]).flatten(1)  # (2, pixels): right and up from the centre
    energy = weights.square().sum((1, 2, 3))
    signal = weights.flatten(2)  # (out, in, pixels)

    # A shape: centre (2), log of the two widths, direction, log-ish frequency.
    mass = weights.square().sum(1).flatten(1)
    centre = (mass @ place.T) / mass.sum(1, keepdim=True)
    coarse = torch.cartesian_prod(
        torch.tensor([0.12, 0.2, 0.35]).log().to(weights) + math.log(side),
        torch.arange(0, math.pi, math.pi / 12).to(weights),
        torch.tensor([0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4]).to(weights),
    )
    shapes = torch.stack([coarse[:, 0], coarse[:, 0], coarse[:, 1], coarse[:, 2]], 1)
    shapes = torch.cat([centre[:, None].expand(-1, len(shapes), -1), shapes.expand(count, -1, -1)], 2)
    best = _project(shapes, place, signal)[0].topk(_STARTS, dim=1).indices
    shapes = shapes.gather(1, best[..., None].expand(-1, -1, 6)).clone().requires_grad_()
    kept, record = shapes.detach().clone(), torch.zeros(shapes.shape[:2]).to(weights)  # the best on the way
    with torch.enable_grad():
        optimiser = torch.optim.Adam([shapes], lr=0.05)
        for _ in range(steps):
            share = _project(shapes, place, signal)[0] / energy[:, None]
            better = share.detach() > record
            record = torch.where(better, share.detach(), record)
            kept = torch.where(better[..., None], shapes.detach(), kept)
            loss = -share.sum()
            shapes.grad = torch.autograd.grad(loss, shapes)[0]
            optimiser.step()
            with torch.no_grad():  # the centre stays on the filter, the widths between half a pixel and two filters
                shapes[..., :2].clamp_(-side / 2, side / 2)
                shapes[..., 2:4].clamp_(math.log(0.5), math.log(2 * side))
    shapes = kept
    captured, fitted = _project(shapes, place, signal)
    winner = captured.argmax(1)
    rows = torch.arange(count, device=weights.device)
    shape = shapes[rows, winner]
    angle = _degrees(shape[:, 4])
    explained = (captured[rows, winner] / energy).clamp(0, 1)
    return GaborFit(explained, fitted[rows, winner].view_as(weights), angle, shape[:, 5].abs())


def _project(shapes: Tensor, place: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    """Energy of the best fit (out, n), and the fit (out, n, in, pixels), for shapes (out, n, 6)."""
    x, y = (place[axis] - shapes[..., axis, None] for axis in (0, 1))  # (out, n, pixels)
    angle, frequency = shapes[..., 4, None], shapes[..., 5, None]
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    widths = shapes[..., 2:4].exp()
    envelope = torch.exp(-0.5 * ((along / widths[..., :1]).square() + (across / widths[..., 1:]).square()))
    wave = 2 * math.pi * frequency * along
    even, odd = envelope * wave.cos(), envelope * wave.sin()
    # Gram-Schmidt: two orthonormal pictures span all amplitudes and phases. At frequency 0 the odd one is zero.
    even = even / even.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    odd = odd - (odd * even).sum(-1, keepdim=True) * even
    odd = odd / odd.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    basis = torch.stack([even, odd], 2)  # (out, n, 2, pixels)
    amounts = torch.einsum("onbp,ocp->oncb", basis, signal)
    return amounts.square().sum((2, 3)), torch.einsum("oncb,onbp->oncp", amounts, basis)


def _degrees(radians: Tensor) -> Tensor:
    """In [0, 180): a direction and its opposite are one."""
    angle = torch.rad2deg(radians) % 180
    return angle.where(angle < 180, 0)  # which a tiny negative angle is rounded to


def _axis(length: int, like: Tensor) -> Tensor:
    return torch.arange(length).to(like) - (length - 1) / 2


def _check(weights: Tensor) -> Tensor:
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        raise TypeError(f"weights must be a floating-point tensor, got {type(weights).__name__}.")
    if weights.ndim != 4 or weights.numel() == 0:
        raise ValueError(f"weights must have shape (out, in, kh, kw), got {tuple(weights.shape)}.")
    weights = weights.detach()
    if weights.dtype in (torch.float16, torch.bfloat16):
        weights = weights.float()
    if not weights.isfinite().all():
        raise ValueError("weights must be finite, got NaN or infinity.")
    if (weights.flatten(1) == 0).all(1).any():
        raise ValueError("a filter is zero everywhere: it has no orientation and no fit.")
    return weights
