"""Gratings, Gabors and blobs that were planted are found; noise is not."""

import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import tiny, unchanged
from torch import nn

from helpers import filters, models


def wave(angle, frequency, *, phase=0.0, sigma=None, centre=(0.0, 0.0), size=(11, 11), amounts=(1.0, 1.0, 1.0)):
    """A filter (1, channels, *size) that varies along ``angle``; pixel by pixel, in plain Python."""
    height, width = size
    picture = torch.zeros(height, width, dtype=torch.float64)
    for row in range(height):
        for col in range(width):
            right, up = col - (width - 1) / 2 - centre[0], (height - 1) / 2 - row - centre[1]
            along = right * math.cos(math.radians(angle)) + up * math.sin(math.radians(angle))
            window = 1.0 if sigma is None else math.exp(-(right**2 + up**2) / (2 * sigma**2))
            picture[row, col] = window * math.cos(2 * math.pi * frequency * along + phase)
    return torch.tensor(amounts, dtype=torch.float64)[None, :, None, None] * picture


def apart(first, second):
    """Degrees between two directions."""
    return abs((float(first) - float(second) + 90) % 180 - 90)


def noise(count=24, size=(11, 11), seed=0):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------ orientation


@pytest.mark.parametrize("size", [(11, 11), (9, 15), (16, 8)], ids=str)
@pytest.mark.parametrize("angle", range(0, 180, 15))
def test_a_grating_has_its_angle_and_frequency(angle, size):
    for frequency in (0.2, 0.25, 0.4):
        found = filters.orientation(wave(angle, frequency, phase=0.3, size=size), size=128)
        assert apart(found.angle, angle) <= 6
        assert abs(float(found.frequency) - frequency) <= 0.02
        assert float(found.colour) < 1e-12


@given(st.floats(0, 179.9), st.floats(0.15, 0.4), st.floats(0, 6.28))
@settings(max_examples=30, deadline=None)
def test_a_large_grating_has_its_angle_and_frequency_closely(angle, frequency, phase):
    """With a Gaussian window, whose spectrum has no side lobes."""
    filter = wave(angle, frequency, phase=phase, sigma=5, size=(31, 31))
    found = filters.orientation(filter, size=512)
    assert apart(found.angle, angle) <= 1 and abs(float(found.frequency) - frequency) <= 0.004
    assert 0 <= float(found.angle) < 180


def test_directions_by_hand():
    """A vertical edge varies to the right; an edge from lower left to upper right varies at 135°."""
    vertical, horizontal, diagonal = torch.zeros(3, 1, 3, 9, 9)
    vertical[..., :4], vertical[..., 5:] = -1, 1
    horizontal[..., :4, :], horizontal[..., 5:, :] = -1, 1
    for row in range(9):
        for col in range(9):
            diagonal[..., row, col] = float(row + col > 8) - float(row + col < 8)
    angles = filters.orientation(torch.cat([vertical, horizontal, diagonal])).angle
    assert angles[:2].tolist() == [0, 90]
    assert apart(angles[2], 135) < 10  # the corners of the square turn the peak a little
    assert filters.orientation(torch.ones(1, 3, 5, 5)).frequency.item() == 0
    checkers = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)).expand(1, 3, 8, 8)
    stripes = (-1.0) ** torch.arange(8).expand(1, 3, 8, 8)
    found = filters.orientation(torch.cat([checkers, stripes]))
    torch.testing.assert_close(found.frequency, torch.tensor([0.5 * 2**0.5, 0.5]))
    assert found.angle[1] == 0


def test_colour_is_what_the_mean_of_the_channels_leaves():
    def colour(*amounts):
        return filters.orientation(wave(30, 0.2, amounts=amounts)).colour.item()

    assert colour(1, 1, 1) == pytest.approx(0, abs=1e-12)
    assert colour(1, -1, 0) == pytest.approx(1)
    assert colour(1, 0, 0) == pytest.approx(2 / 3)  # 1 against (2/3)² + 2 (1/3)²
    assert colour(2, 1, 0) == pytest.approx(2 / 5)


def test_a_colour_wave_of_equal_brightness_is_found():
    """The spectrum is summed over the channels; that of their mean would be zero."""
    found = filters.orientation(wave(60, 0.25, amounts=(1, -1, 0), size=(15, 15)), size=128)
    assert apart(found.angle, 60) <= 3 and abs(found.frequency.item() - 0.25) <= 0.01


# ------------------------------------------------------------------------------------------ Gabors


@pytest.mark.random
def test_a_planted_gabor_is_found(seed, claim):
    random = np.random.default_rng(seed)
    plants = random.uniform((0, 0.12, 0, 2, -1), (180, 0.35, 3.1, 3, 1), (24, 5)).tolist()
    planted = torch.cat(
        [
            wave(angle, frequency, phase=phase, sigma=sigma, centre=(shift, -shift), amounts=(1, -0.5, 0.3))
            for angle, frequency, phase, sigma, shift in plants
        ]
    )
    fit = filters.gabor_fit(planted)
    angles, frequencies = zip(*((angle, frequency) for angle, frequency, *_ in plants))
    claim(fit.explained.min(), above=0.98)
    claim(max(map(apart, fit.angle, angles)), below=6)
    claim((fit.frequency - torch.tensor(frequencies)).abs().max(), below=0.03)
    rest = (planted - fit.fitted).square().sum((1, 2, 3)) / planted.square().sum((1, 2, 3))
    torch.testing.assert_close(1 - rest, fit.explained, rtol=0, atol=1e-6)


def test_a_blob_of_colour_is_explained():
    blobs = torch.cat(
        [wave(0, 0, sigma=sigma, centre=centre, amounts=(1, -1, 0.5)) for sigma, centre in [(2, (0, 0)), (3, (2, -1))]]
    )
    fit = filters.gabor_fit(blobs)
    assert (fit.explained > 0.99).all() and (fit.frequency < 0.08).all()


@pytest.mark.parametrize("size", [(7, 13), (13, 7), (11, 1)], ids=str)
def test_other_shapes_than_squares(size):
    angle = 90 if size == (11, 1) else 30
    planted = wave(angle, 0.2, phase=1, sigma=2.5, size=size)
    fit = filters.gabor_fit(planted)
    assert fit.fitted.shape == planted.shape and fit.explained[0] > 0.99
    if size != (11, 1):
        assert apart(fit.angle[0], angle) <= 5 and abs(fit.frequency[0] - 0.2) <= 0.02


@pytest.mark.random
def test_noise_is_not_explained(seed, claim):
    """And a Gabor under as much noise by about half."""
    claim(filters.gabor_fit(noise(12, seed=seed)).explained.max(), below=0.25)
    planted = torch.cat([wave(angle, 0.2, sigma=2.5) for angle in (0, 50, 100)]).float()
    planted = planted / planted.square().mean((1, 2, 3), keepdim=True).sqrt()
    explained = filters.gabor_fit(planted + noise(3, seed=seed)).explained
    claim(explained.min(), above=0.35)
    claim(explained.max(), below=0.7)


@pytest.mark.random
def test_the_scale_of_a_filter_does_not_matter(seed):
    planted = torch.cat([wave(40, 0.2, sigma=2.5), wave(100, 0.1, sigma=3)]).float() + 0.1 * noise(2, seed=seed)
    plain = filters.gabor_fit(planted)
    for scale in (1e-4, 1e4):
        scaled = filters.gabor_fit(scale * planted)
        torch.testing.assert_close(scaled.explained, plain.explained, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(filters.orientation(scale * planted).angle, filters.orientation(planted).angle)


@pytest.mark.random
def test_more_steps_explain_more(seed, claim):
    explained = [filters.gabor_fit(noise(16, seed=seed), steps=steps).explained.mean() for steps in (0, 20, 150)]
    claim(explained[1] - explained[0], above=0)
    claim(explained[2] - explained[1], above=0)


def test_a_kernel_of_one_pixel_is_a_blob():
    fit = filters.gabor_fit(torch.ones(2, 3, 1, 1))
    torch.testing.assert_close(fit.explained, torch.ones(2))
    assert fit.fitted.shape == (2, 3, 1, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_precisions(dtype):
    planted = wave(30, 0.2, sigma=2.5).to(dtype)
    assert filters.gabor_fit(planted).explained[0] > 0.98
    assert apart(filters.orientation(planted).angle, 30) <= 6


def test_the_angle_is_always_below_180():
    """−0.000001° is 180° in single precision."""
    assert filters._degrees(torch.tensor([-1e-8, -0.0, 0.0, math.pi, 2.0])).max() < 180
    fit = filters.gabor_fit(noise(16, (7, 7), seed=3))
    assert (fit.angle >= 0).all() and (fit.angle < 180).all() and (fit.frequency >= 0).all()


def test_the_result_belongs_to_no_graph_and_needs_no_gradient_mode(device):
    weights = nn.Conv2d(3, 2, 5).to(device).weight
    expected = filters.gabor_fit(weights)
    assert not any(value.requires_grad for value in (*expected, *filters.orientation(weights)))
    assert all(value.device.type == device.type for value in (*expected, *filters.orientation(weights)))
    with torch.no_grad():
        assert torch.equal(filters.gabor_fit(weights).explained, expected.explained)
    with torch.inference_mode():
        assert torch.equal(filters.gabor_fit(weights * 1.0).explained, expected.explained)
    assert weights.grad is None


# ------------------------------------------------------------------------------------------ first_layer


def test_the_first_layer_is_copied():
    model = tiny()
    with unchanged(model):
        weights = filters.first_layer(model)
        assert torch.equal(weights, model.conv1.weight) and not weights.requires_grad
        weights += 1
    assert filters.first_layer(models.load(device="cpu")).shape == (32, 3, 3, 3)
    assert filters.first_layer(models.Classifier(models.LectureNet(20))).shape == (64, 3, 11, 11)
    assert filters.first_layer(torchvision.models.squeezenet1_1()).shape == (64, 3, 3, 3)


def test_a_convolution_without_colours_is_passed_over():
    """A depthwise one has three channels, and filters with one each."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 3, 1), nn.Conv2d(3, 5, 7))
    assert torch.equal(filters.first_layer(model), model[2].weight)
    for wrong in (model[:2], nn.Linear(3, 3), nn.Sequential()):
        with pytest.raises(ValueError, match="three channels"):
            filters.first_layer(wrong)
    with pytest.raises(TypeError, match="Tensor"):
        filters.first_layer(model[2].weight.data)


# ------------------------------------------------------------------------------------------ what is refused

GOOD = noise(3, (5, 5))
BAD = {
    "array": (GOOD.numpy(), TypeError, "ndarray"),
    "integers": (GOOD.long(), TypeError, "floating"),
    "one filter": (GOOD[0], ValueError, "shape"),
    "none": (GOOD[:0], ValueError, "shape"),
    "NaN": (GOOD.clone().index_fill_(3, torch.tensor([2]), float("nan")), ValueError, "finite"),
    "infinite": (GOOD.clone().index_fill_(3, torch.tensor([2]), float("inf")), ValueError, "finite"),
    "one is zero": (GOOD.clone().index_fill_(0, torch.tensor([1]), 0), ValueError, "zero everywhere"),
    "a module": (nn.Conv2d(3, 4, 3), TypeError, "Conv2d"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("function", [filters.orientation, filters.gabor_fit], ids=lambda f: f.__name__)
def test_bad_weights_are_refused(function, bad):
    weights, error, message = BAD[bad]
    with pytest.raises(error, match=message):
        function(weights)


def test_a_spectrum_smaller_than_the_filter_is_refused():
    with pytest.raises(ValueError, match="size must be at least"):
        filters.orientation(noise(2, (5, 11)), size=10)
    filters.orientation(noise(2, (5, 11)), size=11)
