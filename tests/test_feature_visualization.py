"""Objectives against finite differences, Fourier images against NumPy, transformations against SciPy and by hand."""

import copy

import networks
import numpy as np
import pytest
import scipy.ndimage
import torch
import torchvision
from networks import CLASSES, images, tiny, unchanged
from torch import nn

from helpers import activations, datasets, layers
from helpers import feature_visualization as visualization
from helpers.feature_visualization import channel, direction, logit, maximize, unit

OBJECTIVES = {
    "logit": logit(3),
    "one logit for each image": logit([5, 0]),
    "channel": channel("relu2", 4),
    "unit in the middle": unit("conv2", [1, 6]),
    "unit at a place": unit("relu1", 2, (3, 5)),
    "direction": direction("conv2", torch.linspace(-1, 2, 12)),
    "sum": channel("relu1", 2) + 0.5 * logit(1) - unit("conv2", 3) * 2,
}


def by_hand(name, model, batch):
    """The same numbers from all activations, (N,)."""
    pair = torch.arange(2)
    first, conv, second = (activations.maps(model, batch, layer) for layer in ("relu1", "conv2", "relu2"))
    with torch.no_grad():
        logits = model.eval()(batch)
    middle = conv[:, :, conv.shape[2] // 2, conv.shape[3] // 2]
    vector = torch.linspace(-1, 2, 12, dtype=batch.dtype)
    return {
        "logit": logits[:, 3],
        "one logit for each image": logits[pair, torch.tensor([5, 0])],
        "channel": second[:, 4].mean((1, 2)),
        "unit in the middle": middle[pair, torch.tensor([1, 6])],
        "unit at a place": first[:, 2, 3, 5],
        "direction": middle @ (vector / vector.norm()),
        "sum": first[:, 2].mean((1, 2)) + 0.5 * logits[:, 1] - 2 * middle[:, 3],
    }[name]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_reads_the_right_units_and_has_their_gradient(name):
    model, batch = tiny().double(), images(2)
    objective = OBJECTIVES[name]
    with layers.evaluating(model, gradients=True):
        pixels = batch.clone().requires_grad_()
        values = objective(model, pixels)
        (slope,) = torch.autograd.grad(values.sum(), pixels)
    torch.testing.assert_close(values.detach(), by_hand(name, model, batch))
    generator, step = torch.Generator().manual_seed(0), 1e-8  # so small that no ReLU switches
    for _ in range(3):
        way = torch.randn(batch.shape, generator=generator, dtype=torch.float64)
        up, down = (by_hand(name, model, batch + sign * step * way).sum() for sign in (1, -1))
        torch.testing.assert_close((slope * way).sum(), (up - down) / (2 * step), rtol=1e-5, atol=1e-6)


def test_nothing_above_the_layer_is_computed():
    model = tiny()
    model.linear = nn.Linear(1, 1)  # fits no features
    assert channel("relu2", 0)(model, images(1).float()).shape == (1,)
    with pytest.raises(RuntimeError):
        logit(0)(model, images(1).float())


# -------------------------------------------------------------------------------------------------- parametrisations


def test_fourier_is_numpys_irfft2():
    generator = torch.Generator().manual_seed(0)
    values = 3 * torch.randn(2, 3, 10, 9, 2, generator=generator, dtype=torch.float64)
    rows, cols = np.fft.fftfreq(10)[:, None], np.fft.rfftfreq(16)
    waves = (values[..., 0] + 1j * values[..., 1]).numpy() / np.maximum(np.hypot(rows, cols), 1 / 16) ** 1.5
    planes = np.fft.irfft2(waves, s=(10, 16), norm="ortho")
    colours = np.moveaxis(np.moveaxis(planes, 1, -1) @ np.array(visualization.COLOURS).T, -1, 1)
    image = visualization.fourier(values)
    np.testing.assert_allclose(image, 1 / (1 + np.exp(-colours / 16)), atol=1e-6)


@pytest.mark.parametrize("name", visualization.PARAMETRISATIONS)
def test_a_photograph_comes_back(name):
    encode, decode = visualization.PARAMETRISATIONS[name]
    batch = images(2)[:, :, :20]
    torch.testing.assert_close(decode(encode(batch)), batch, rtol=0, atol=1e-6)
    edges = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(
        1, 3, 4, 2
    )  # black and white come back but for a level
    assert (decode(encode(edges)) - edges).abs().max() < 1.1 / 255


def test_the_colours_are_those_of_the_groceries():
    """Uncorrelated, and each as long as it varies, up to the rounding of the table."""
    pixels = datasets.groceries("train").images.transpose(0, 1).flatten(1).double()
    covariance = torch.cov(pixels)
    colours = torch.tensor(visualization.COLOURS, dtype=torch.float64)
    ours = colours @ colours.T
    torch.testing.assert_close(ours / ours.trace(), covariance / covariance.trace(), rtol=0, atol=0.01)
    towards_axes = colours.T @ colours
    assert (towards_axes - towards_axes.diag().diag()).abs().max() < 0.01
    assert colours.norm(dim=0).argsort(descending=True).tolist() == [0, 1, 2]
    assert abs(colours.norm(dim=0).max() - 1) < 0.01


# -------------------------------------------------------------------------------------------------- transformations


def moved(batch, *draws, **limits):
    return visualization.affine(batch, torch.tensor([draws]).expand(len(batch), 4).to(batch), **limits)


def test_affine_by_hand():
    batch = images(2)
    torch.testing.assert_close(moved(batch, 0, 0, 0, 0), batch)
    torch.testing.assert_close(moved(batch, 1, 0, 0, 0, degrees=90).flip(2).transpose(2, 3), batch)
    shifted = moved(batch, 0, 0, 0.5, -1, shift=8)  # what was 4 down and 8 to the left
    torch.testing.assert_close(shifted[:, :, :28, 8:], batch[:, :, 4:, :-8])
    torch.testing.assert_close(shifted[:, :, 28:], torch.full_like(shifted[:, :, 28:], 0.5))


def test_affine_is_scipys():
    """All four at once, away from the border."""
    image = images(1, 64)
    angle, factor = np.radians(0.7 * 10), 1 + 0.1 * 0.6
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / factor  # of (row, col)
    middle = np.array([31.5, 31.5])
    offset = middle + np.array([-0.4 * 8, 0.9 * 8]) - turn @ middle
    ours = moved(image, 0.7, 0.6, -0.4, 0.9)
    for plane, result in zip(image[0], ours[0]):
        expected = scipy.ndimage.affine_transform(plane.numpy(), turn, offset, order=1)
        np.testing.assert_allclose(result[16:-16, 16:-16], expected[16:-16, 16:-16], atol=1e-6)


def test_affine_stays_in_range():
    """White stays white: a value above 1 by rounding would be refused as no image."""
    white = torch.ones(8, 3, 40, 40)
    draws = torch.rand(8, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = visualization.affine(white, draws)
    assert result.max() <= 1 and result.min() >= 0.5


def test_stretch():
    batch = 0.4 + 0.1 * images(3)
    stretched = visualization.stretch(batch, 0.05)
    for image, result in zip(batch, stretched):
        assert (result == 0).float().mean() == pytest.approx(0.05, abs=0.01)
        assert (result == 1).float().mean() == pytest.approx(0.05, abs=0.01)
        inside = (result > 0) & (result < 1)
        slopes = (result[inside] - result[inside].mean()) / (image[inside] - image[inside].mean())
        torch.testing.assert_close(slopes, slopes[:1].expand_as(slopes))
    assert torch.equal(visualization.stretch(torch.full((1, 3, 4, 4), 0.3)), torch.zeros(1, 3, 4, 4))


# ---------------------------------------------------------------------------------------------------------- ascent


@pytest.mark.random
@pytest.mark.parametrize("parametrisation", visualization.PARAMETRISATIONS)
def test_the_image_fires_its_unit_more_than_any_of_a_hundred_others(parametrisation, device, seed, claim):
    model = tiny().to(device)
    others = images(100, seed=seed).float()
    for objective in (logit(list(range(CLASSES))), channel("conv2", [0, 5, 11]), unit("conv2", [0, 5, 11])):
        options = {"size": 32, "steps": 120, "rate": 0.1, "parametrisation": parametrisation}
        made = maximize(model, objective, transform=None, seed=seed, **options)
        assert made.shape == (objective.count, 3, 32, 32) and made.device.type == device.type
        assert made.min() >= 0 and made.max() <= 1
        with torch.no_grad():
            reached = objective(model, made)
        for number, value in enumerate(reached):
            with torch.no_grad():
                theirs = torch.stack([objective(model, one.expand(len(made), -1, -1, -1))[number] for one in others])
            claim((value - theirs.max()) / theirs.std(), above=0)


@pytest.mark.random
def test_the_embedded_network_sees_the_classes_for_which_the_images_were_made(seed, claim):
    model, targets = networks.lite0(), [130, 292]  # flamingo, tiger
    made = maximize(model, logit(targets), size=64, steps=40, seed=seed)
    with torch.no_grad():
        logits = model(made)
    for row, target in zip(logits, targets):
        claim(row[target] - row[torch.arange(1000) != target].max(), above=0)


def test_transformations_make_an_image_that_fires_wherever_it_lies():
    """The image made with them loses less when it is moved than the one made without."""
    model, objective = tiny(), channel("conv2", [0, 5, 11])
    draws = torch.rand(3, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1
    kept = {}
    for name, transform in (("still", None), ("moved", visualization.affine)):
        made = maximize(model, objective, size=64, steps=60, rate=0.1, parametrisation="pixels", transform=transform)
        with torch.no_grad():
            kept[name] = objective(model, visualization.affine(made, draws)) / objective(model, made)
    assert (kept["moved"] > kept["still"] + 0.1).all()


def test_an_image_does_not_depend_on_those_beside_it():
    model = tiny().double()
    options = {"size": 32, "steps": 6}
    together = maximize(model, channel("relu2", [1, 4, 6]), seed=[7, 8, 9], **options)
    for image, number, seed in zip(together, (1, 4, 6), (7, 8, 9)):
        alone = maximize(model, channel("relu2", number), seed=seed, **options)
        torch.testing.assert_close(image, alone[0])


def test_the_seed_decides():
    """The same on every call, another for another seed; the global generator is neither read nor moved."""
    model = tiny()
    first = maximize(model, logit(2), size=32, steps=3, seed=[0, 1])
    torch.manual_seed(5)
    assert torch.equal(first, maximize(model, logit(2), size=32, steps=3, seed=[0, 1]))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    maximize(model, logit(2), size=32, steps=1)
    assert torch.equal(torch.rand(1), expected)
    assert (first[0] - first[1]).abs().max() > 0.01


def test_a_dream_begins_with_its_photograph():
    model, photo = tiny(), images(1)[0].float()[:, :28]
    before = channel("relu2", 3)(model, photo)
    for steps in (1, 20):
        dream = maximize(model, channel("relu2", 3), photo, steps=steps, rate=0.02)
        assert dream.shape == (1, 3, 28, 32)
        change = (dream[0] - photo).abs().mean()
        assert change < 0.02 if steps == 1 else change > 0.02
    assert channel("relu2", 3)(model, dream) > before


def test_by_a_plain_loop():
    """The whole of `maximize`, written down for one image without helpers."""
    model = tiny().double()
    random = torch.Generator().manual_seed(3)
    side = 32 + 2 * visualization.MARGIN
    values = (0.01 * torch.randn(3, side, side // 2 + 1, 2, generator=random))[None].double().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=0.05)
    for _ in range(5):
        draws = 2 * torch.rand(4, generator=random)[None].double() - 1
        canvas = visualization.affine(visualization.fourier(values), draws)
        seen = torchvision.transforms.functional.center_crop(canvas, [32, 32])
        optimiser.zero_grad()
        (-model(seen)[0, 1]).backward()
        optimiser.step()
    expected = torchvision.transforms.functional.center_crop(visualization.fourier(values.detach()), [32, 32])
    torch.testing.assert_close(maximize(model, logit(1), size=32, steps=5, seed=3), expected)


@pytest.mark.parametrize("build", [networks.lite0, networks.resnet18, networks.googlenet])
def test_any_network_is_left_as_it_came(build, device):
    model = copy.deepcopy(build()).to(device).train()
    with unchanged(model):
        made = maximize(model, logit([1, 2]), size=64, steps=1)
    assert made.shape == (2, 3, 64, 64) and made.isfinite().all() and not made.requires_grad


BAD = {
    "parametrisation": ({"parametrisation": "wavelets"}, ValueError, "pixels, fourier"),
    "no step": ({"steps": 0}, ValueError, "steps"),
    "half a step": ({"steps": 1.5}, ValueError, "steps"),
    "rate": ({"rate": 0}, ValueError, "rate"),
    "NaN": ({"rate": float("nan")}, ValueError, "rate"),
    "odd size": ({"size": 33}, ValueError, "even"),
    "no size": ({"size": 0}, ValueError, "even"),
    "odd start": ({"start": torch.rand(3, 40, 41)}, ValueError, "even"),
    "small start": ({"start": torch.rand(3, 24, 40)}, ValueError, "more than 24"),
    "start out of range": ({"start": 2 + torch.rand(3, 40, 40)}, ValueError, r"\[0, 1\]"),
    "no seed": ({"seed": []}, ValueError, "do not go together"),
    "three seeds for two": ({"seed": [1, 2, 3]}, ValueError, "do not go together"),
    "two starts for three": ({"start": torch.rand(3, 3, 40, 40)}, ValueError, "do not go together"),
}


@pytest.mark.parametrize("name", BAD)
def test_maximize_refuses(name):
    options, error, message = BAD[name]
    model = tiny()
    with unchanged(model), pytest.raises(error, match=message):
        maximize(model, logit([0, 1]), **({"size": 32, "steps": 1} | options))


REFUSED = {
    "no such channel": (lambda: channel("relu2", 12), ValueError, "0…11"),
    "a negative channel": (lambda: unit("relu2", -1), ValueError, "0…11"),
    "half a channel": (lambda: channel("relu2", 1.5), TypeError, "channel"),
    "a bool": (lambda: channel("relu2", True), TypeError, "channel"),
    "three for two images": (lambda: channel("relu2", [1, 2, 3]), ValueError, "2 of them"),
    "no such place": (lambda: unit("relu2", 1, (0, 99)), ValueError, "no unit"),
    "no maps": (lambda: channel("linear", 1), ValueError, "no maps"),
    "no such layer": (lambda: channel("relu9", 1), LookupError, "relu2"),
    "no direction": (lambda: direction("relu2", torch.zeros(12)), ValueError, "not 0"),
    "a direction of another layer": (lambda: direction("relu2", torch.ones(5)), ValueError, "12 channels"),
    "no class": (lambda: logit(CLASSES), ValueError, "target"),
    "nothing": (lambda: logit(None), TypeError, "target"),
    "sum of two and three": (lambda: logit([1, 2]) + logit([1, 2, 3]), ValueError, "can't be added"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_objectives_refuse(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        make()(tiny(), images(2).float())
