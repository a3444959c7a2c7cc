"""The walk back against captum and autograd, on published networks and random chains; and where there is none."""

import operator
from collections import OrderedDict
from functools import cache

import captum.attr
import networks
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import calibrated, images, seeded, tiny, unchanged
from torch import nn

from helpers import deconvnet, layers, models


def convolutions(build):
    """Without the linear layers, which have a hundred million weights."""
    with torch.device("meta"):
        body = build().features
    body.to_empty(device="cpu")
    for module in body:
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return body


@cache
def chain(name):
    """A chain of modules in float64 that starts from pixels in [0, 1]."""
    if name == "lecturenet":
        model = seeded(models.LectureNet, 20)
    elif name == "lecturenet in training":  # with batch norms
        model = calibrated(seeded(models.LectureNet, 20, batch_norm=True))
    elif name == "alexnet":
        model = seeded(convolutions, torchvision.models.alexnet)
    elif name == "vgg16":
        model = seeded(convolutions, torchvision.models.vgg16)
    else:
        model = tiny()
    for module in model.modules():  # enough signal for the deep layers
        if isinstance(module, nn.Conv2d):
            module.weight.data *= 1.5
    return model.double().eval()


CASES = [
    ("lecturenet", "conv1", 64), ("lecturenet", "pool1", 64), ("lecturenet", "relu2", 64), ("lecturenet", "pool2", 61),
    ("lecturenet", "conv4", 64), ("lecturenet", "relu5", 96), ("lecturenet in training", "relu5", 64),
    ("lecturenet in training", "norm3", 64), ("alexnet", "2", 64), ("alexnet", "4", 79), ("alexnet", "5", 80),
    ("alexnet", "10", 96), ("alexnet", "12", 96), ("vgg16", "4", 32), ("vgg16", "9", 32), ("vgg16", "16", 33),
    ("vgg16", "22", 32), ("vgg16", "30", 32), ("tiny", "norm1", 32), ("tiny", "relu2", 32),
]  # fmt: skip


def up_to(model, layer):
    names = [name for name, _ in model.named_children()]
    return nn.Sequential(OrderedDict(list(model.named_children())[: names.index(layer) + 1]))


def strongest(maps, channels):
    """(row, col) of the largest activation of the channel of each image."""
    return [divmod(int(stack[c].argmax()), stack.shape[2]) for stack, c in zip(maps, channels)]


def by_autograd(model, layer, batch, channels, rule, places=None):
    """The activation times its gradient in a backward pass that follows the rule."""
    pixels = batch.clone().requires_grad_()
    with layers.relu_rule(model, rule):
        maps = layers.run_to(model, layer, pixels)
    places = places or strongest(maps, channels)
    chosen = torch.stack([stack[c, row, col] for stack, c, (row, col) in zip(maps, channels, places)])
    return torch.autograd.grad(chosen.sum(), pixels)[0] * chosen.detach()[:, None, None, None]


def lively(model, layer, batch):
    """Two channels that fire in every image."""
    with torch.no_grad():
        return layers.run_to(model, layer, batch).amax((2, 3)).amin(0).topk(2).indices.tolist()


def close(result, expected, tolerance=1e-9):
    assert expected.flatten(1).abs().amax(1).min() > 0
    assert (result - expected).abs().max() <= tolerance * expected.abs().max()


class Flat(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, pixels):
        return self.body(pixels).flatten(1)


def by_captum(body, batch, channels):
    """captum explains an output, ours starts from the activation's own value."""
    with torch.no_grad():
        maps = body(batch)
    places = strongest(maps, channels)
    flat = [(c * maps.shape[2] + row) * maps.shape[3] + col for c, (row, col) in zip(channels, places)]
    values = maps.flatten(1).gather(1, torch.tensor(flat)[:, None])
    assert values.min() > 0
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU activations"):
        maps = captum.attr.Deconvolution(Flat(body)).attribute(
            batch.clone().requires_grad_(), target=torch.tensor(flat)
        )
    return (maps * values[..., None, None]).detach()


@pytest.mark.parametrize("name, layer, size", CASES)
def test_equals_captum_in_float64(name, layer, size):
    model, batch = chain(name), images(2, 128)[..., :size, :size]
    channels, body = lively(model, layer, batch), up_to(model, layer)
    if not any(isinstance(module, nn.ReLU) for module in body):
        body = nn.Sequential(body, nn.ReLU())  # captum wants one; of a positive value it is the identity
    expected = by_captum(body, batch, channels)
    with unchanged(model):
        result = deconvnet.reconstruct(model, batch, layer, torch.tensor(channels))
    assert result.shape == batch.shape and not result.requires_grad
    close(result, expected)


@pytest.mark.parametrize("rule", ["gradient", "guided"])
@pytest.mark.parametrize("name, layer, size", CASES)
def test_equals_autograd_inside_the_rule(name, layer, size, rule, exact_device):
    model, batch = chain(name).to(exact_device), images(2, 128)[..., :size, :size].to(exact_device)
    channels = lively(model, layer, batch)
    expected = by_autograd(model, layer, batch, channels, rule)
    close(deconvnet.reconstruct(model, batch, layer, torch.tensor(channels), rule=rule), expected)
    model.cpu()


def test_the_walk_by_hand():
    """Two filters of one pixel, a ReLU, a 2×2 pool; the third and fourth rule of each are worked out on paper."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(1, 1, 1, bias=False))
    model[0].weight.data = torch.tensor([2.0, -1.0, 0.0]).view(1, 3, 1, 1)
    model[3].weight.data = torch.tensor([3.0]).view(1, 1, 1, 1)
    image = torch.zeros(3, 2, 4)
    image[0] = torch.tensor([[0.1, 0.5, 0.2, 0.0], [0.0, 0.3, 0.4, 0.1]])
    image[1] = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expected = torch.zeros(3, 2, 4)  # the right pool has 0.8 from pixel (1, 2); 0.8 · 3 goes back to it, times 3
    expected[:, 1, 2] = torch.tensor([2.0, -1.0, 0.0]) * 2.4 * 3
    torch.testing.assert_close(deconvnet.reconstruct(model, image, "3", 0, (0, 1)), expected)
    strongest = torch.zeros(3, 2, 4)
    strongest[:, 0, 1] = torch.tensor([2.0, -1.0, 0.0]) * 3.0 * 3
    torch.testing.assert_close(deconvnet.reconstruct(model, image, "3", 0), strongest)


def test_a_negative_activation_sends_its_size_back_under_the_gradient_rule_only():
    """The other rules rectify what comes from above, also where it starts."""
    model = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False))
    nn.init.constant_(model[0].weight, 1.0)
    nn.init.constant_(model[2].weight, -1.0)
    image = torch.full((3, 2, 2), 0.5)
    by_rule = {rule: deconvnet.reconstruct(model, image, "2", 0, (0, 0), rule=rule) for rule in layers.RULES}
    assert by_rule["gradient"][:, 0, 0].tolist() == [1.5] * 3  # −1.5 times a gradient of −1
    assert by_rule["gradient"][:, 1, 1].abs().max() == 0
    assert torch.equal(by_rule["deconvnet"], by_rule["gradient"])


def test_overlapping_pools_add_up_where_max_unpool_overwrites():
    """lecturenet's 3×3 pools with stride 2: two of them choose the same pixel."""
    model, batch = chain("lecturenet"), images(2, 64)
    body = up_to(model, "conv2")
    ours = deconvnet.reconstruct(model, batch, "conv2", 5)
    pool, unpool = nn.MaxPool2d(3, 2, 1, return_indices=True), nn.MaxUnpool2d(3, 2, 1)
    with torch.no_grad():
        below = up_to(model, "relu1")(batch)
        pooled, switches = pool(below)
        maps = model.conv2(pooled)
        signal = torch.zeros_like(maps)
        for row, (y, x) in enumerate(strongest(maps, [5, 5])):
            signal[row, 5, y, x] = maps[row, 5, y, x]
        signal = torch.nn.grad.conv2d_input(pooled.shape, model.conv2.weight, signal, padding=2)
        summed = torch.zeros_like(below).flatten(2)
        summed.scatter_add_(2, switches.flatten(2), signal.flatten(2))
        results = {}
        for name, unpooled in {
            "sum": summed.view_as(below),
            "overwrite": unpool(signal, switches, below.shape),
        }.items():
            rectified = unpooled.clamp(min=0)
            results[name] = torch.nn.grad.conv2d_input(batch.shape, model.conv1.weight, rectified, stride=4, padding=5)
    assert body.pool1.kernel_size > body.pool1.stride
    close(ours, results["sum"])
    assert (ours - results["overwrite"]).abs().max() > 0.05 * ours.abs().max()


def test_a_batch_is_its_images_one_by_one():
    model, batch = chain("lecturenet"), images(6, 64)
    channels, place = torch.tensor([4, 0, 9, 3, 200, 4], dtype=torch.uint8), (2, 1)
    for position in (None, place):
        together = deconvnet.reconstruct(model, batch, "relu3", channels, position)
        for row in range(6):
            alone = deconvnet.reconstruct(model, batch[row], "relu3", int(channels[row]), position)
            assert alone.shape == (3, 64, 64)
            torch.testing.assert_close(together[row], alone, rtol=1e-9, atol=1e-12)
    same = deconvnet.reconstruct(model, batch, "relu3", 4)
    torch.testing.assert_close(same, deconvnet.reconstruct(model, batch, "relu3", torch.tensor([4] * 6)))
    torch.testing.assert_close(same, deconvnet.reconstruct(model, batch, "relu3", torch.tensor(4)))


def test_the_default_position_is_the_strongest():
    model, image = chain("vgg16"), images(1, 32)[0]
    maps, (channel, _) = layers.run_to(model, "13", image[None]), lively(model, "13", image[None])
    place = strongest(maps, [channel])[0]
    expected = deconvnet.reconstruct(model, image, "13", channel, place)
    assert torch.equal(deconvnet.reconstruct(model, image, "13", channel), expected)
    positions = (torch.tensor(place), list(place), tuple(torch.tensor(place)))
    for position in positions:
        assert torch.equal(deconvnet.reconstruct(model, image, "13", channel, position), expected)
    other = (place[0], (place[1] + 1) % maps.shape[3])
    assert not torch.equal(deconvnet.reconstruct(model, image, "13", channel, other), expected)


def test_what_comes_back_lies_in_the_receptive_field():
    model, image = chain("lecturenet"), images(1, 96)[0]
    for layer, place in (("conv1", (3, 20)), ("pool2", (0, 4)), ("conv3", (3, 2))):
        box = layers.receptive_field(model, layer, 96).box(*place)
        for channel in range(4):
            pixels = deconvnet.reconstruct(model, image, layer, channel, place, rule="gradient")
            pixels[:, *box.slices] = 0
            assert pixels.abs().max() == 0


def test_a_classifier_is_its_network_and_its_normalisation(exact_device):
    model, batch = models.Classifier(chain("lecturenet")).double().to(exact_device), images(2, 64)
    normalised = nn.Sequential(nn.Conv2d(3, 3, 1), *model.network)
    normalised[0].weight.data = torch.diag(1 / model.std.flatten())[..., None, None]
    normalised[0].bias.data = -(model.mean / model.std).flatten()
    expected = deconvnet.reconstruct(normalised.to(exact_device), batch, "7", 5)
    close(deconvnet.reconstruct(model, batch, "conv3", 5), expected)
    model.cpu()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_modes_change_nothing(mode):
    model = tiny().double().requires_grad_()
    expected = deconvnet.reconstruct(model, images(2), "relu2", 3)
    assert not expected.requires_grad
    with mode():
        result = deconvnet.reconstruct(model, images(2), "relu2", 3)
    assert torch.equal(result, expected)


# ------------------------------------------------------------------------------------------ other chains


@st.composite
def chains(draw):
    """Any chain that the walk should take, with whatever options."""
    width, steps = 4, [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()]
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "pool", "norm", "rectify", "other"]))
        kernel, stride = (draw(st.tuples(st.integers(1, 4), st.integers(1, 3))) for _ in range(2))
        padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
        dilation = draw(st.sampled_from([1, 1, 2]))
        if kind == "conv":
            if draw(st.booleans()):
                kernel, stride = (3, 5), 1
                padding = draw(st.sampled_from(["same", "valid"]))
            groups, bias = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
            steps.append(nn.Conv2d(width, 8, kernel, stride, padding, dilation, groups, bias))
            width = 8
        elif kind == "pool":
            steps.append(nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=draw(st.booleans())))
        elif kind == "norm":
            steps.append(nn.BatchNorm2d(width, affine=draw(st.booleans())))
            steps[-1].running_var.uniform_(0.2, 2)
            if steps[-1].affine:
                steps[-1].weight.data.uniform_(-1, 2)
        elif kind == "rectify":
            rectifiers = [nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7), nn.Hardtanh(inplace=True)]
            steps.append(draw(st.sampled_from(rectifiers)))
        else:
            steps.append(draw(st.sampled_from([nn.Dropout(), nn.Dropout2d(), nn.Identity()])))
    return nn.Sequential(nn.Sequential(*steps).double(), nn.Identity()).eval()


@settings(max_examples=40, deadline=None)
@given(chains(), st.sampled_from(layers.RULES))
def test_any_chain_equals_autograd(model, rule):
    batch = images(2, 24)
    try:
        with torch.no_grad():
            maps = model(batch)
    except RuntimeError:
        return  # nothing is left of so small an image
    channels, places = [0, maps.shape[1] - 1], [(0, 0)] * 2
    values = maps[[0, 1], channels, 0, 0]
    if rule != "gradient" and values.min() < 0:
        return
    expected = by_autograd(model, "0", batch, channels, rule, places)
    with unchanged(model):
        result = deconvnet.reconstruct(model, batch, "0", torch.tensor(channels), (0, 0), rule=rule)
    assert (result - expected).abs().max() <= 1e-9 * expected.abs().max() + 1e-14


class Then(nn.Module):
    """A convolution, a function of its maps (and of the network and the pixels), another convolution."""

    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.other, self.last = (nn.Conv2d(a, 8, 3, padding=1) for a in (3, 8, 8))
        self.norm, self.end, self.linear = nn.BatchNorm2d(8), nn.Identity(), nn.Linear(8, 4)
        self.norm.running_var.uniform_(0.2, 2)
        self.function = function

    def forward(self, pixels):
        made = self.function(self.conv(pixels), self)
        return self.linear(self.end(self.last(made).relu()).mean((2, 3)))


SPELLINGS = {
    "conv2d by keyword": lambda x, m: F.conv2d(input=x, weight=m.other.weight, padding=1, dilation=(1, 1)),
    "conv2d by position": lambda x, m: torch.conv2d(x, m.other.weight, None, 2, 1),
    "max_pool2d by keyword": lambda x, m: F.max_pool2d(input=x, kernel_size=3, stride=2, padding=1),
    "max_pool2d by position": lambda x, m: F.max_pool2d(x, 3, 2, 1, 1, True),
    "torch.max_pool2d": lambda x, m: torch.max_pool2d(x, 3),
    "relu by keyword": lambda x, m: F.relu(input=x, inplace=True),
    "Tensor.relu_": lambda x, m: x.relu_(),
    "clamp": lambda x, m: x.clamp(min=0),
    "an operation in place": lambda x, m: F.relu_(x.sub_(0.1)).div_(3),
    "operators": lambda x, m: (x - 0.1) / torch.tensor([2.0]).double() + 0.2,
    "detach": lambda x, m: F.relu(x.detach().clone().contiguous(), True),
    "dropout in evaluation": lambda x, m: F.dropout(F.dropout2d(x, 0.5, m.training), 0.5, training=False),
    "batch norm by position": lambda x, m: F.batch_norm(x, m.norm.running_mean, m.norm.running_var, m.norm.weight),
    "batch norm without weights": lambda x, m: F.batch_norm(x, m.norm.running_mean, m.norm.running_var, eps=0.5),
    "reading its shape": lambda x, m: x / x.shape[1] / x.size(2) / len(x) - x.ndim,
}


@pytest.mark.parametrize("rule", layers.RULES)
@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_what_the_walk_knows(name, rule):
    model, batch = seeded(Then, SPELLINGS[name]).double().eval(), images(2)
    channels = lively(model, "end", batch)
    reference = seeded(Then, SPELLINGS["relu by keyword" if name == "detach" else name])  # autograd must not be cut
    expected = by_autograd(reference.double().eval(), "end", batch, channels, rule)
    with unchanged(model):
        result = deconvnet.reconstruct(model, batch, "end", torch.tensor(channels), rule=rule)
    close(result, expected)


def in_place(maps, model):
    maps[:, 0] = 0
    return maps


def by_chunks(maps, model):
    maps.chunk(2, 1)[0].relu_()
    return maps


def by_data(maps, model):
    maps.data = maps.data.flip(3)
    return maps


NO_WAY = {
    "concatenation": lambda x, m: torch.cat([x[:, :4], x[:, 4:]], 1),
    "concatenation of the whole": lambda x, m: torch.cat([x, x], 1)[:, :8],
    "stack": lambda x, m: torch.stack([x, x]).sum(0),
    "residual": lambda x, m: m.other(x) + x,
    "residual, the other way round": lambda x, m: x + m.other(x),
    "residual in place": lambda x, m: m.other(x).add_(x),
    "residual +=": lambda x, m: operator.iadd(m.other(x), x),
    "residual of a rectified map": lambda x, m: x.relu() + x,
    "residual of an alias": lambda x, m: m.other(x) + x.detach(),
    "twice itself": lambda x, m: x + x,
    "squared": lambda x, m: x * x,
    "gate": lambda x, m: x * m.other(x).sigmoid(),
    "subtracted from one": lambda x, m: 1 - x,
    "divided by its largest": lambda x, m: x / x.max(),
    "divided by an earlier one": lambda x, m: F.relu(x) / x.std(),
    "divided by the batch's": lambda x, m: x / x.mean(),
    "rounded division": lambda x, m: torch.div(x, 2, rounding_mode="floor"),
    "two branches": lambda x, m: (m.other(x), m.last(x))[0],
    "SiLU": lambda x, m: F.silu(x),
    "GELU": lambda x, m: F.gelu(x),
    "leaky": lambda x, m: F.leaky_relu(x, 0.1),
    "sigmoid": lambda x, m: x.sigmoid(),
    "abs": lambda x, m: x.abs(),
    "clamp above": lambda x, m: x.clamp(max=1),
    "clamp from elsewhere": lambda x, m: x.clamp(min=0.1),
    "average pool": lambda x, m: F.avg_pool2d(x, 2),
    "adaptive pool": lambda x, m: F.adaptive_max_pool2d(x, 4),
    "fractional pool": lambda x, m: F.lp_pool2d(x, 2, 2),
    "pool with its indices": lambda x, m: F.max_pool2d(x, 2, return_indices=True)[0],
    "unpool": lambda x, m: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    "larger": lambda x, m: F.interpolate(x, scale_factor=2),
    "reflected border": lambda x, m: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "reflected border of a convolution": lambda x, m: m.reflecting(x),
    "even kernel with equal size": lambda x, m: F.conv2d(x, m.other.weight[..., :2, :2], padding="same"),
    "transposed": lambda x, m: F.conv_transpose2d(x, m.other.weight),
    "a filter made from the image": lambda x, m: F.conv2d(x, x.mean((0, 2, 3)).expand(8, 8)[..., None, None]),
    "the maps as a filter": lambda x, m: F.conv2d(m.other.weight, x[:1, :, :3, :3].expand(8, -1, -1, -1)),
    "group norm": lambda x, m: F.group_norm(x, 2),
    "batch norm of the batch": lambda x, m: F.batch_norm(x, None, None, training=True),
    "batch norm of the batch, as a module": lambda x, m: (
        nn.BatchNorm2d(8, track_running_stats=False).eval().double()(x)
    ),
    "torch.batch_norm": lambda x, m: torch.batch_norm(
        x, m.norm.weight, m.norm.bias, m.norm.running_mean, m.norm.running_var, False, 0.1, 1e-5, False
    ),
    "dropout that drops": lambda x, m: F.dropout(x, 0.5),
    "dropout that drops in place": lambda x, m: F.dropout(x, 0.5, True, True),
    "mirrored": lambda x, m: x.flip(3),
    "permuted": lambda x, m: x.transpose(2, 3),
    "a part": lambda x, m: x[:, :, :9],
    "a view": lambda x, m: x.view(x.shape),
    "maxout": lambda x, m: torch.maximum(x, x.flip(1)),
    "mean over channels": lambda x, m: x.mean(1, keepdim=True).expand(-1, 8, -1, -1),
    "where": lambda x, m: torch.where(x > 0, x, 0.0),
    "a part in place": in_place,
    "a chunk in place": by_chunks,
    "new data": by_data,
    "mask in place": lambda x, m: x.masked_fill_(x < 0, 0),
    "a copy of something else": lambda x, m: torch.zeros_like(x).copy_(x),
    "written into another": lambda x, m: torch.zeros_like(x).index_copy_(0, torch.arange(len(x)), x),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("rule", ["deconvnet", "guided"])
@pytest.mark.parametrize("name", NO_WAY)
def test_where_there_is_no_way_back_it_is_an_error_not_a_wrong_picture(name, rule):
    model = seeded(Then, NO_WAY[name])
    model.reflecting = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
    model.double().eval()
    with torch.no_grad():
        model(images(2))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="autograd.* inside layers.relu_rule|not return what the chain"):
        try:
            with unchanged(model):
                deconvnet.reconstruct(model, images(2), "end", 1, rule=rule)
        finally:
            torch.set_rng_state(state)


@pytest.mark.parametrize(
    "name, layer, refused",
    [
        ("resnet18", "layer1.0.bn2", False), ("resnet18", "layer1.0", True), ("resnet18", "layer4", True),
        ("googlenet", "conv3", False), ("googlenet", "inception3a", True), ("densenet121", "features.pool0", False),
        ("densenet121", "features.denseblock1", True), ("mobilenet_v2", "features.2", False),
        ("mobilenet_v2", "features.3", True), ("lite0", "conv_stem", True), ("lite0", "blocks.3", True),
    ],
)  # fmt: skip
def test_other_networks_up_to_their_first_fork(name, layer, refused):
    model, batch = getattr(networks, name)().double(), images(2, 64)
    if refused:
        with unchanged(model), pytest.raises(ValueError, match="no way back|two ways|second one"):
            deconvnet.reconstruct(model, batch, layer, 1)
        return
    for rule in layers.RULES:
        channels = lively(model, layer, batch)
        expected = by_autograd(model, layer, batch, channels, rule)
        close(deconvnet.reconstruct(model, batch, layer, torch.tensor(channels), rule=rule), expected)


# ------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "channel, error",
    [
        (12, ValueError), (-1, ValueError), (True, TypeError), (1.0, TypeError), ("3", TypeError), ([1, 2], TypeError),
        (None, TypeError), (torch.tensor([1.0, 2.0]), TypeError), (torch.tensor([True, False]), TypeError),
        (torch.tensor([1]), ValueError), (torch.tensor([1, 2, 3]), ValueError), (torch.tensor([[1, 2]]), ValueError),
        (torch.tensor([0, 12]), ValueError), (torch.tensor([0, -1]), ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_channel_is_refused(channel, error):
    model = tiny()
    with unchanged(model), pytest.raises(error, match="channel"):
        deconvnet.reconstruct(model, images(2).float(), "conv2", channel)


@pytest.mark.parametrize(
    "position, error",
    [
        ((16, 0), ValueError), ((0, 16), ValueError), ((-1, 0), ValueError), ((0, -1), ValueError),
        ((1, 2, 3), TypeError), ((1.5, 2), TypeError), (3, TypeError),
        ("ab", TypeError), ((1,), TypeError), ((None, 1), TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_position_is_refused(position, error):
    model = tiny()
    with unchanged(model), pytest.raises(error, match="position"):
        deconvnet.reconstruct(model, images(2).float(), "conv2", 1, position)


@pytest.mark.parametrize("rule", ["Guided", "", None, "lrp"])
def test_an_unknown_rule_is_refused(rule):
    with pytest.raises(ValueError, match="gradient, deconvnet, guided"):
        deconvnet.reconstruct(tiny(), images(1)[0].float(), "conv2", 1, rule=rule)


@pytest.mark.parametrize("layer", ["pool", "flatten", "linear"])
def test_a_layer_without_maps_is_refused(layer):
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="no way back|maps"):
        deconvnet.reconstruct(model, images(1)[0].float(), layer, 1)
