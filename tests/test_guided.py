"""Guided backpropagation where captum is right, and where captum's is the plain gradient without a word."""

import captum.attr
import networks
import pytest
import torch
import torchvision
from networks import calibrated, images, seeded, tiny, unchanged
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models.vgg import make_layers

from helpers import cam, guided, layers, models, saliency

RECTIFIERS = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_"}


class ClampWhatComesBack(TorchFunctionMode):
    """Another construction of the rule: PyTorch's own backward pass, with the gradient of each output clamped first."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if function.__name__ in RECTIFIERS and result.requires_grad:
            result.register_hook(lambda gradient: gradient.clamp(min=0))
        return result


def independent(model, batch, target):
    pixels = batch.clone().requires_grad_()
    with ClampWhatComesBack():
        logits = model(pixels)
    return torch.autograd.grad(logits[:, target].sum(), pixels)[0]


def by_captum(model, batch, target):
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        return captum.attr.GuidedBackprop(model).attribute(batch.clone().requires_grad_(), target=target).detach()


def close(result, expected):
    assert expected.abs().max() > 0
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


def vgg():
    """The shape of VGG, thin."""
    features = seeded(make_layers, [8, 8, "M", 16, "M", 16, "M"])
    for module in features.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return nn.Sequential(features, nn.Flatten(), nn.Linear(16 * 36, 7)).double().eval()


def separate_relus():
    """A residual network of one block whose two ReLUs are modules of their own: captum needs that."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            return self.relu2(x + self.second(self.relu1(self.first(x))))

    stem = [nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), Block(), nn.MaxPool2d(2), Block()]
    return nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 7)).double().eval()


def with_modules(name):
    if name == "lecturenet":
        return models.load("lecturenet", device="cpu").double()
    if name == "tiny":
        model = tiny().double()
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # captum's hooks refuse in-place ReLUs
        return model
    return {"vgg": vgg, "separate_relus": separate_relus}[name]()


@pytest.mark.parametrize("name, size", [("lecturenet", 96), ("tiny", 32), ("vgg", 48), ("separate_relus", 48)])
def test_equals_captum_where_relus_are_modules(name, size):
    model, batch = with_modules(name), images(2, 96)[..., :size, :size]
    expected = by_captum(model, batch, 3)
    with unchanged(model):
        result = guided.backprop(model, batch, 3)
    close(result, expected)
    assert (result - saliency.gradient(model, batch, 3, signed=True)).norm() > 0.1 * result.norm()


def hidden(name):
    if name == "efficientnet_lite0":  # ReLU6 everywhere
        return models.load(device="cpu").double()
    options = {"aux_logits": False, "transform_input": False, "init_weights": False, "num_classes": 7}
    return calibrated(seeded(torchvision.models.GoogLeNet, **options)).double()  # F.relu in the forward pass


@pytest.mark.parametrize("name", ["efficientnet_lite0", "googlenet"])
def test_works_where_captum_returns_the_plain_gradient(name):
    model, batch = hidden(name), images(1, 96)
    plain = saliency.gradient(model, batch, 3, signed=True)
    close(by_captum(model, batch, 3), plain)
    with unchanged(model):
        result = guided.backprop(model, batch, 3)
    close(result, independent(model, batch, 3))
    assert torch.nn.functional.cosine_similarity(result.flatten(), plain.flatten(), dim=0) < 0.5


def test_by_hand():
    """One pixel, two units: each rule of the ReLU blocks one path."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).view(2, 3, 1, 1)
    model[3].weight.data = torch.tensor([[2.0, -3.0], [5.0, 7.0]])
    image = torch.full((3, 1, 1), 0.5)
    assert guided.backprop(model, image, 0).flatten().tolist() == [2, 0, 0]  # -3 comes from above and is dropped
    assert guided.backprop(model, image, 1).flatten().tolist() == [5, 7, 0]
    assert saliency.gradient(model, image, 0, signed=True).flatten().tolist() == [2, -3, 0]


@pytest.mark.parametrize("layer", ["conv2", "relu2"])
def test_guided_gradcam_equals_captum(layer):
    model, batch = with_modules("tiny"), images(2, 32)
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        expected = captum.attr.GuidedGradCam(model, model.get_submodule(layer)).attribute(
            batch.clone().requires_grad_(), target=3, interpolate_mode="bilinear"
        )
    with unchanged(model):
        result = guided.gradcam(model, batch, 3, layer=layer)
    close(result, expected.detach())


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
    with layers.relu_rule(model, "guided"):
        pass
    plain = saliency.gradient(model, image, 0, signed=True)
    assert not torch.allclose(guided.backprop(model, image, 0), plain)
    torch.testing.assert_close(saliency.gradient(model, image, 0, signed=True), plain)
