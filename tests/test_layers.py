"""Recording, stopping at a layer, folding, receptive fields (against what pixels do), and the rules for ReLU."""

import copy
from functools import cache

import captum.attr
import networks
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSES, Functional, Modular, Pair, Twice, calibrated, images, seeded, tiny, unchanged
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models import vgg

from helpers import layers, models, photos, saliency
from helpers.layers import folding


@cache
def built(name):
    return getattr(networks, name)()


# ------------------------------------------------------------------------------------- record, run_to, trace_maps


def test_find_takes_paths_with_and_without_the_wrapper():
    body = tiny()
    model = models.Classifier(body)
    assert layers.find(model, "conv2") is layers.find(model, "network.conv2") is body.conv2
    assert layers.find(models.load(device="cpu"), "conv_head").out_channels == 1280
    with pytest.raises(LookupError, match="near matches: .*conv2"):
        layers.find(model, "conv22")
    with pytest.raises(LookupError):
        layers.find(model, "body")


def test_record_and_run_to_give_what_the_layers_compute(exact_device):
    model, batch = tiny().double().to(exact_device), images(2).to(exact_device)
    expected, value = {}, batch
    for name, module in model.named_children():
        value = module(value)
        expected[name] = value.detach().clone()  # before the next layer works in place
    names = list(expected)
    with unchanged(model), layers.record(model, names) as activations, torch.no_grad():
        model(batch)
    assert list(activations) == names
    for name in names:
        assert torch.equal(activations[name], expected[name]), name
        with torch.no_grad():
            assert torch.equal(layers.run_to(model, name, batch), expected[name]), name
    assert expected["norm1"].min() < 0, "the ReLU after it changes something"


def test_record_changes_no_output_and_keeps_the_graph(device):
    model, batch = tiny().to(device), images(2).float().to(device).requires_grad_()
    plain = model(batch)
    with layers.record(model, ["norm1", "conv2"]) as activations:
        logits = model(batch)
    assert torch.equal(plain, logits)
    above, below = torch.autograd.grad(logits[:, 0].sum(), [activations["norm1"], batch], retain_graph=True)
    assert above.abs().sum() > 0 and below.abs().sum() > 0
    reached = layers.run_to(model, "norm1", batch)
    direct, recorded = (torch.autograd.grad(value.sum(), batch)[0] for value in (reached, activations["norm1"]))
    assert torch.equal(direct, recorded)


def test_record_keeps_the_last_forward_pass_and_the_last_run_of_a_module():
    model, first, second = tiny(), images(1, seed=1).float(), images(1, seed=2).float()
    with layers.record(model, ["conv1"]) as activations:
        model(first)
        model(second)
    assert torch.equal(activations["conv1"], model.conv1(second))
    twice = calibrated(seeded(Twice))
    with layers.record(twice, ["again"]) as activations:
        twice(first)
    hidden = twice.conv(first)
    once = twice.again(twice.relu(twice.norm(hidden)) + hidden)
    assert torch.equal(layers.run_to(twice, "again", first), once)
    assert torch.equal(activations["again"], twice.again(once.relu()))


def test_recordings_nest():
    model, batch = tiny(), images(1).float()
    with layers.record(model, ["conv1"]) as outer:
        with layers.record(model, ["conv1", "conv2"]) as inner:
            model(batch)
        assert torch.equal(outer["conv1"], inner["conv1"])
        model(batch * 0.5)
    assert not torch.equal(outer["conv1"], inner["conv1"])


def test_nothing_after_the_layer_is_computed():
    class Never(nn.Module):
        def forward(self, pixels):
            raise AssertionError("computed")

    model = tiny()
    model.pool = Never()
    layers.run_to(model, "relu2", images(1).float())


def test_a_layer_that_returns_no_tensor_is_refused():
    model, batch = Pair(), images(1).float()
    with unchanged(model), pytest.raises(TypeError, match="'pool' returns a tuple"), layers.record(model, ["pool"]):
        model(batch)
    with unchanged(model), pytest.raises(TypeError, match="'pool' returns a tuple"):
        layers.run_to(model, "pool", batch)


def test_record_refuses_one_string_and_an_unknown_layer_among_known_ones():
    model = tiny()
    with unchanged(model), pytest.raises(TypeError, match=r"\['conv1'\]"), layers.record(model, "conv1"):
        pass
    with unchanged(model), pytest.raises(LookupError, match="conv2"), layers.record(model, ["conv1", "conv3"]):
        pass


def test_evaluating_restores_each_flag_and_the_gradient_mode():
    model = tiny().train()
    model.norm1.eval()
    with unchanged(model):
        with layers.evaluating(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
        with torch.no_grad(), layers.evaluating(model, gradients=True):
            assert torch.is_grad_enabled()
        with torch.inference_mode(), layers.evaluating(model, gradients=True):
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with pytest.raises(RuntimeError), layers.evaluating(model):
            raise RuntimeError


def test_trace_maps_lists_what_makes_maps_in_order():
    assert layers.trace_maps(tiny(), images(1).float()) == {
        "conv1": (8, 32, 32), "norm1": (8, 32, 32), "relu1": (8, 32, 32),
        "conv2": (12, 16, 16), "norm2": (12, 16, 16), "relu2": (12, 16, 16),
    }  # fmt: skip
    shapes = layers.trace_maps(models.Classifier(built("resnet18").float().cpu()), images(1, 64).float())
    assert "maxpool" not in shapes and "avgpool" not in shapes and "network.layer4" not in shapes
    assert list(shapes)[-1] == "layer4" and shapes["layer1"] == (64, 16, 16)
    assert layers.trace_maps(nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)), images(1).float()) == {}


# ------------------------------------------------------------------------------------------ folding


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "lite0", "googlenet"])
def test_the_folded_network_is_the_same_function(name, exact_device):
    model = built(name).double().to(exact_device)
    batch = torch.stack([photos.load("coffee", 64), photos.load("rocket", 64)]).double().to(exact_device)
    with unchanged(model):
        folded = layers.fold_batch_norm(model, batch[:1])
    with torch.no_grad():
        expected, actual = model(batch), folded(batch)
    assert (actual - expected).abs().max() <= 1e-10 * expected.abs().max()

    def norms(network):
        return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())

    if name == "densenet121":  # half of its batch norms come before a rectifier, not after a convolution
        assert norms(folded) < 0.6 * norms(model)
    else:
        assert norms(model) > 15 and norms(folded) == 0


class Odd(nn.Module):
    """A convolution and a batch norm that must not be folded: ``kind`` says why."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.other, self.linear = nn.BatchNorm2d(8), nn.Linear(8, CLASSES)

    def forward(self, pixels):
        made = self.conv(pixels)
        if self.kind == "used twice":
            hidden = self.norm(made) + made
        elif self.kind == "norm runs twice":
            hidden = self.norm(self.norm(made))
        elif self.kind == "two norms":
            hidden = self.norm(made) + self.other(made)
        elif self.kind == "convolution runs twice":
            hidden = self.norm(self.conv(pixels.flip(3))) + made
        elif self.kind == "rectified in between":
            hidden = self.norm(made.relu_())
        elif self.kind == "read by name":
            hidden = self.norm(made) * self.norm.running_var.view(1, -1, 1, 1)
        return self.linear(hidden.relu().mean((2, 3)))


@pytest.mark.parametrize(
    "kind",
    ["used twice", "norm runs twice", "two norms", "convolution runs twice", "rectified in between", "read by name"],
)
def test_where_folding_would_be_wrong_the_numbers_stay_right(kind):
    model, batch = calibrated(seeded(Odd, kind)).double(), images(4)
    try:
        folded = layers.fold_batch_norm(model, batch[:1])
    except AttributeError:
        assert kind == "read by name"  # an error is no wrong picture
        return
    with torch.no_grad():
        torch.testing.assert_close(folded(batch), model(batch), rtol=1e-10, atol=1e-12)


def test_folding_keeps_the_activation_inside_timms_batch_norm():
    model = built("lite0").double().cpu()
    inner = [
        m for m in model.modules() if isinstance(m, nn.BatchNorm2d) and isinstance(getattr(m, "act", None), nn.ReLU6)
    ]
    assert inner
    folded = layers.fold_batch_norm(model, images(1, 64))
    assert sum(isinstance(m, nn.ReLU6) for m in folded.modules()) == sum(
        isinstance(m, nn.ReLU6) for m in model.modules()
    )


def test_a_network_in_training_mode_is_folded_as_in_evaluation_mode():
    model, batch = tiny().double(), images(3)
    expected = model(batch)
    model.train()
    with unchanged(model):
        folded = layers.fold_batch_norm(model, batch)
    torch.testing.assert_close(folded.eval()(batch), expected, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------------------------------ receptive fields


def touched(model, layer, size, pixels, axis):
    """For each of ``pixels`` along ``axis`` (2: rows, 3: columns), the units of ``layer`` along it that depend on it.

    A row of NaN makes exactly those units NaN whose value depends on it, through whatever operation.
    """
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(
        lambda module, inputs, output: kept.append(output.clone())
    )
    batch = torch.full((len(pixels), 3, size, size), 0.5, dtype=torch.float64)
    for picture, pixel in zip(batch, pixels):
        picture.select(axis - 1, pixel).fill_(float("nan"))
    with torch.no_grad():
        model(batch)
    handle.remove()
    return kept[0].isnan().any(1).any(5 - axis - 1)  # (pixels, units)


def compare(model, layer, size, *, gaps=False, every_pixel=False):
    """Analytic against measured, for every unit of the layer and for the pixels at and beside the boxes' borders."""
    field = layers.receptive_field(model, layer, size)
    path = layer if layer in dict(model.named_modules()) else f"network.{layer}"
    for axis in (2, 3):
        first = touched(model, path, size, [0], axis)
        units = first.shape[1]
        boxes = [field.box(unit, 0)[::2] if axis == 2 else field.box(0, unit)[1::2] for unit in range(units)]
        chosen = {0, 1, units // 2, units - 2, units - 1} & set(range(units))
        pixels = {edge + shift for unit in chosen for edge in boxes[unit] for shift in (-1, 0)} | {0, size - 1}
        pixels = list(range(size)) if every_pixel else sorted(pixels & set(range(size)))
        measured = touched(model, path, size, pixels, axis)
        for unit, (start, end) in enumerate(boxes):
            if every_pixel and not measured[:, unit].any():
                continue  # it sees nothing but padding
            inside = torch.tensor([start <= pixel < end for pixel in pixels])
            if not gaps:
                assert measured[:, unit].tolist() == inside.tolist(), (layer, axis, unit, start, end)
                continue
            assert not (measured[:, unit] & ~inside).any(), (layer, axis, unit)
            low = field.start[axis - 2] + field.stride[axis - 2] * unit
            if low == start and start in pixels:
                assert measured[pixels.index(start), unit]
            if low + field.size[axis - 2] == end and end - 1 in pixels:
                assert measured[pixels.index(end - 1), unit]
    return field


def alexnet():
    return torchvision.models.AlexNet().features.eval().double()


@pytest.mark.parametrize(
    "name, layer, size, expected",
    [
        ("alexnet", "0", 96, (11, 4)),
        ("alexnet", "2", 96, (19, 8)),
        ("alexnet", "5", 127, (67, 16)),
        ("alexnet", "5", 100, (67, 16)),  # the pooling leaves pixels over, which no unit sees
        ("alexnet", "12", 224, (195, 32)),
        ("vgg11", "features.2", 64, (4, 2)),
        ("vgg11", "features.8", 64, (26, 4)),
        ("vgg11", "features.20", 96, (150, 32)),
        ("resnet18", "conv1", 64, (7, 2)),
        ("resnet18", "layer1", 64, (43, 4)),
        ("resnet18", "layer2.0", 100, None),
        ("resnet18", "layer3", 96, None),
        ("lite0", "blocks.0", 64, None),
        ("lite0", "blocks.2.0", 100, None),  # TensorFlow's padding depends on the image's size
        ("lite0", "blocks.3", 97, None),
        ("googlenet", "inception3a", 64, None),  # branches with different fields
        ("densenet121", "features.denseblock1", 64, None),
        ("mobilenet_v2", "features.4", 64, None),
    ],
)
def test_the_analytic_field_is_what_the_pixels_do(name, layer, size, expected):
    model = alexnet() if name == "alexnet" else built(name).double().cpu()
    field = compare(model, layer, size)
    if expected is not None:  # published for these networks (Araujo et al. 2019)
        assert (field.size[0], field.stride[0]) == expected and field.size[0] == field.size[1]


def lecturenet():
    return seeded(models.LectureNet, 20).double().eval()


def vgg16():
    return vgg.make_layers(vgg.cfgs["D"]).double().eval()


class Linear(TorchFunctionMode):
    """Rectifiers let everything through, so that a saturated one cuts no gradient."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if layers.rectifier_limits(getattr(func, "__name__", "").strip("_"), args, kwargs or {}):
            return args[0]
        return func(*args, **(kwargs or {}))


def thin(model):
    """A copy with one positive channel everywhere: the geometry is the same, and no gradient is cancelled."""
    model = copy.deepcopy(model).double().cpu()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            inputs = 3 if module.weight.shape[1] == 3 else 1
            module.weight = nn.Parameter(0.1 + torch.rand(1, inputs, *module.kernel_size, dtype=torch.float64))
            module.bias, module.groups = None, 1
        if isinstance(module, nn.BatchNorm2d):
            for part in ("weight", "bias", "running_mean", "running_var"):
                getattr(module, part).data = torch.ones(1, dtype=torch.float64)
        if isinstance(module, nn.Linear):
            module.weight, module.bias = nn.Parameter(torch.ones(module.out_features, 1, dtype=torch.float64)), None
    return model


def averaging(model):
    """A copy whose max pools take the mean: of a maximum's window one pixel alone has a gradient."""
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.MaxPool2d):
            options = (module.kernel_size, module.stride, module.padding)
            folding._replace(model, name, nn.AvgPool2d(*options, ceil_mode=module.ceil_mode))
    return model


@pytest.mark.parametrize("size", [(75, 64), (64, 98)], ids=str)
@pytest.mark.parametrize("name", ["lecturenet", "alexnet", "vgg16", "resnet18", "lite0"])
def test_the_field_of_every_layer_is_the_box_of_its_gradient(name, size):
    model = thin(globals()[name]() if name in globals() else built(name))
    pixels = torch.rand(5, 3, *size, dtype=torch.float64).requires_grad_()  # an image for each unit
    linear, outputs = averaging(model), {}
    modules = {path.removeprefix("network."): module for path, module in linear.named_modules()}
    names = list(layers.trace_maps(model, pixels.detach()[:1]))
    for layer in names:  # of a module that runs twice the first run counts

        def keep(module, arguments, output, layer=layer):
            outputs.setdefault(layer, output)
            return output * 1  # what works in place works on another

        modules[layer].register_forward_hook(keep)
    with Linear():
        linear(pixels)
    for layer in names:
        height, width = outputs[layer].shape[2:]
        field = layers.receptive_field(model, layer, size)
        units = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1), (height // 2, width // 3)]
        chosen = sum(outputs[layer][image, 0, row, col] for image, (row, col) in enumerate(units))
        (gradient,) = torch.autograd.grad(chosen, pixels, retain_graph=True)
        for (row, col), image in zip(units, gradient):
            seen, box = image.sum(0) > 0, field.box(row, col)
            assert seen[box.slices].all() and seen.sum() == box.area, (layer, row, col)
    assert len(names) >= 10


@st.composite
def stacks(draw):
    steps, gaps = [nn.Conv2d(3, 3, 1)], False
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "max", "avg", "pad"]))
        kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        half = tuple(side // 2 for side in kernel)
        padding = tuple(draw(st.integers(0, most)) for most in half)
        dilation = draw(st.sampled_from([1, 1, 2])) if kind in ("conv", "max") else 1
        gaps |= dilation > 1 or any(s > k for s, k in zip(stride, kernel))
        if kind == "conv":
            if draw(st.booleans()) and dilation == 1 and stride == (1, 1):
                padding = "same"
            steps.append(nn.Conv2d(3, 3, kernel, stride, padding, dilation))
        elif kind == "max":
            steps.append(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans())))
        elif kind == "avg":
            steps.append(nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans())))
        else:
            steps.append(nn.ZeroPad2d(draw(st.tuples(*[st.integers(0, 2)] * 4))))
        if draw(st.booleans()):
            steps.append(draw(st.sampled_from([nn.ReLU(inplace=True), nn.BatchNorm2d(3), nn.Hardtanh()])))
    return nn.Sequential(nn.Sequential(*steps), nn.Identity()), gaps


@settings(max_examples=40, deadline=None)
@given(stacks())
def test_the_analytic_field_holds_for_any_stack(stack):
    model, gaps = stack
    model = model.double().eval()
    try:
        model(images(1, 40))
    except RuntimeError:
        return  # nothing is left of so small an image
    compare(model, "0", 40, gaps=gaps, every_pixel=True)


def test_a_field_by_hand():
    """Two 3×3 convolutions, the first with stride 2, both with padding 1: 7 pixels, from 3 to the left."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1))
    field = layers.receptive_field(model, "1", 16)
    assert (field.size, field.stride, field.start) == ((7, 7), (2, 2), (-3, -3))
    assert field.box(0, 0) == (0, 0, 4, 4) and field.box(3, 4) == (3, 5, 10, 12) and field.box(7, 7) == (11, 11, 16, 16)
    first = layers.receptive_field(model, "0", 16)
    with pytest.raises(ValueError, match="stride"):
        field.union(layers.ReceptiveField((1, 1), (1, 1), (0, 0), field.seen))
    assert field.union(first) == field


class Then(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.end, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Identity(), nn.Linear(8, 2)
        self.function = function

    def forward(self, pixels):
        return self.linear(self.end(self.function(self.conv(pixels))).mean((2, 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.group_norm(x, 2),
        lambda x: F.instance_norm(x),
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda x: x.softmax(3),
        lambda x: F.conv_transpose2d(x, torch.ones(8, 8, 3, 3), padding=1),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
        lambda x: x @ x.transpose(2, 3),
        lambda x: x.roll(1, 2),
        lambda x: x.flip(2),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.cumsum(2),
    ],
    ids="group instance layer softmax transposed resize circular matmul roll flip permute cumsum".split(),
)
def test_an_operation_without_a_rule_is_an_error_not_a_wrong_field(function):
    model = Then(function)
    with unchanged(model), pytest.raises(ValueError, match="no receptive field rule|does not return maps"):
        layers.receptive_field(model, "end", 32)


def test_a_network_without_weights_has_a_field():
    field = layers.receptive_field(nn.Sequential(nn.MaxPool2d(3, 2), nn.AvgPool2d(2)), "1", 32)
    assert (field.size, field.stride) == ((5, 5), (4, 4))


def test_a_layer_without_maps_has_no_field():
    with pytest.raises(ValueError, match="maps|rule"):
        layers.receptive_field(tiny(), "linear", 32)


# ------------------------------------------------------------------------------------------ rules for ReLU


def explained(model, batch, targets, rule):
    with layers.relu_rule(model, rule):
        return saliency.gradient(model, batch, targets, signed=True)


class Reference(torch.autograd.Function):
    """The three rules once more, by the table of chapter 4."""

    @staticmethod
    def forward(ctx, value, low, high, rule):
        ctx.save_for_backward(value)
        ctx.limits, ctx.rule = (low, high), rule
        return torch.where(value < low, low, torch.where(value > high, high, value))

    @staticmethod
    def backward(ctx, gradient):
        (value,), (low, high) = ctx.saved_tensors, ctx.limits
        passes = torch.ones_like(gradient)
        if ctx.rule in ("gradient", "guided"):
            passes[(value <= low) | (value >= high)] = 0
        if ctx.rule in ("deconvnet", "guided"):
            passes[gradient <= 0] = 0
        return torch.where(passes == 1, gradient, 0.0), None, None, None


def by_reference(monkeypatch, model, batch, targets, rule):
    """PyTorch's own functions replaced, wherever they are called from."""
    with monkeypatch.context() as patch:
        patch.setattr(F, "relu", lambda x, inplace=False: Reference.apply(x, 0.0, float("inf"), rule))
        patch.setattr(F, "relu6", lambda x, inplace=False: Reference.apply(x, 0.0, 6.0, rule))
        patch.setattr(F, "hardtanh", lambda x, low=-1.0, high=1.0, inplace=False: Reference.apply(x, low, high, rule))
        pixels = batch.clone().requires_grad_()
        chosen = model(pixels).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(chosen, pixels)[0]


def shufflenet():
    return calibrated(seeded(torchvision.models.shufflenet_v2_x0_5, num_classes=20))


def squeezenet():
    return calibrated(seeded(torchvision.models.squeezenet1_1, num_classes=20))


NETWORKS = ["resnet18", "vgg11", "googlenet", "densenet121", "mobilenet_v2", "lite0", "shufflenet", "squeezenet"]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_rule_at_every_rectifier_of_every_network(name, monkeypatch, exact_device):
    """Functional ReLU (GoogLeNet, DenseNet's last), ReLU6 (MobileNet, Lite0), in place or not, a batch of three."""
    model = (built(name) if hasattr(networks, name) else globals()[name]()).double().to(exact_device)
    batch = images(3, 64).to(exact_device)
    with torch.no_grad():  # classes that something speaks for: SqueezeNet's logits are rectified
        targets = model(batch).topk(2).indices[[0, 1, 2], [0, 1, 0]]
    results = {}
    for rule in layers.RULES:
        expected = by_reference(monkeypatch, model, batch, targets, rule)
        with unchanged(model):
            results[rule] = explained(model, batch, targets, rule)
        assert (results[rule] - expected).abs().max() <= 1e-9 * expected.abs().max()
        for row in range(3):
            assert expected[row].abs().max() > 0
    plain = saliency.gradient(model, batch, targets, signed=True)
    assert (results["gradient"] - plain).abs().max() <= 1e-12 * plain.abs().max()
    for first, second in (("gradient", "guided"), ("gradient", "deconvnet"), ("guided", "deconvnet")):
        assert (results[first] - results[second]).abs().max() > 1e-2 * results[second].abs().max()


BY_CAPTUM = {"guided": captum.attr.GuidedBackprop, "deconvnet": captum.attr.Deconvolution}


def by_captum(model, batch, targets, rule):
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        return BY_CAPTUM[rule](model).attribute(batch.clone().requires_grad_(), target=targets).detach()


@pytest.mark.parametrize("rule", BY_CAPTUM)
@pytest.mark.parametrize("name", ["resnet18", "vgg11", "squeezenet"])
def test_equals_captum_where_every_rectifier_is_a_module(name, rule):
    model = (built(name) if hasattr(networks, name) else globals()[name]()).double().cpu()
    batch, targets = images(2, 64), torch.tensor([3, 11])
    expected = by_captum(model, batch, targets, rule)
    result = explained(model, batch, targets, rule)
    assert (result - expected).abs().max() <= 1e-9 * expected.abs().max()


@pytest.mark.parametrize("rule", BY_CAPTUM)
def test_a_functional_relu_makes_captum_silently_plain_and_not_us(rule):
    functional = seeded(Functional).double()
    batch, targets = images(2), torch.tensor([3, 5])
    plain = saliency.gradient(functional, batch, targets, signed=True)
    assert torch.equal(by_captum(functional, batch, targets, rule), plain)  # captum's defect
    result = explained(functional, batch, targets, rule)
    assert (result - plain).abs().max() > 0.05 * plain.abs().max()
    right = by_captum(Modular(functional), batch, targets, rule)
    torch.testing.assert_close(result, right, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("rule", BY_CAPTUM)
@pytest.mark.parametrize("name", ["googlenet", "densenet121", "mobilenet_v2", "lite0"])
def test_where_captum_misses_rectifiers_and_we_do_not(name, rule, monkeypatch):
    """GoogLeNet's are functions, MobileNet's and Lite0's are ReLU6: captum returns the plain gradient. Of DenseNet's
    it misses the last one.
    """
    model, batch, targets = built(name).double().cpu(), images(2, 64), torch.tensor([3, 11])
    expected = by_reference(monkeypatch, model, batch, targets, rule)
    theirs, ours = by_captum(model, batch, targets, rule), explained(model, batch, targets, rule)
    assert (ours - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert (theirs - expected).abs().max() > 0.05 * expected.abs().max()
    plain = saliency.gradient(model, batch, targets, signed=True)
    assert ((theirs - plain).abs().max() <= 1e-9 * plain.abs().max()) == (name != "densenet121")


RECTIFIERS = {
    "F.relu": (F.relu, 0, None),
    "F.relu in place": (lambda x: F.relu(x, inplace=True), 0, None),
    "F.relu, in place by position": (lambda x: F.relu(x, True), 0, None),
    "F.relu_": (F.relu_, 0, None),
    "torch.relu": (torch.relu, 0, None),
    "torch.relu by keyword": (lambda x: torch.relu(input=x), 0, None),
    "torch.relu_": (torch.relu_, 0, None),
    "Tensor.relu": (lambda x: x.relu(), 0, None),
    "Tensor.relu_": (lambda x: x.relu_(), 0, None),
    "nn.ReLU": (nn.ReLU(), 0, None),
    "nn.ReLU in place": (nn.ReLU(inplace=True), 0, None),
    "F.relu6": (F.relu6, 0, 6),
    "nn.ReLU6": (nn.ReLU6(), 0, 6),
    "nn.ReLU6 in place": (nn.ReLU6(inplace=True), 0, 6),
    "F.hardtanh": (F.hardtanh, -1, 1),
    "F.hardtanh by position": (lambda x: F.hardtanh(x, -0.2, 0.3), -0.2, 0.3),
    "F.hardtanh by keyword": (lambda x: F.hardtanh(x, max_val=0.3, min_val=-0.2), -0.2, 0.3),
    "F.hardtanh, one limit": (lambda x: F.hardtanh(x, -0.2), -0.2, 1),
    "F.hardtanh_": (lambda x: F.hardtanh_(x, -0.2, 0.3), -0.2, 0.3),
    "nn.Hardtanh": (nn.Hardtanh(-0.2, 0.3), -0.2, 0.3),
    "nn.Hardtanh in place": (nn.Hardtanh(-0.2, 0.3, inplace=True), -0.2, 0.3),
    "clamp": (lambda x: x.clamp(0, 0.3), 0, 0.3),
    "clamp(min=0)": (lambda x: torch.clamp(x, min=0), 0, None),
    "clamp(min=0.0)": (lambda x: x.clamp(min=0.0), 0, None),
    "clamp_": (lambda x: x.clamp_(min=0), 0, None),
    "clip": (lambda x: torch.clip(x, 0, 0.3), 0, 0.3),
    "clamp_min": (lambda x: x.clamp_min(0), 0, None),
    "clamp_min_": (lambda x: x.clamp_min_(0), 0, None),
    "F.threshold": (lambda x: F.threshold(x, 0, 0), 0, None),
    "nn.Threshold": (nn.Threshold(0.0, 0.0), 0, None),
}


@pytest.mark.parametrize("rule", layers.RULES)
@pytest.mark.parametrize("name", RECTIFIERS)
def test_every_way_to_write_a_rectifier(name, rule):
    rectify, low, high = RECTIFIERS[name]
    high = float("inf") if high is None else float(high)
    reference = seeded(Functional, lambda x: Reference.apply(x, float(low), high, rule)).double()
    model = seeded(Functional, rectify).double()
    batch, targets = images(2), torch.tensor([3, 5])
    pixels = batch.clone().requires_grad_()
    expected = torch.autograd.grad(reference(pixels).gather(1, targets[:, None]).sum(), pixels)[0]
    result = explained(model, batch, targets, rule)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-14)
    with torch.no_grad():
        before = model(batch)
        with layers.relu_rule(model, rule):
            assert torch.equal(model(batch), before)


@pytest.mark.parametrize("also", [True, False], ids=["beside a ReLU", "alone"])
@pytest.mark.parametrize(
    "activation",
    [
        nn.SiLU(), nn.SiLU(inplace=True), nn.GELU(), nn.Mish(), nn.Hardswish(), nn.ELU(), nn.ELU(inplace=True),
        nn.CELU(), nn.SELU(), nn.Softplus(), nn.LeakyReLU(), nn.LeakyReLU(inplace=True), nn.PReLU(), nn.RReLU(),
        nn.Tanh(), torch.tanh, torch.tanh_, nn.LogSigmoid(), nn.Softsign(), nn.Tanhshrink(), F.leaky_relu_, F.elu_,
        nn.Hardshrink(), nn.Softshrink(),
    ],
    ids=lambda activation: f"{getattr(activation, '__name__', activation)}",
)  # fmt: skip
def test_another_activation_is_refused(activation, also):
    model = seeded(Functional, (lambda x: activation(F.relu(x) - 0.1)) if also else activation)
    for rule in ("guided", "deconvnet"):
        with unchanged(model), pytest.raises(ValueError, match="ReLU"):
            explained(model, images(1).float(), 1, rule)
    saliency.gradient(model, images(1).float(), 1)  # and the network still runs


def test_a_network_without_any_rectifier_is_refused():
    model = seeded(Functional, lambda x: x)
    with unchanged(model), pytest.raises(ValueError, match="met no ReLU"):
        explained(model, images(1).float(), 1, "guided")


@pytest.mark.parametrize("rule", ["Guided", "", None, "lrp"])
def test_an_unknown_rule_is_refused(rule):
    model = tiny()
    with (
        unchanged(model),
        pytest.raises(ValueError, match="gradient, deconvnet, guided"),
        layers.relu_rule(model, rule),
    ):
        pass


def test_the_rule_ends_with_the_block_and_holds_for_its_network_only():
    model, other, batch = tiny(), seeded(Functional), images(1).float()
    plain, elsewhere = (saliency.gradient(network, batch, 1) for network in (model, other))
    with layers.relu_rule(model, "guided"):
        guided = saliency.gradient(model, batch, 1)
        assert torch.equal(saliency.gradient(other, batch, 1), elsewhere)
    assert not torch.equal(guided, plain)
    assert torch.equal(saliency.gradient(model, batch, 1), plain)


def test_the_backward_pass_may_come_after_the_block():
    """The rule belongs to the forward pass inside the block."""
    model, batch = tiny().double(), images(1)
    with layers.relu_rule(model, "guided"):
        pixels = batch.clone().requires_grad_()
        score = model(pixels)[0, 1]
        inside = saliency.gradient(model, batch, 1, signed=True)
    after = torch.autograd.grad(score, pixels)[0]
    assert torch.equal(after, inside)
