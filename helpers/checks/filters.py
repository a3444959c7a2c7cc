"""Checks of the exercises of chapter 2, filters of the first layer."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import models, runtime

from . import draw, exercise
from .answers import Answer, compare


@exercise("2.1", "negative_response(response, weight): the response to 1 - x, (h, w)")
def negative_response(answer: Answer) -> None:
    for seed, size in enumerate((5, 4)):
        random = torch.Generator().manual_seed(seed)
        weight, photo = torch.randn(3, size, size, generator=random) + 0.1, draw.image(seed, 24)[:, :, :20]
        response, truth = (F.conv2d(x[None], weight[None])[0, 0] for x in (photo, 1 - photo))
        compare(
            answer(response, weight),
            truth,
            hints={
                "The sign alone is not enough: what does the filter answer to a picture of ones?": -response,
                "The response to ones is the sum of the weights, not their mean.": weight.mean() - response,
                "The filter answers to 1 minus the photograph, not to the photograph minus 1.": response - weight.sum(),
                "The photograph itself counts with a minus.": weight.sum() + response,
                "The sum of the absolute weights is no response: keep their signs.": weight.abs().sum() - response,
                "A 1 is taken from the response, not from the pixels.": 1 - response,
            },
            what="the response",
        )


def _coefficients(
    weights: Tensor, std: Tensor, frequency: float, *, contrast: float = 0.4, clockwise: int = 1
) -> Tensor:
    """The sum of weights times waves, a Fourier coefficient (filters, 12); its size is the amplitude."""
    size = weights.shape[-1]
    steps = torch.arange(size, dtype=torch.float64)
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 12
    along = steps[None, None] * angles.cos()[:, None, None] - clockwise * steps[:, None] * angles.sin()[:, None, None]
    wave = torch.polar(torch.ones_like(along), 2 * math.pi * frequency * along)  # (12, size, size)
    grey = (weights / std).sum(1).to(torch.complex128)  # the wave is the same in the three colours
    return contrast * torch.einsum("fhw,ahw->fa", grey, wave)


def _with_phases(found: object, coefficients: Tensor, form: Callable[[Tensor], Tensor]) -> Tensor:
    """``form`` of the responses (filters, 12), each grating at the phase at which this is most like ``found``.

    Where in the picture a grating begins is left to the student; it is the same for all filters.
    """
    turns = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)[:-1]
    shown = form(coefficients * torch.polar(torch.ones_like(turns), turns)[:, None, None])  # (720, filters, 12)
    if not isinstance(found, Tensor) or found.shape != coefficients.shape:
        return shown[0]
    best = (shown - found.detach().cpu()).abs().amax(1).argmin(0)  # of each direction, (12,)
    return shown[best, :, torch.arange(len(best))].T


@exercise("2.2", "tuning(network, frequency): how far each filter's response swings in each direction, (filters, 12)")
def tuning(answer: Answer) -> None:
    for seed, frequency in ((0, 0.11), (1, 0.2)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = models.Classifier(models.LectureNet(2)).eval()
        conv1, mean, std = network.network.conv1, network.mean.double(), network.std.double()
        weights = conv1.weight.detach().double()
        waves = _coefficients(weights, std, frequency)
        truth = waves.abs()
        plain = (conv1.bias.detach().double() + (weights * (0.5 - mean) / std).sum((1, 2, 3)))[:, None]  # (filters, 1)
        found = answer(network.to(runtime.device()), frequency)
        one, left = (
            "One phase shows one moment of the swing. Take a second one, 90° later.",
            "The response to plain grey, bias and mean, is still in it. Subtract it before the squares.",
        )
        compare(
            found,
            truth,
            hints={
                "The angles run clockwise. Rows count downwards, so that a turn to the left goes up.": _coefficients(
                    weights, std, frequency, clockwise=-1
                ).abs(),
                "The swing is the square root of the two squares.": truth.square(),
                "The gratings have a contrast of 0.4.": _coefficients(weights, std, frequency, contrast=0.5).abs(),
                "The network normalises its input: let it see the picture whole, with layers.run_to.": _coefficients(
                    weights, torch.ones_like(std), frequency
                ).abs(),
                "This is the whole range, from the lowest to the highest response. The amplitude is half of it.": (
                    2 * truth
                ),
                one: _with_phases(found, waves, lambda wave: wave.real.abs()),
                one + " ": _with_phases(found, waves, lambda wave: wave.real),
                left: _with_phases(found, waves, lambda wave, grey=plain: (grey + grey * 1j + wave).abs()),
                left + " ": _with_phases(found, waves, lambda wave, grey=plain: (grey + grey * 1j + wave.conj()).abs()),
            },
            what="the tuning",
            tolerance=0.02,
        )


@exercise("2.3", "whiten(rows): the whitened rows, (patches, numbers)")
def whiten(answer: Answer) -> None:
    for seed, count in enumerate((200, 90)):
        random = torch.Generator().manual_seed(seed)
        rows = torch.randn(count, 12, generator=random) @ torch.randn(12, 12, generator=random) * 0.5 + 1.5
        centred = (rows - rows.mean(0)).double()
        left, sizes, right = torch.linalg.svd(centred, full_matrices=False)  # the eigenvalues are sizes² / (count - 1)
        values = sizes.square() / (count - 1)

        def turned(scale: Tensor, back: bool = True, left=left, sizes=sizes, right=right) -> Tensor:
            return (left * (sizes * scale)) @ (right if back else torch.eye(len(sizes), dtype=torch.float64))

        found = answer(rows)
        compare(
            found,
            turned((values + 0.1).rsqrt()),
            hints={
                "The mean row was not subtracted.": rows.double()
                @ right.T
                @ torch.diag((values + 0.1).rsqrt())
                @ right,
                "Each row lost its own mean. Subtract the mean row.": _of(rows - rows.mean(1, keepdim=True)),
                "The 0.1 belongs under the root, beside the eigenvalue.": turned(1 / (values.sqrt() + 0.1)),
                "The square root is missing.": turned(1 / (values + 0.1)),
                "Multiplied by the root. Whitening divides: large waves become smaller.": turned((values + 0.1).sqrt()),
                "The 0.1 is missing.": turned(values.rsqrt()),
                "The rows are turned and scaled, but not turned back.": _signed(
                    found, turned((values + 0.1).rsqrt(), back=False)
                ),
                "Each column is divided by its own deviation. Turn to the eigenvectors first.": centred
                / (centred.square().sum(0) / (count - 1) + 0.1).sqrt(),
            },
            what="the result",
        )


def _of(centred: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(centred.double().T.cov())
    return centred.double() @ vectors @ torch.diag((values + 0.1).rsqrt()) @ vectors.T


def _signed(found: object, turned: Tensor) -> Tensor:
    """``turned`` with its columns in the order and with the signs of ``found``, which eigenvectors leave open."""
    if not isinstance(found, Tensor) or found.shape != turned.shape:
        return turned
    found = found.detach().cpu().double()
    dots = found.T @ turned
    best = dots.abs().argmax(1)
    return turned[:, best] * dots.gather(1, best[:, None])[:, 0].sign()
