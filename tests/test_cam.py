"""CAM and Grad-CAM against captum, against each other, and against what can be worked out by hand."""

from functools import cache

import networks
import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import LayerGradCam
from networks import CLASSES, Twice, calibrated, images, seeded, tiny, unchanged
from torch import nn

from helpers import cam, layers, models, photos


@cache
def built(name):
    return getattr(networks, name)()


def picture(device, size=96):
    return torch.stack([photos.load("coffee", size), photos.load("chelsea", size)]).double().to(device)


LAYERS = [
    ("lite0", "network.bn2"),
    ("lite0", "network.blocks.3"),
    ("lite0", "network.blocks.5.1.conv_pw"),
    ("resnet18", "layer4"),
    ("resnet18", "layer2.0.conv1"),
    ("resnet18", "layer4.1.bn2"),  # the block adds to it and rectifies in place
    ("vgg11", "features.18"),  # a convolution whose ReLU is in place
    ("vgg11", "features.19"),
    ("vgg11", "features.20"),
]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("name, layer", LAYERS)
def test_gradcam_equals_captum_in_float64(name, layer, relu, exact_device):
    model, batch = built(name).double().to(exact_device), picture(exact_device)
    by_captum = LayerGradCam(model, model.get_submodule(layer))
    positive = False
    for targets in (model(batch).argmax(1), torch.tensor([3, 11], device=exact_device)):
        signed, expected = (
            by_captum.attribute(batch, target=targets, relu_attributions=rectified)[:, 0].detach()
            for rectified in (False, relu)
        )
        tolerance = 1e-6 * signed.abs().max()
        result = cam.gradcam(model, batch, targets, layer=layer, relu=relu, upsample=False)
        assert (result - expected).abs().max() <= tolerance
        resized = F.interpolate(expected[:, None], size=(96, 96), mode="bilinear", align_corners=False)[:, 0]
        result = cam.gradcam(model, batch, targets, layer=layer, relu=relu)
        assert (result - resized).abs().max() <= tolerance
        positive |= bool(expected.max() > 0)
    assert positive, "a map of zeros compares nothing"


GAP = ["lite0", "resnet18", "googlenet", "mobilenet_v2"]


@pytest.mark.parametrize("name", GAP)
def test_rectified_cam_is_gradcam_times_the_area(name, exact_device):
    model, batch = built(name).double().to(exact_device), picture(exact_device)
    lowest, highest = 0, 0
    for target in (None, 7, torch.tensor([0, 19])):
        maps = cam.cam(model, batch, target, upsample=False)
        area = maps.shape[1] * maps.shape[2]
        gradients = cam.gradcam(model, batch, target, upsample=False)
        assert maps.shape[1:] == (3, 3) == gradients.shape[1:]
        assert (maps.relu() - area * gradients).abs().max() <= 1e-9 * maps.abs().max()
        signed = cam.gradcam(model, batch, target, relu=False, upsample=False)
        assert (maps - area * signed).abs().max() <= 1e-9 * maps.abs().max()
        lowest, highest = min(lowest, maps.min()), max(highest, maps.max())
    assert lowest < 0 < highest


@pytest.mark.parametrize("name", GAP)
def test_the_mean_of_cam_and_the_bias_are_the_logit(name, exact_device):
    model, batch = built(name).double().to(exact_device), picture(exact_device)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    targets = torch.tensor([5, 2])
    maps = cam.cam(model, batch, targets, upsample=False)
    with torch.no_grad():
        logits = model(batch).cpu().gather(1, targets[:, None])[:, 0]
    bias = linear.bias.detach().cpu()[targets]
    torch.testing.assert_close(maps.mean((1, 2)).cpu() + bias, logits, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_cam_finds_the_last_maps_whatever_their_scale(scale):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    )  # fmt: skip
    for weight in model.parameters():
        weight.data *= scale
    image = images(1)[0].float()
    maps = model[:4](image[None])[0]
    expected = torch.einsum("k,khw->hw", model[6].weight[3], maps).detach()
    result = cam.cam(model, image, 3, upsample=False)
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "vgg", "vit"])
def test_cam_refuses_a_network_without_pooling_and_one_linear_layer(name):
    if name == "vgg":
        model, size = built("vgg11").float().cpu(), 64
    elif name == "vit":
        options = {"image_size": 32, "patch_size": 16, "num_layers": 1, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
        model, size = torchvision.models.VisionTransformer(**options), 32
    elif name == "alexnet":  # its own linear layers have 58 million weights
        wide = nn.Sequential(nn.Flatten(), nn.Linear(256 * 36, 256), nn.ReLU(), nn.Linear(256, CLASSES))
        model, size = nn.Sequential(torchvision.models.AlexNet().features, nn.AdaptiveAvgPool2d(6), wide), 64
    else:
        model, size = torchvision.models.squeezenet1_1(), 64
    model.eval()
    with unchanged(model), pytest.raises(ValueError, match="gradcam"):
        cam.cam(model, images(1, size)[0].float())
    if name != "vit":
        assert cam.gradcam(model, images(1, size)[0].float()).shape == (size, size)


def test_by_hand():
    """Two channels of 2×2, the second one counts negatively."""

    class Hand(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps, self.linear = nn.Conv2d(3, 2, 1, bias=False), nn.Linear(2, 1, bias=False)
            self.maps.weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1)
            self.linear.weight.data = torch.tensor([[2.0, -4.0]])

        def forward(self, pixels):
            return self.linear(self.maps(pixels).mean((2, 3)))

    image = torch.zeros(3, 2, 2)
    image[0], image[1] = torch.tensor([[1.0, 0.5], [0, 0]]), torch.tensor([[0, 0.5], [0, 1.0]])
    assert cam.cam(Hand(), image, 0).tolist() == [[2.0, -1.0], [0.0, -4.0]]
    assert cam.gradcam(Hand(), image, 0, layer="maps").tolist() == [[0.5, 0.0], [0.0, 0.0]]
    assert cam.gradcam(Hand(), image, 0, layer="maps", relu=False).tolist() == [[0.5, -0.25], [0.0, -1.0]]


def test_the_backward_pass_stops_at_the_layer():
    class Wall(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tensor):
            return tensor.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise AssertionError("the backward pass went below the layer")

    class Walled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = tiny()

        def forward(self, pixels):
            return self.body(Wall.apply(pixels))

    for layer in ("body.conv1", "body.relu2", None):
        cam.gradcam(Walled(), images(1)[0].float(), 1, layer=layer)


def test_of_a_module_that_runs_twice_it_is_the_last_run(exact_device):
    model = calibrated(seeded(Twice)).double().to(exact_device)
    image = images(1)[0].to(exact_device)
    first = model.conv(image[None])
    inner = model.again(model.relu(model.norm(first)) + first).relu()
    last = model.again(inner).detach().requires_grad_()
    score = model.linear(last.relu().mean((2, 3)))[0, 3]
    weights = torch.autograd.grad(score, last)[0].mean((2, 3))
    expected = torch.einsum("nk,nkhw->nhw", weights, last)[0].detach()
    result = cam.gradcam(model, image, 3, layer="again", relu=False)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


def test_the_default_layer_is_the_last_one_with_maps():
    for name, layer in (("resnet18", "layer4"), ("vgg11", "features.19")):
        model, image = built(name).float().cpu(), photos.load("coffee", 96)
        default = cam.gradcam(model, image, 2, upsample=False)
        assert torch.equal(default, cam.gradcam(model, image, 2, layer=layer, upsample=False))
        wrapped = models.Classifier(model, input_size=96, mean=(0, 0, 0), std=(1, 1, 1))
        assert torch.equal(default, cam.gradcam(wrapped, image, 2, upsample=False))


def test_it_says_where_the_class_is(device):
    """The embedded network on a photograph of a cup and a cat: each class in its own half."""
    model = built("lite0").float().to(device)
    image = torch.cat([photos.load("coffee", 160), photos.load("chelsea", 160)], dim=2)
    cup, cat = model.index("espresso"), model.index("Egyptian cat")
    for explain in (cam.cam, cam.gradcam):
        left = explain(model, image, cup).relu()
        right = explain(model, image, cat).relu()
        assert left[:, :160].sum() > 0.8 * left.sum()
        assert right[:, 160:].sum() > 0.8 * right.sum()


@pytest.mark.parametrize(
    "layer, message",
    [("linear", "maps"), ("flatten", "maps"), ("pool1.nothing", "near matches")],
)
def test_gradcam_refuses_a_layer_without_maps(layer, message):
    model = tiny()
    with unchanged(model), pytest.raises((ValueError, LookupError), match=message):
        cam.gradcam(model, images(1)[0].float(), layer=layer)


def test_gradcam_refuses_a_layer_on_which_nothing_depends():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.aside = tiny(), nn.Conv2d(3, 4, 3)

        def forward(self, pixels):
            self.aside(pixels)
            return self.body(pixels)

    model = Aside()
    with unchanged(model), pytest.raises(ValueError, match="does not depend on layer 'aside'"):
        cam.gradcam(model, images(1)[0].float(), layer="aside")
    with unchanged(pair := networks.Pair()), pytest.raises(ValueError, match="tuple"):
        cam.gradcam(pair, images(1)[0].float(), layer="pool")


def test_gradcam_refuses_to_guess_where_there_are_no_maps():
    with pytest.raises(ValueError, match="name a layer"):
        cam.gradcam(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, CLASSES)), images(1)[0].float())


def test_half_precision_and_channels_last(device):
    model, image = built("lite0").float().to(device), photos.load("coffee", 96)
    expected = cam.cam(model, image, 967).cpu()
    half = cam.cam(models.load(device=device).to(torch.bfloat16), image, 967)
    assert half.dtype == torch.bfloat16
    assert (half.cpu().float() - expected).abs().max() <= 0.1 * expected.abs().max()
    last = models.load(device=device).to(memory_format=torch.channels_last)
    assert (cam.cam(last, image, 967).cpu() - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_layers_is_used_for_the_default():
    shapes = layers.trace_maps(built("resnet18").float().cpu(), images(1, 64).float())
    assert list(shapes)[-1] == "layer4" and shapes["layer4"] == (512, 2, 2)
