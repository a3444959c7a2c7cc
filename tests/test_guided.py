"""Guided backpropagation where captum is right, and where captum's is the plain gradient without a word."""

import math
from functools import cache

import captum.attr
import networks
import pytest
import torch
import torch.nn.functional as F
from networks import images, seeded, tiny, unchanged
from torch import nn
from torchvision.models.vgg import make_layers

from helpers import cam, guided, models, photos, saliency


def independent(model, batch, target):
    """Another construction of the rule: the rectifiers of torch are exchanged for products with a mask.

    Autograd takes care of the mask, and a hook on the product drops what is negative before it gets there.
    """
    calls = []

    def rectify(x, low, high):
        result = x * ((x > low) & (x < high))
        result = torch.where(x >= high, high, result) if high < math.inf else result
        result.register_hook(lambda gradient: gradient.clamp(min=0))
        calls.append(x.shape)
        return result

    pixels = batch.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        for place in (F, torch):
            patch.setattr(place, "relu", lambda x, inplace=False: rectify(x, 0.0, math.inf))
        patch.setattr(F, "relu6", lambda x, inplace=False: rectify(x, 0.0, 6.0))
        patch.setattr(F, "hardtanh", lambda x, low=-1.0, high=1.0, inplace=False: rectify(x, low, high))
        logits = model(pixels)
    assert calls
    torch.testing.assert_close(logits, model(batch), rtol=1e-12, atol=1e-12)
    return torch.autograd.grad(logits[:, target].sum(), pixels)[0]


def by_captum(model, batch, target):
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        return captum.attr.GuidedBackprop(model).attribute(batch.clone().requires_grad_(), target=target).detach()


def close(result, expected):
    assert expected.abs().max() > 0
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def thin_vgg():
    """The shape of VGG, with few channels."""
    features = seeded(make_layers, [8, 8, "M", 16, "M", 16, "M"])
    return nn.Sequential(features, nn.Flatten(), nn.Linear(16 * 36, 7)).eval()


def separate_relus():
    """A residual network each of whose ReLUs is a module of its own and not in place."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.relu2(x + self.second(self.relu1(self.first(x))))

    stem = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), Block(), nn.MaxPool2d(2), Block()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7)).eval()


@cache
def built(name):
    if name == "lecturenet":
        return models.load("lecturenet", device="cpu").double()
    build = globals().get(name) or getattr(networks, name)
    return build().double()


def apart(first, second):
    """Length of the difference over the length of the first."""
    return ((first - second).norm() / first.norm()).item()


# resnet18 has one in-place ReLU for each block, which runs twice
MODULES = [("lecturenet", 96), ("tiny", 32), ("thin_vgg", 48), ("separate_relus", 48), ("resnet18", 64), ("vgg11", 64)]


@pytest.mark.parametrize("name, size", MODULES)
def test_equals_captum_where_relus_are_modules(name, size, exact_device):
    model, batch = built(name).to(exact_device), images(2, 96)[..., :size, :size].to(exact_device)
    expected = by_captum(model, batch, 3)
    with unchanged(model):
        result = guided.backprop(model, batch, 3)
    close(result, expected)
    close(result, independent(model, batch, 3))
    assert apart(result, saliency.gradient(model, batch, 3, signed=True)) > 0.1


@pytest.mark.parametrize("name", ["lite0", "googlenet", "mobilenet_v2"])
def test_works_where_captum_returns_the_plain_gradient(name, exact_device):
    """ReLU6 modules; F.relu in the forward pass."""
    model, batch = built(name).to(exact_device), images(1, 96).to(exact_device)
    plain = saliency.gradient(model, batch, 3, signed=True)
    close(by_captum(model, batch, 3), plain)
    with unchanged(model):
        result = guided.backprop(model, batch, 3)
    close(result, independent(model, batch, 3))
    assert apart(result, plain) > 0.5


def test_misses_no_function_among_modules():
    """DenseNet's last ReLU is a function, all others are modules: captum misses the one.

    The size shows it. The direction hardly does, because the blocks below forget what came from above (chapter 8).
    """
    model, batch = built("densenet121"), images(1, 64)
    result = guided.backprop(model, batch, 3)
    close(result, independent(model, batch, 3))
    assert apart(result, by_captum(model, batch, 3)) > 0.1


def test_by_hand():
    """One pixel, two units: each rule of the ReLU blocks one path."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).view(2, 3, 1, 1)
    model[3].weight.data = torch.tensor([[2.0, -3.0], [5.0, 7.0]])
    image = torch.full((3, 1, 1), 0.5)
    assert guided.backprop(model, image, 0).flatten().tolist() == [2, 0, 0]  # -3 comes from above and is dropped
    assert guided.backprop(model, image, 1).flatten().tolist() == [5, 7, 0]
    assert saliency.gradient(model, image, 0, signed=True).flatten().tolist() == [2, -3, 0]


def test_by_hand_where_a_unit_is_saturated():
    """ReLU6 passes on nothing where its input is above 6, and so does the guided rule."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU6(), nn.Flatten(), nn.Linear(2, 1, bias=False))
    model[0].weight.data = torch.tensor([[20.0, 0.0, 0.0], [0.0, 10.0, 0.0]]).view(2, 3, 1, 1)
    model[3].weight.data = torch.tensor([[1.0, 1.0]])
    assert guided.backprop(model, torch.full((3, 1, 1), 0.5), 0).flatten().tolist() == [0, 10, 0]


@pytest.mark.parametrize(
    "name, layer, last",
    [
        ("tiny", "conv2", False), ("tiny", "relu2", True), ("lecturenet", "network.relu5", True),
        ("lecturenet", "network.relu3", False), ("resnet18", "layer4", True), ("resnet18", "layer2.0.conv1", False),
    ],
)  # fmt: skip
def test_guided_gradcam_equals_captum(name, layer, last):
    model = built(name).cpu()
    batch = torch.stack([photos.load(photo, 96) for photo in ("coffee", "chelsea")]).double()
    with torch.no_grad():
        targets = model(batch).argmax(1)
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        expected = captum.attr.GuidedGradCam(model, model.get_submodule(layer)).attribute(
            batch.clone().requires_grad_(), target=targets, interpolate_mode="bilinear"
        )
    with unchanged(model):
        result = guided.gradcam(model, batch, targets, layer=layer)
    close(result, expected.detach())
    if last:  # the layer that it takes where none is named
        assert torch.equal(guided.gradcam(model, batch), result)


def test_guided_gradcam_is_the_product():
    model, image = models.load("lecturenet", device="cpu"), images(1, 96)[0].float()
    expected = guided.backprop(model, image, 4) * cam.gradcam(model, image, 4)
    torch.testing.assert_close(guided.gradcam(model, image, 4), expected)


def test_a_batch_is_its_images_and_none_is_the_predicted_class():
    model, batch = tiny(), images(3, 32).float()
    predicted = model(batch).argmax(1)
    for function in (guided.backprop, guided.gradcam):
        together = function(model, batch)
        torch.testing.assert_close(together, function(model, batch, predicted))
        for image, target, one in zip(batch, predicted.tolist(), together):
            torch.testing.assert_close(function(model, image, target), one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Identity])
def test_where_the_rule_would_do_nothing_it_says_so(activation):
    head = [layer for _, layer in networks.head(4)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation(), *head).eval()
    with unchanged(model), pytest.raises(ValueError):
        guided.backprop(model, images(1, 16).float(), 0)


def test_after_an_error_the_network_is_as_it_was():
    model, image = tiny(), images(1, 32)[0].float()
    with unchanged(model), pytest.raises(ValueError, match="7"):
        guided.backprop(model, image, 7)
    with unchanged(model), pytest.raises(LookupError):
        guided.gradcam(model, image, 0, layer="conv9")
    plain = saliency.gradient(model, image, 0, signed=True)
    assert not torch.allclose(guided.backprop(model, image, 0), plain)
    torch.testing.assert_close(saliency.gradient(model, image, 0, signed=True), plain)


def test_weights_get_no_gradient_and_the_image_is_not_touched():
    model, image, other = tiny(), images(1)[0].float().requires_grad_(), images(1).float()
    for function in (guided.backprop, guided.gradcam):
        function(model, image, 1)
        assert not function(model, other, 1).requires_grad and not other.requires_grad
    assert image.grad is None and all(weight.grad is None for weight in model.parameters())
