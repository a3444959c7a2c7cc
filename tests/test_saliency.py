"""Gradients against captum and by hand, SmoothGrad against a plain loop."""

from functools import cache

import networks
import pytest
import torch
from captum.attr import Saliency
from networks import CLASSES, images, tiny, unchanged
from torch import nn

from helpers import photos, saliency


@cache
def built(name):
    return getattr(networks, name)()


@pytest.mark.parametrize("name", ["lite0", "resnet18", "vgg11"])
def test_equals_captum_in_float64(name, exact_device):
    model = built(name).double().to(exact_device)
    batch = torch.stack([photos.load("coffee", 72), photos.load("chelsea", 72)]).double().to(exact_device)
    targets = torch.tensor([3, 11], device=exact_device)
    expected = Saliency(model).attribute(batch.clone().requires_grad_(), target=targets, abs=False)
    signed = saliency.gradient(model, batch, targets, signed=True)
    assert (signed - expected).abs().max() <= 1e-6 * expected.abs().max()
    maps = saliency.gradient(model, batch, targets)
    assert maps.shape == (2, 72, 72)
    assert (maps - expected.abs().amax(1)).abs().max() <= 1e-6 * expected.abs().max()


def test_of_a_linear_network_it_is_the_weights(device):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES)).to(device)
    weights = model[1].weight.detach().view(CLASSES, 3, 8, 8)
    image = images(1, 8)[0].float()
    for target in range(CLASSES):
        torch.testing.assert_close(saliency.gradient(model, image, target, signed=True), weights[target])
        torch.testing.assert_close(saliency.gradient(model, image, target), weights[target].abs().amax(0))


@pytest.mark.random
def test_predicts_the_change_of_the_logit(exact_device, seed):
    """First-order Taylor: a small step along a direction changes the logit by gradient · step.

    Eight directions: one alone may be nearly level, and 1e-8 is so small that hardly any unit is switched on or off.
    """
    model, image = tiny().double().to(exact_device), images(1, seed=seed)[0].to(exact_device)
    pixels = saliency.gradient(model, image, 2, signed=True)
    steps = 1e-8 * torch.randn(8, *image.shape, dtype=torch.float64).to(image)
    with torch.no_grad():
        change = (model(image + steps) - model(image - steps))[:, 2]
    expected = 2 * (pixels * steps).sum((1, 2, 3))
    assert (change - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_without_a_target_it_is_the_predicted_class(device):
    model, batch = tiny().to(device), images(3).float()
    predicted = model(batch.to(device)).argmax(1)
    assert torch.equal(saliency.gradient(model, batch), saliency.gradient(model, batch, predicted))


@pytest.mark.parametrize("samples, batch_size", [(1, 8), (5, 2), (8, 8), (7, 100)])
def test_smoothgrad_is_the_mean_over_noisy_copies(samples, batch_size, exact_device):
    """One copy at a time, with the noise drawn in the order of the batches."""
    model, image, noise = tiny().double().to(exact_device), images(1)[0].to(exact_device), 0.2
    generator = torch.Generator().manual_seed(3)
    total = torch.zeros_like(image)
    for start in range(0, samples, batch_size):
        jitter = torch.randn(min(batch_size, samples - start), 3, 32, 32, generator=generator, dtype=torch.float32)
        for one in jitter.to(image):
            pixels = (image + noise * (image.max() - image.min()) * one).requires_grad_()
            total += torch.autograd.grad(model(pixels[None])[0, 4], pixels)[0]
    options = {"samples": samples, "noise": noise, "seed": 3, "batch_size": batch_size}
    signed = saliency.smoothgrad(model, image, 4, signed=True, **options)
    torch.testing.assert_close(signed, total / samples, rtol=1e-9, atol=1e-12)
    maps = saliency.smoothgrad(model, image, 4, **options)
    torch.testing.assert_close(maps, (total / samples).abs().amax(0), rtol=1e-9, atol=1e-12)


def test_smoothgrad_without_noise_is_the_gradient(exact_device):
    model, batch = tiny().double().to(exact_device), images(2)
    plain, smooth = saliency.gradient(model, batch), saliency.smoothgrad(model, batch, samples=3, noise=0.0)
    torch.testing.assert_close(smooth, plain, rtol=1e-10, atol=1e-12)


def test_smoothgrad_depends_on_the_seed_only(device):
    model, image = tiny().to(device), images(1)[0].float()
    first, other = (saliency.smoothgrad(model, image, samples=4, seed=seed) for seed in (0, 1))
    torch.manual_seed(77)
    assert torch.equal(first, saliency.smoothgrad(model, image, samples=4, seed=0))
    assert not torch.equal(first, other)


def test_smoothgrad_keeps_the_target_of_the_clean_image():
    """With this much noise the prediction changes from copy to copy."""
    model, image = tiny(), images(1)[0].float()
    predicted = int(model(image[None]).argmax())
    fixed = saliency.smoothgrad(model, image, predicted, samples=8, noise=5.0)
    assert torch.equal(saliency.smoothgrad(model, image, samples=8, noise=5.0), fixed)


@pytest.mark.parametrize(
    "options",
    [{"samples": 0}, {"samples": 2.5}, {"noise": -0.1}, {"noise": float("nan")}, {"batch_size": 0}],
    ids=str,
)
def test_smoothgrad_refuses(options):
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match=next(iter(options))):
        saliency.smoothgrad(model, images(1)[0].float(), **options)
