"""The contract of every public function that takes a network: what it refuses, and that it leaves the network alone."""

import contextlib
import importlib
import inspect
import pkgutil
from collections import OrderedDict

import numpy as np
import pytest
import torch
from networks import CLASSES, images, tiny, unchanged
from torch import nn

import helpers
from helpers import (
    activations,
    cam,
    deconvnet,
    embedding,
    filters,
    guided,
    inputs,
    layers,
    models,
    occlusion,
    saliency,
    scoring,
    shortcut,
)
from helpers import feature_visualization as visualization

WINDOW = {"window": 16, "stride": 16}


def recorded(model, image, layer):
    with layers.record(model, [layer]) as activations:
        model(image[None].to(next(model.parameters()).dtype))
    return activations[layer]


def ruled(model, image):
    with layers.relu_rule(model, "guided"):
        return model(image[None].to(next(model.parameters()).dtype))


HEAT = torch.arange(32.0 * 32).view(32, 32)


def batched(image):
    return image[None] if isinstance(image, torch.Tensor) and image.ndim == 3 else image


def gradient(model, image, target):
    gradients = layers.pixel_gradient(model, batched(image), target)
    return gradients if image.ndim == 4 else gradients[0]


# name: (model, image, target, layer) → result; what is left out of the signature is not used
CALLS = {
    "activations.maps": lambda model, image, layer: activations.maps(model, image, layer),
    "activations.top_patches": lambda model, image, layer: activations.top_patches(model, layer, image, k=2),
    "deconvnet.reconstruct": lambda model, image, layer: deconvnet.reconstruct(model, image, layer, 1),
    "filters.first_layer": lambda model: filters.first_layer(model),
    "models.Classifier": lambda model, image: models.Classifier(model)(batched(image)),
    "models.Classifier.predict": lambda model, image: models.Classifier(model).predict(image, k=2),
    "models.Classifier.stages": lambda model: models.Classifier(model, input_size=32).stages,
    "layers.find": lambda model, layer: layers.find(model, layer),
    "layers.last_linear": lambda model: layers.last_linear(model),
    "layers.record": recorded,
    "layers.run_to": lambda model, image, layer: layers.run_to(model, layer, batched(image)),
    "layers.trace_maps": lambda model, image: layers.trace_maps(model, batched(image)),
    "layers.pixel_gradient": gradient,
    "layers.fold_batch_norm": lambda model, image: layers.fold_batch_norm(model, batched(image)),
    "layers.receptive_field": lambda model, layer: layers.receptive_field(model, layer, 32),
    "layers.relu_rule": ruled,
    "occlusion.sensitivity": lambda model, image, target: occlusion.sensitivity(model, image, target, **WINDOW),
    "saliency.gradient": lambda model, image, target: saliency.gradient(model, image, target),
    "saliency.smoothgrad": lambda model, image, target: saliency.smoothgrad(model, image, target, samples=3),
    "feature_visualization.Objective": lambda model, image, layer: visualization.channel(layer, 0)(model, image),
    "feature_visualization.maximize": lambda model: visualization.maximize(
        model, visualization.logit(3), size=32, steps=2
    ),
    "cam.cam": lambda model, image, target: cam.cam(model, image, target),
    "cam.gradcam": lambda model, image, target, layer: cam.gradcam(model, image, target, layer=layer),
    "guided.backprop": lambda model, image, target: guided.backprop(model, image, target),
    "guided.gradcam": lambda model, image, target, layer: guided.gradcam(model, image, target, layer=layer),
    "embedding.features": lambda model, image, layer: embedding.features(model, image, layer),
    "shortcut.accuracy": lambda model, image: shortcut.accuracy(model, batched(image), torch.zeros(1)),
    "scoring.deletion": lambda model, image, target: scoring.deletion(model, image, HEAT, target, steps=3),
    "scoring.deletion_curve": lambda model, image, target: scoring.deletion_curve(model, image, HEAT, target, steps=3),
    "scoring.insertion": lambda model, image, target: scoring.insertion(model, image, HEAT, target, steps=3),
    "scoring.insertion_curve": lambda model, image, target: scoring.insertion_curve(
        model, image, HEAT, target, steps=3
    ),
    "scoring.randomisation": lambda model, image, target: scoring.randomisation(
        model, saliency.gradient, image, target
    ),
}
ARGUMENTS = {name: list(inspect.signature(call).parameters) for name, call in CALLS.items()}
# These hand the image to the network as it is, as the network itself would take it.
RAW = {"models.Classifier", "layers.record", "layers.relu_rule", "layers.pixel_gradient"}
CHECKED = [name for name, arguments in ARGUMENTS.items() if "image" in arguments and name not in RAW]
TARGETED = [name for name, arguments in ARGUMENTS.items() if "target" in arguments]
LAYERED = [name for name, arguments in ARGUMENTS.items() if "layer" in arguments]
ONE_IMAGE = [name for name in CALLS if name.startswith("scoring.")]


IMAGE = images(1)[0].float()


def call(name, model, image=IMAGE, target=2, layer="conv2"):
    given = {"image": image, "target": target, "layer": layer}
    return CALLS[name](model, **{key: value for key, value in given.items() if key in ARGUMENTS[name]})


def test_no_public_function_is_forgotten():
    """Whatever takes a network is in the table above."""
    takes_a_network = set()
    for module in pkgutil.iter_modules(helpers.__path__, "helpers."):
        for name, member in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or not inspect.isfunction(inspect.unwrap(member) if callable(member) else member):
                continue
            function = inspect.unwrap(member)
            if (
                f"{function.__module__}.".startswith(f"{module.name}.")
                and "model" in inspect.signature(function).parameters
            ):
                takes_a_network.add(f"{module.name.removeprefix('helpers.')}.{name}")
    # `inputs` is what the others are made of; these two run no image and have tests of their own.
    no_image = {"layers.evaluating", "scoring.randomised"}
    takes_a_network = {name for name in takes_a_network if not name.startswith("inputs.")} - no_image
    assert len(takes_a_network) >= 15
    assert takes_a_network <= CALLS.keys()


# ------------------------------------------------------------------------------------- what is refused

BAD_IMAGES = {
    "one channel": (IMAGE[:1], ValueError, "shape"),
    "no channels": (IMAGE[0], ValueError, "shape"),
    "channels last": (IMAGE.permute(1, 2, 0), ValueError, "permute"),
    "five dimensions": (IMAGE[None, None], ValueError, "shape"),
    "empty batch": (torch.empty(0, 3, 32, 32), ValueError, "shape"),
    "no pixels": (torch.empty(3, 0, 32), ValueError, "shape"),
    "8 bit": ((IMAGE * 255).byte(), TypeError, "255"),
    "integers": (IMAGE.long(), TypeError, "floating"),
    "complex": (IMAGE.to(torch.complex64), TypeError, "floating"),
    "array": (IMAGE.numpy(), TypeError, "ndarray"),
    "path": ("photo.jpg", TypeError, "load_image"),
    "nothing": (None, TypeError, "NoneType"),
    "NaN": (IMAGE.clone().index_fill_(2, torch.tensor([3]), float("nan")), ValueError, "nan"),
    "infinite": (IMAGE.clone().index_fill_(2, torch.tensor([3]), float("inf")), ValueError, "inf"),
    "0 to 255": (IMAGE * 255, ValueError, r"\[0, 1\]"),
    "normalised": (IMAGE * 4 - 2, ValueError, "normalise"),
    "barely out of range": (IMAGE.clone().index_fill_(2, torch.tensor([3]), 1.001), ValueError, r"\[0, 1\]"),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
@pytest.mark.parametrize("name", CHECKED)
def test_a_bad_image_is_refused(name, bad):
    image, error, message = BAD_IMAGES[bad]
    model = tiny()
    with unchanged(model), pytest.raises(error, match=message):
        call(name, model, image)


@pytest.mark.parametrize("name", ONE_IMAGE)
def test_a_batch_is_refused_where_one_image_is_meant(name):
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="image|map"):
        call(name, model, images(2).float())


BAD_TARGETS = {
    "the number of classes": (CLASSES, ValueError, f"{CLASSES} classes"),
    "5000": (5000, ValueError, f"{CLASSES} classes"),
    "-1": (-1, ValueError, f"{CLASSES} classes"),
    "tensor with -1": (torch.tensor([-1]), ValueError, f"{CLASSES} classes"),
    "true": (True, TypeError, "bool"),
    "tensor of bool": (torch.tensor([True]), TypeError, "bool"),
    "float": (2.0, TypeError, "float"),
    "tensor of float": (torch.tensor([2.0]), TypeError, "float"),
    "label": ("espresso", TypeError, "str"),
    "list": ([2], TypeError, "list"),
    "too many": (torch.tensor([1, 2, 3]), ValueError, "one an image"),
    "none of them": (torch.tensor([], dtype=torch.long), ValueError, "one an image"),
    "two dimensions": (torch.tensor([[1]]), ValueError, "one an image"),
}


@pytest.mark.parametrize("bad", BAD_TARGETS)
@pytest.mark.parametrize("name", TARGETED)
def test_a_bad_target_is_refused(name, bad):
    target, error, message = BAD_TARGETS[bad]
    model = tiny()
    with unchanged(model), pytest.raises(error, match=message):
        call(name, model, target=target)


@pytest.mark.parametrize("name", TARGETED)
def test_the_last_class_and_a_tensor_are_accepted(name):
    model = tiny()
    call(name, model, target=CLASSES - 1)
    call(name, model, target=0)
    first, second = (call(name, model, target=target) for target in (3, torch.tensor(3)))
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)


@pytest.mark.parametrize("name", [n for n in TARGETED if n not in ONE_IMAGE])
def test_each_image_of_a_batch_has_its_own_target(name):
    model, batch = tiny(), images(3).float()

    def maps(result):
        return result.heatmap if isinstance(result, occlusion.Occlusion) else result

    together = maps(call(name, model, batch, torch.tensor([4, 0, 2])))
    for row, (image, target) in enumerate(zip(batch, [4, 0, 2])):
        if "smoothgrad" in name and row:
            break  # its noise goes on from image to image
        alone = maps(call(name, model, image, target))
        assert alone.shape == together.shape[1:]
        torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="3 of them"):
        call(name, model, batch, torch.tensor([4, 0]))


BAD_LAYERS = {
    "misspelt": ("conv3", LookupError, "conv2"),
    "too deep": ("conv2.weight", LookupError, "conv2"),
    "empty": ("", LookupError, "near matches"),
    "far from any": ("§", LookupError, "conv1"),
    "number": (3, TypeError, "int"),
    "module": (nn.ReLU(), TypeError, "ReLU"),
}


@pytest.mark.parametrize("bad", BAD_LAYERS)
@pytest.mark.parametrize("name", LAYERED)
def test_an_unknown_layer_is_refused_with_its_near_matches(name, bad):
    layer, error, message = BAD_LAYERS[bad]
    model = tiny()
    with unchanged(model), pytest.raises(error, match=message):
        call(name, model, layer=layer)


@pytest.mark.parametrize("name", [n for n in LAYERED if n not in ("layers.find", "layers.record")])
def test_a_layer_that_does_not_run_is_refused(name):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.spare = tiny(), nn.Conv2d(3, 8, 3)

        def forward(self, pixels):
            return self.body(pixels)

    model = Idle()
    with unchanged(model), pytest.raises((LookupError, ValueError), match="spare.*did not run|no way back"):
        call(name, model, layer="spare")  # deconvnet refuses the pooling on the way already


@pytest.mark.parametrize("name", [n for n in CALLS if n not in RAW and "layer" not in ARGUMENTS[n]])
def test_a_model_that_is_none_is_refused(name):
    if name.startswith("models."):
        pytest.skip("Classifier is built around a module")
    with pytest.raises((TypeError, AttributeError)):
        call(name, lambda pixels: pixels)


class Output(nn.Module):
    """Gives what ``make`` makes of the logits."""

    def __init__(self, make):
        super().__init__()
        self.body, self.make = tiny(), make

    def forward(self, pixels):
        return self.make(self.body(pixels))


BAD_OUTPUTS = {
    "NaN": lambda logits: logits * float("nan"),
    "infinite": lambda logits: logits / 0,
    "tuple": lambda logits: (logits,),
    "maps": lambda logits: logits[:, :, None, None],
    "one score": lambda logits: logits[:, 0],
}


@pytest.mark.parametrize("bad", BAD_OUTPUTS)
@pytest.mark.parametrize("name", [*TARGETED, "models.Classifier.predict"])
def test_a_network_without_proper_logits_is_refused(name, bad):
    model = Output(BAD_OUTPUTS[bad])
    with unchanged(model), pytest.raises(ValueError, match="NaN or infinite|must map"):
        call(name, model, layer="body.conv2")


# -------------------------------------------------------------------------------------- left as it came


def evaluated(model):
    return model


def training(model):
    return model.train()


def mixed(model):
    model.train()
    model.norm1.eval()
    return model


def frozen(model):
    return model.requires_grad_(False)


def with_gradients(model):
    model.train()(images(4).float()).sum().backward()
    return model.eval()


def half_frozen_last(model):
    model = model.to(memory_format=torch.channels_last)
    model.conv1.requires_grad_(False)
    return model


STATES = [evaluated, training, mixed, frozen, with_gradients, half_frozen_last]
MODES = {"gradients": contextlib.nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}
# `record` and `run_to` keep the training flags, on purpose: in training mode the forward pass itself counts.
KEEPS_FLAGS = {"models.Classifier", "layers.record", "layers.run_to", "layers.relu_rule"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prepare", STATES, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_network_as_it_came(name, prepare, mode, device):
    model = prepare(tiny()).to(device)
    if name in KEEPS_FLAGS and any(module.training for module in model.modules()):
        model.eval()
    image = images(1)[0].float()
    if name in RAW:
        image = image.to(device)
    before = image.clone()
    with MODES[mode](), unchanged(model):
        call(name, model, image)
    assert torch.equal(image, before) and not image.requires_grad and image.grad is None


def test_the_proof_notices_what_it_should():
    """`unchanged` itself must be able to fail."""

    def hook(model):
        model.conv2.register_forward_hook(lambda *arguments: None)

    def backward_hook(model):
        model.conv2.register_full_backward_hook(lambda *arguments: None)

    def flag(model):
        model.norm2.training = True

    def weight(model):
        model.conv2.weight.data[0, 0, 0, 0] += 1e-6

    def buffer(model):
        model.norm1.num_batches_tracked += 1

    def gradient(model):
        model.conv1.weight.grad = torch.zeros_like(model.conv1.weight)

    def swap(model):
        model.relu1 = nn.ReLU(inplace=True)

    def in_place(model):
        model.relu1.inplace = False

    def freeze(model):
        model.conv1.weight.requires_grad_(False)

    def mode(model):
        torch.set_grad_enabled(False)

    def random(model):
        torch.rand(1)

    for change in (hook, backward_hook, flag, weight, buffer, gradient, swap, in_place, freeze, mode, random):
        model = tiny()
        with pytest.raises(AssertionError, match="changed"), unchanged(model):
            change(model)


class Fuse(nn.Module):
    """Lets ``limit`` forward passes through, in whatever copy of the network, then raises ``error``."""

    passes = 0
    limit: int | None = None
    error: type[BaseException] = RuntimeError

    def forward(self, pixels):
        if Fuse.limit is not None and Fuse.passes >= Fuse.limit:
            raise Fuse.error("blown")
        Fuse.passes += 1
        return pixels


GRADIENTS = [
    "saliency.gradient",
    "saliency.smoothgrad",
    "feature_visualization.maximize",
    "cam.gradcam",
    "guided.backprop",
]
GRADIENTS += ["guided.gradcam"]


def fused() -> nn.Module:
    parts = list(tiny().named_children())
    return nn.Sequential(OrderedDict([*parts[:5], ("fuse", Fuse()), *parts[5:]])).eval()


@pytest.mark.parametrize("error", [RuntimeError, IndexError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "name", [n for n in CALLS if n not in ("layers.find", "layers.last_linear", "filters.first_layer")]
)
def test_an_exception_in_the_forward_pass_leaves_the_network_as_it_came(name, error):
    """Also an IndexError, which a `with` block of another library swallows, and the reader's stop button."""
    model, layer = fused(), "relu2"
    Fuse.error, Fuse.limit, Fuse.passes = error, None, 0
    call(name, model, layer=layer)
    total = Fuse.passes
    assert total
    try:
        for limit in sorted({0, 1, 2, total // 2, total - 1} & set(range(total))):
            Fuse.limit, Fuse.passes = limit, 0
            with unchanged(model), pytest.raises(error, match="blown"):
                call(name, model, layer=layer)
            Fuse.limit, Fuse.passes = None, 0
            call(name, model, layer=layer)  # and it still works
    finally:
        Fuse.limit = None


@pytest.mark.parametrize("name", GRADIENTS)
def test_an_exception_in_the_backward_pass_leaves_the_network_as_it_came(name):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, tensor):
            return tensor.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("blown")

    model = Output(Broken.apply)
    with unchanged(model), pytest.raises(RuntimeError, match="blown"):
        call(name, model, layer="body.conv2")


def test_a_network_in_training_mode_is_explained_as_in_evaluation_mode():
    """Batch norm must not see statistics of the covered or noisy pictures."""
    image = images(1)[0].float()
    for name in ("saliency.gradient", "saliency.smoothgrad", "cam.cam", "cam.gradcam", "scoring.deletion"):
        expected, actual = (call(name, prepare(tiny()), image) for prepare in (evaluated, training))
        assert torch.equal(torch.as_tensor(expected), torch.as_tensor(actual)), name
    expected, actual = (call("occlusion.sensitivity", prepare(tiny()), image) for prepare in (evaluated, training))
    assert torch.equal(expected.outputs, actual.outputs)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", GRADIENTS)
def test_frozen_weights_and_gradient_modes_change_no_map(name, mode):
    expected, model = call(name, tiny()), frozen(tiny())
    with MODES[mode]():
        actual = call(name, model)
    assert not actual.requires_grad and actual.abs().max() > 0
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-6)


# ------------------------------------------------------------------------------------ the checks themselves


def test_as_batch_goes_to_the_networks_device_and_dtype(exact_device):
    model = tiny().to(exact_device).double()
    batch, single = inputs.as_batch(model, images(1)[0].float())
    assert single and batch.shape == (1, 3, 32, 32) and batch.dtype == torch.float64
    assert batch.device.type == exact_device.type
    batch, single = inputs.as_batch(model, images(2))
    assert not single and batch.shape == (2, 3, 32, 32)


def test_as_batch_takes_a_network_without_weights():
    batch, _ = inputs.as_batch(nn.Flatten(), images(1)[0])
    assert batch.dtype == torch.float64


def test_the_image_may_be_zero_or_one():
    inputs.as_batch(nn.Flatten(), torch.zeros(3, 4, 4))
    inputs.as_batch(nn.Flatten(), torch.ones(3, 4, 4))


def test_as_targets_without_a_target_is_the_predicted_class():
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert inputs.as_targets(None, logits).tolist() == [1, 0]
    assert inputs.as_targets(2, logits).tolist() == [2, 2]
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64):
        chosen = inputs.as_targets(torch.tensor([2, 0], dtype=dtype), logits)
        assert chosen.tolist() == [2, 0] and chosen.dtype == torch.int64


@pytest.mark.parametrize(
    "heatmap, error",
    [
        (np.zeros((4, 4)), TypeError),
        (torch.zeros(3, 4, 4), ValueError),
        (torch.zeros(0, 4), ValueError),
        (torch.full((4, 4), float("nan")), ValueError),
        (torch.full((4, 4), float("inf")), ValueError),
    ],
)
def test_as_map_refuses(heatmap, error):
    with pytest.raises(error, match="map"):
        inputs.as_map(heatmap)


def test_box():
    box = inputs.Box(1, 2, 4, 8)
    picture = torch.zeros(3, 6, 9)
    picture[..., *box.slices] = 1
    assert box.area == 18 == int(picture[0].sum())
    assert picture[0, 1, 2] == 1 and picture[0, 3, 7] == 1
    assert picture[0, 0].sum() == 0 and picture[0, :, :2].sum() == 0
