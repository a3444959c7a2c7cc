"""Chapter 2: filters of the first layer."""

import math

import numpy as np
import torch

from helpers import layers, models
from helpers.checks import draw


def negative_sign_alone(response, weight):
    return -response


def negative_by_mean(response, weight):
    return weight.mean() - response


def negative_reversed(response, weight):
    return response - weight.sum()


def negative_plus(response, weight):
    return weight.sum() + response


def negative_one_minus(response, weight):
    return 1 - response


def negative_through_numpy(response, weight):
    """Right: the response to ones, place by place."""
    ones = np.tensordot(np.ones(weight.shape), weight.numpy(), 3)
    return np.full(response.shape, ones) - response.numpy()


def _tuning(
    network, frequency, *, contrast=0.4, clockwise=1, both=True, raw=False, grey=True, phases=(0.0, math.pi / 2)
):
    steps, results = torch.arange(64) - 31.5, []
    for angle in range(0, 180, 15):
        turn = math.radians(angle)
        along = steps[None] * math.cos(turn) - clockwise * steps[:, None] * math.sin(turn)
        waves = torch.stack([torch.cos(2 * math.pi * frequency * along - phase) for phase in phases])
        pictures = (0.5 + contrast * torch.cat([torch.zeros(1, 64, 64), waves]))[:, None].repeat(1, 3, 1, 1)
        with torch.no_grad():
            found = network.network.conv1(pictures) if raw else layers.run_to(network, "conv1", pictures)
        found = found.cpu()[:, :, 8, 8]
        swings = found[1:] - found[0] if grey else found[1:]
        swings = swings if both else swings[:1]
        results.append(swings.square().sum(0).sqrt())
    return torch.stack(results, 1)


def tuning_clockwise(network, frequency):
    return _tuning(network, frequency, clockwise=-1)


def tuning_half_contrast(network, frequency):
    return _tuning(network, frequency, contrast=0.5)


def tuning_squared(network, frequency):
    return _tuning(network, frequency).square()


def tuning_one_phase(network, frequency):
    return _tuning(network, frequency, both=False)


def tuning_with_grey(network, frequency):
    return _tuning(network, frequency, grey=False)


def tuning_with_grey_backwards(network, frequency):
    return _tuning(network, frequency, grey=False, phases=(0.3, 0.3 - math.pi / 2))


def tuning_not_normalised(network, frequency):
    return _tuning(network, frequency, raw=True)


def tuning_turned(network, frequency):
    return _tuning(network, frequency).T


def tuning_by_many_phases(network, frequency):
    """Right: four phases, of which opposite ones differ by twice the swing."""
    quarter = math.pi / 2
    return _tuning(network, frequency, phases=[0.0, quarter, 2 * quarter, 3 * quarter]) / math.sqrt(2)


def _whiten(rows, *, centre=0, under=0.1, beside=0.0, power=-0.5, back=True):
    rows = rows.double()
    if centre is not None:
        rows = rows - rows.mean(centre, keepdim=True)
    values, vectors = torch.linalg.eigh(rows.T.cov())
    scale = (values + under) ** power if not beside else 1 / (values.sqrt() + beside)
    turned = rows @ vectors * scale
    return turned @ vectors.T if back else turned


def whiten_not_centred(rows):
    return _whiten(rows, centre=None)


def whiten_own_means(rows):
    return _whiten(rows, centre=1)


def whiten_beside_the_root(rows):
    return _whiten(rows, under=0.0, beside=0.1)


def whiten_no_root(rows):
    return _whiten(rows, power=-1)


def whiten_multiplied(rows):
    return _whiten(rows, power=0.5)


def whiten_no_constant(rows):
    return _whiten(rows, under=0.0)


def whiten_not_back(rows):
    return _whiten(rows, back=False)


def whiten_columns(rows):
    return (rows - rows.mean(0)) / (rows.var(0) + 0.1).sqrt()


def whiten_by_inverse_root(rows):
    """Right: numpy, the inverse root of a matrix."""
    rows = rows.double().numpy()
    rows = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows.T) + 0.1 * np.eye(rows.shape[1]))
    return rows @ (vectors @ np.diag(values**-0.5) @ vectors.T)


WRONG = {
    "2.1": [
        (negative_sign_alone, "a picture of ones"),
        (negative_by_mean, "not their mean"),
        (negative_reversed, "minus 1"),
        (negative_plus, "with a minus"),
        (negative_one_minus, "not from the pixels"),
    ],
    "2.2": [
        (tuning_clockwise, "clockwise"),
        (tuning_half_contrast, "contrast of 0.4"),
        (tuning_squared, "square root"),
        (tuning_one_phase, "a second one"),
        (tuning_with_grey, "plain grey"),
        (tuning_with_grey_backwards, "plain grey"),
        (tuning_not_normalised, "normalises"),
        (tuning_turned, "another order"),
    ],
    "2.3": [
        (whiten_not_centred, "mean row was not"),
        (whiten_own_means, "its own mean"),
        (whiten_beside_the_root, "under the root"),
        (whiten_no_root, "root is missing"),
        (whiten_multiplied, "divides"),
        (whiten_no_constant, "0.1 is missing"),
        (whiten_not_back, "turned back"),
        (whiten_columns, "its own deviation"),
    ],
}
RIGHT = {"2.1": [negative_through_numpy], "2.2": [tuning_by_many_phases], "2.3": [whiten_by_inverse_root]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    random = torch.Generator().manual_seed(seed + 40)
    if label == "2.1":
        return draw.image(seed)[0], torch.randn(3, 5, 5, generator=random)
    if label == "2.2":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 40)
            return models.Classifier(models.LectureNet(2)).eval(), (0.08, 0.15, 0.24)[seed]
    return (torch.randn(100, 10, generator=random) @ torch.randn(10, 10, generator=random) + 1,)
