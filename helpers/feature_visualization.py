r"""Chapters 3, 4 and 6: the image that a unit, a channel or a class wants, made by gradient ascent.

An *objective* says what is to be large, a *parametrisation* what the optimiser may change, a *transformation* what the
network gets to see of the image. Each is a plain function; `maximize` brings them together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import layers
from .inputs import as_batch, as_logits
from .runtime import progress

# ------------------------------------------------------------------------------------------------------- objectives

Found = dict[str | None, Tensor]  # from a layer to its activation; None stands for the logits


@dataclass(frozen=True)
class Objective:
    """What is to be large: from what the network computes for N images to a number for each of them, (N,).

    Objectives can be added, and multiplied by numbers: ``channel("relu3", 5) - 0.1 * logit(7)``.

    Attributes
    ----------
    layers
        The layers that it looks at, None for the logits.
    value
        From the activations of these layers to (N,).
    count
        For how many images it has an answer: 1, or as many as it names units.
    """

    layers: frozenset[str | None]
    value: Callable[[Found], Tensor]
    count: int = 1

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """Its values (N,) for images (N, 3, H, W) in [0, 1]. Nothing above a single layer is computed."""
        images, _ = as_batch(model, images)
        with layers.evaluating(model, gradients=torch.is_grad_enabled()):
            return self.value(_look(model, self.layers, images))

    def __add__(self, other: Objective) -> Objective:
        if self.count != other.count and 1 not in (self.count, other.count):
            raise ValueError(f"an objective for {self.count} images and one for {other.count} can't be added.")
        value = lambda found: self.value(found) + other.value(found)  # noqa: E731
        return Objective(self.layers | other.layers, value, max(self.count, other.count))

    def __mul__(self, factor: float) -> Objective:
        return Objective(self.layers, lambda found: factor * self.value(found), self.count)

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return -1 * self

    def __sub__(self, other: Objective) -> Objective:
        return self + -other


def _look(model: nn.Module, names: frozenset[str | None], images: Tensor) -> Found:
    if len(names) == 1 and None not in names:
        (name,) = names
        return {name: layers.run_to(model, name, images)}
    with layers.record(model, list(names - {None})) as found:
        logits = as_logits(model(images))
    return found | {None: logits}


def logit(target: int | Sequence[int]) -> Objective:
    """The logit of a class, or of one class for each image (Simonyan et al. 2014, section 2)."""
    targets = _indices(target, "target")
    return Objective(frozenset([None]), lambda found: _pick(found[None], targets, "target"), targets.numel())


def channel(layer: str, channel: int | Sequence[int]) -> Objective:
    """The mean of a channel's map: a texture that fires the channel everywhere. One channel, or one for each image."""
    channels = _indices(channel, "channel")
    value = lambda found: _pick(_maps(layer, found).mean((2, 3)), channels, "channel")  # noqa: E731
    return Objective(frozenset([layer]), value, channels.numel())


def unit(layer: str, channel: int | Sequence[int], place: tuple[int, int] | None = None) -> Objective:
    """One unit of a channel, at ``place`` (row, col); by default in the middle of the map (Erhan et al. 2009)."""
    channels = _indices(channel, "channel")
    value = lambda found: _pick(_at(_maps(layer, found), place), channels, "channel")  # noqa: E731
    return Objective(frozenset([layer]), value, channels.numel())


def direction(layer: str, vector: Tensor, place: tuple[int, int] | None = None) -> Objective:
    """The activations at ``place`` (default: the middle) along a ``vector`` (C,), or (N, C), of any length but 0."""
    if not isinstance(vector, Tensor) or vector.ndim not in (1, 2) or not (vector.norm(dim=-1) > 0).all():
        raise ValueError("a direction is a tensor (C,) or (N, C) that is not 0.")

    def value(found: Found) -> Tensor:
        activation = _at(_maps(layer, found), place)  # (N, C)
        if vector.shape[-1] != activation.shape[1]:
            raise ValueError(f"layer {layer!r} has {activation.shape[1]} channels, the direction {vector.shape[-1]}.")
        return (activation * F.normalize(vector.to(activation), dim=-1)).sum(1)

    return Objective(frozenset([layer]), value, 1 if vector.ndim == 1 else len(vector))


def _indices(indices: int | Sequence[int] | Tensor, what: str) -> Tensor:
    """One index, (), or one for each image, (N,). A TypeError if they are no ints."""
    try:
        chosen = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(0)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool or chosen.ndim > 1:
        raise TypeError(f"{what} must be an int, or a list of ints with one for each image; got {indices!r}.")
    return chosen.long()


def _maps(layer: str, found: Found) -> Tensor:
    if found[layer].ndim != 4:
        raise ValueError(f"layer {layer!r} returns {tuple(found[layer].shape)}, no maps (N, C, h, w).")
    return found[layer]


def _at(maps: Tensor, place: tuple[int, int] | None) -> Tensor:
    row, col = place or (maps.shape[2] // 2, maps.shape[3] // 2)
    if not (0 <= row < maps.shape[2] and 0 <= col < maps.shape[3]):
        raise ValueError(f"there is no unit at {place} in a map of {maps.shape[2]} × {maps.shape[3]}.")
    return maps[:, :, row, col]


def _pick(rows: Tensor, indices: Tensor, what: str) -> Tensor:
    """Of rows (N, C) the entry at the index that belongs to each, (N,)."""
    if indices.numel() not in (1, len(rows)):
        raise ValueError(f"{what} must be one int or {len(rows)} of them (one an image), got {indices.numel()}.")
    if indices.min() < 0 or indices.max() >= rows.shape[1]:
        raise ValueError(f"{what} must be in 0…{rows.shape[1] - 1}, got {indices.tolist()}.")
    chosen = indices.to(rows.device).expand(len(rows)).clone()  # the objective may come from inference mode
    return rows.gather(1, chosen[:, None])[:, 0]


# -------------------------------------------------------------------------------------------------- parametrisations

# Columns: brightness, blue to yellow, magenta to green, as long as each varies in photographs of groceries: the
# eigenvectors of their pixels' covariance times the square roots of the eigenvalues, over the longest.
COLOURS = ((0.64, 0.23, -0.09), (0.60, -0.01, 0.16), (0.49, -0.30, -0.08))
CONTRAST = 16  # the larger, the paler the image after a given number of steps


def pixels(values: Tensor) -> Tensor:
    """The image in (0, 1) whose pixels are ``values`` (N, 3, H, W), squashed by the logistic function."""
    return values.sigmoid()


def to_pixels(image: Tensor) -> Tensor:
    """The values from which `pixels` makes ``image``."""
    return image.clamp(0.004, 0.996).logit()  # one grey level off black and white: there the slope is not yet lost


def spectrum(size: tuple[int, int]) -> Tensor:
    """By what each coefficient of ``rfft2`` is divided, (H, W // 2 + 1): its frequency, in cycles a pixel, to the 1.5.

    The mean counts as one cycle over the longer side. (In photographs amplitudes fall with the frequency itself; the
    steeper fall, found by trial, gives images that are calmer to look at and reach as much.)
    """
    rows = torch.fft.fftfreq(size[0], dtype=torch.float64)[:, None]
    cols = torch.fft.rfftfreq(size[1], dtype=torch.float64)
    return (rows.square() + cols.square()).sqrt().clamp(min=1 / max(size)).pow(1.5)


def fourier(values: Tensor) -> Tensor:
    """The image in (0, 1) whose Fourier coefficients are ``values`` (N, 3, H, W // 2 + 1, 2) over their `spectrum`.

    So a step of one length changes coarse structure more than fine, as photographs vary. The three channels are
    brightness and two differences of colours, which in photographs hardly go together (Olah et al. 2017). W is even.
    """
    size = values.shape[2], 2 * (values.shape[3] - 1)
    waves = torch.view_as_complex(values) / spectrum(size).to(values)
    planes = torch.fft.irfft2(waves, s=size, norm="ortho")
    return torch.einsum("rk,nkhw->nrhw", torch.tensor(COLOURS).to(values), planes).div(CONTRAST).sigmoid()


def to_fourier(image: Tensor) -> Tensor:
    """The coefficients from which `fourier` makes ``image``, (N, 3, H, W) with even W."""
    planes = torch.einsum("kr,nrhw->nkhw", torch.tensor(COLOURS).to(image).inverse(), CONTRAST * to_pixels(image))
    waves = torch.fft.rfft2(planes, norm="ortho") * spectrum(tuple(image.shape[2:])).to(image)
    return torch.view_as_real(waves)


PARAMETRISATIONS = {"pixels": (to_pixels, pixels), "fourier": (to_fourier, fourier)}

# -------------------------------------------------------------------------------------------------- transformations


def affine(images: Tensor, draws: Tensor, degrees: float = 10, scale: float = 0.1, shift: float = 8) -> Tensor:
    """Each image turned, scaled and shifted a little, with grey where it ends (Olah et al. 2017).

    Parameters
    ----------
    images
        (N, 3, H, W).
    draws
        (N, 4) in [-1, 1]: how far each is turned, enlarged, moved down and moved right, as a share of the limits.
    degrees, scale, shift
        The limits: an angle, a share of the size, pixels.
    """
    angle, factor = draws[:, 0] * degrees * torch.pi / 180, 1 + scale * draws[:, 1]
    down, right = draws[:, 2] * 2 * shift / images.shape[2], draws[:, 3] * 2 * shift / images.shape[3]
    cos, sin = angle.cos() / factor, angle.sin() / factor
    rows = torch.stack([cos, -sin, right, sin, cos, down], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images - 0.5, grid, mode="bilinear", align_corners=False).add(0.5).clamp(0, 1)


def stretch(images: Tensor, share: float = 0.01) -> Tensor:
    """The images (N, 3, H, W), each with its contrast raised for the eye: ``share`` of its values at either end cut."""
    values = images.flatten(1)
    low, high = (values.quantile(q, dim=1)[:, None, None, None] for q in (share, 1 - share))
    return ((images - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)


# ---------------------------------------------------------------------------------------------------------- ascent

MARGIN = 24  # pixels on each side of an image that come into view when it is transformed


def crop(images: Tensor, margin: int) -> Tensor:
    """The images (N, 3, H, W) without ``margin`` pixels on each side."""
    return images[..., margin : images.shape[-2] - margin, margin : images.shape[-1] - margin]


def maximize(
    model: nn.Module,
    objective: Objective,
    start: Tensor | None = None,
    *,
    size: int = 160,
    steps: int = 128,
    rate: float = 0.05,
    parametrisation: str = "fourier",
    transform: Callable[[Tensor, Tensor], Tensor] | None = affine,
    seed: int | Sequence[int] = 0,
) -> Tensor:
    """Images that make ``objective`` large (Erhan et al. 2009; Simonyan et al. 2014; Olah et al. 2017).

    Gradient ascent with Adam on the parameters of an image. What becomes of an image does not depend on those that are
    made together with it, but for rounding.

    Parameters
    ----------
    model, objective
        Any network; what is to be large, such as ``channel("relu3", 5)``.
    start
        Where to begin: an image (3, H, W) or (N, 3, H, W) in [0, 1]. Default: grey with faint noise, by ``seed``.
    size
        Side of the images that begin with noise, in pixels; even.
    steps, rate
        Number of Adam's steps, and its rate.
    parametrisation
        ``"fourier"`` or ``"pixels"``: what the steps change.
    transform
        From images (N, 3, H, W) and numbers (N, 4) in [-1, 1], new in each step, to what the network sees; or None.
    seed
        Of noise and transformations. Several seeds make as many images of one objective.

    Returns
    -------
    Tensor
        (N, 3, H, W) in (0, 1): an image for each unit that the objective names, or for each seed, or for each start.
    """
    if parametrisation not in PARAMETRISATIONS:
        raise ValueError(f"parametrisation must be one of {', '.join(PARAMETRISATIONS)}; got {parametrisation!r}.")
    if not isinstance(steps, int) or steps < 1 or not rate > 0:
        raise ValueError(f"steps must be a positive int and rate positive, got {steps!r} and {rate!r}.")
    if start is None and (not isinstance(size, int) or size < 2 or size % 2):
        raise ValueError(f"size must be a positive even int, got {size!r}.")
    encode, decode = PARAMETRISATIONS[parametrisation]
    seeds = [seed] if isinstance(seed, int) else list(seed)
    margin = MARGIN if transform else 0
    if start is None:
        begin, _ = as_batch(model, torch.full((1, 3, size + 2 * margin, size + 2 * margin), 0.5))
    else:
        begin, _ = as_batch(model, start)
        if begin.shape[3] % 2 or min(begin.shape[2:]) <= margin:
            raise ValueError(f"start must have an even width and more than {margin} pixels, got {tuple(start.shape)}.")
        begin = F.pad(begin, [margin] * 4, mode="reflect")
    counts = {objective.count, len(seeds), len(begin)} - {1}
    if len(counts) > 1 or not seeds:
        raise ValueError(
            f"{objective.count} objectives, {len(seeds)} seeds and {len(begin)} starts do not go together."
        )
    count = max(counts, default=1)
    generators = [torch.Generator().manual_seed(one) for one in (seeds * count if len(seeds) == 1 else seeds)]
    with layers.evaluating(model, gradients=True):
        values = encode(begin.clone().expand(count, -1, -1, -1)).contiguous()
        if start is None:
            noise = [torch.randn(values.shape[1:], generator=one) for one in generators]
            values = values + 0.01 * torch.stack(noise).to(values)
        values = values.detach().requires_grad_()
        optimiser = torch.optim.Adam([values], lr=rate, maximize=True)
        for _ in progress(range(steps), "feature visualisation", "step"):
            image = decode(values)
            if transform is not None:
                draws = torch.stack([torch.rand(4, generator=one) for one in generators]).mul(2).sub(1)
                image = crop(transform(image, draws.to(image)), MARGIN)
            values.grad = torch.autograd.grad(objective(model, image).sum(), values)[0]
            optimiser.step()
        return crop(decode(values.detach()), margin)
