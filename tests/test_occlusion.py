"""Occlusion against captum, against a slow loop, and against what can be worked out by hand."""

from functools import cache

import networks
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from networks import CLASSES, images, tiny
from torch import nn

from helpers import occlusion, photos


@cache
def built(name):
    return getattr(networks, name)()


def drops_by_captum(model, image, target, window, stride, score="logit", baseline=0.5):
    def forward(batch):
        logits = model(batch)
        return (logits.softmax(1) if score == "probability" else logits)[:, target]

    with torch.no_grad():
        maps = CaptumOcclusion(forward).attribute(
            image[None], sliding_window_shapes=(3, window, window), strides=(3, stride, stride), baselines=baseline
        )
    assert torch.equal(maps[0, 0], maps[0, 1])
    return maps[0, 0]


@pytest.mark.parametrize("window, stride, score", [(32, 16, "logit"), (24, 20, "probability"), (20, 20, "logit")])
@pytest.mark.parametrize("name", ["lite0", "resnet18", "vgg11"])
def test_equals_captum_in_float64(name, window, stride, score, exact_device):
    model = built(name).double().to(exact_device)
    image = photos.load("coffee", 72).double().to(exact_device)  # 72 is no multiple: the last window is clipped
    target = int(model(image[None]).argmax())
    expected = drops_by_captum(model, image, target, window, stride, score)
    result = occlusion.sensitivity(model, image, target, window=window, stride=stride, score=score)
    error = (result.heatmap - expected).abs().max() / expected.abs().max()
    assert error <= 1e-6
    assert result.heatmap.std() > 0.05 * expected.abs().max()  # the map is not flat


@pytest.mark.parametrize("name", ["lite0", "resnet18", "vgg11"])
def test_float32_is_right_relative_to_the_largest_effect(name, device):
    image = photos.load("coffee", 72)
    if device.type == "mps":
        exact = built(name).double().cpu()
        truth = drops_by_captum(exact, image.double(), 3, 24, 20)
    else:
        truth = drops_by_captum(built(name).double().to(device), image.double().to(device), 3, 24, 20).cpu()
    heatmap = occlusion.sensitivity(
        built(name).float().to(device), image, 3, window=24, stride=20, score="logit"
    ).heatmap
    assert heatmap.dtype == torch.float32
    assert (heatmap.cpu() - truth).abs().max() / truth.abs().max() <= 1e-4


def slowly(model, image, target, window, stride, cover):
    """The definition, one position at a time: scores, and the mean drop over the windows that cover a pixel."""
    model = model.eval()
    with torch.no_grad():
        whole = model(image[None]).softmax(1)[0, target]
        height, width = image.shape[1:]
        rows, cols = ([0], [0])
        while rows[-1] + window < height:
            rows.append(rows[-1] + stride)
        while cols[-1] + window < width:
            cols.append(cols[-1] + stride)
        scores = torch.zeros(len(rows), len(cols), dtype=image.dtype)
        total, count = torch.zeros_like(image[0]), torch.zeros_like(image[0])
        for i, top in enumerate(rows):
            for j, left in enumerate(cols):
                inside = slice(top, top + window), slice(left, left + window)
                covered = image.clone()
                covered[:, *inside] = cover.expand_as(image)[:, *inside]
                scores[i, j] = model(covered[None]).softmax(1)[0, target]
                total[inside] += whole - scores[i, j]
                count[inside] += 1
    return scores, total / count, whole


COLOUR = torch.tensor([0.1, 0.7, 0.4], dtype=torch.float64)
PICTURE = images(1, 32, seed=5)[0, :, :, :24]


@pytest.mark.parametrize("cover", [0.0, COLOUR, PICTURE], ids=["grey", "colour", "picture"])
@pytest.mark.parametrize("window, stride", [(8, 8), (9, 4), (24, 24), (7, 5), (1, 1)], ids=str)
def test_equals_the_definition(window, stride, cover, exact_device):
    if window == 1 and cover is not PICTURE:
        pytest.skip("768 forward passes: once is enough")
    image = images(1)[0][:, :, :24]  # 32 × 24
    model = tiny().double()
    as_picture = torch.as_tensor(cover, dtype=torch.float64)
    as_picture = as_picture.view(-1, 1, 1) if as_picture.ndim < 2 else as_picture
    scores, heatmap, whole = slowly(model, image, 4, window, stride, as_picture)
    result = occlusion.sensitivity(
        model.to(exact_device), image, 4, window=window, stride=stride, baseline=cover, batch_size=5
    )
    torch.testing.assert_close(result.scores.cpu(), scores, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result.heatmap.cpu(), heatmap, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(result.reference.cpu(), whole, rtol=1e-9, atol=1e-12)
    assert result.target == 4 and (result.window, result.stride, result.score) == (window, stride, "probability")


def test_of_a_linear_network_it_is_the_sum_under_the_window():
    """A logit w·x drops by Σ w (x - baseline) over the window: nothing else changes."""
    weights = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = nn.Sequential(nn.Conv2d(3, 1, 16, bias=False), nn.Flatten()).double()
    model[0].weight.data = weights
    image = images(1, 16)[0]
    result = occlusion.sensitivity(model, image, 0, window=4, stride=4, baseline=0.25, score="logit")
    change = (weights[0] * (image - 0.25)).sum(0).view(4, 4, 4, 4).sum((1, 3))
    torch.testing.assert_close(result.reference - result.scores, change)
    torch.testing.assert_close(result.heatmap, change.repeat_interleave(4, 0).repeat_interleave(4, 1))


def test_batch_size_changes_nothing(exact_device):
    model, image = tiny().double().to(exact_device), images(1)[0]
    results = [
        occlusion.sensitivity(model, image, window=12, stride=8, batch_size=size) for size in (1, 3, 16, 1000, None)
    ]
    for result in results[1:]:
        torch.testing.assert_close(result.outputs, results[0].outputs, rtol=1e-10, atol=1e-12)


def test_without_a_target_it_is_the_class_predicted_for_the_whole_image(device):
    model, batch = tiny().to(device), images(3).float()
    result = occlusion.sensitivity(model, batch, window=16, stride=16)
    assert result.target.tolist() == model(batch.to(device)).argmax(1).tolist()


def test_of_reads_another_class_without_running_the_network(device):
    class Counting(nn.Module):
        runs = 0

        def __init__(self):
            super().__init__()
            self.body = tiny()

        def forward(self, pixels):
            Counting.runs += 1
            return self.body(pixels)

    model = Counting().to(device)
    for image, target in ((images(1)[0].float(), 5), (images(3).float(), torch.tensor([5, 0, 2]))):
        first = occlusion.sensitivity(model, image, 1, window=16, stride=8)
        runs = Counting.runs
        again = first.of(target)
        assert Counting.runs == runs
        direct = occlusion.sensitivity(model, image, target, window=16, stride=8)
        for part in ("scores", "heatmap", "reference", "target"):
            torch.testing.assert_close(getattr(again, part), getattr(direct, part))
        assert not torch.equal(again.heatmap, first.heatmap)
        with pytest.raises(ValueError, match=f"{CLASSES} classes"):
            first.of(CLASSES)


def test_box_is_what_the_window_covers():
    image = images(1, 32)[0]
    result = occlusion.sensitivity(tiny(), image, window=12, stride=8)
    assert result.scores.shape == (4, 4)
    assert result.box(0, 0) == (0, 0, 12, 12)
    assert result.box(2, 1) == (16, 8, 28, 20)
    assert result.box(3, 3) == (24, 24, 32, 32)  # clipped
    for row, col in ((4, 0), (0, 99), (-1, 0)):
        with pytest.raises((LookupError, ValueError)):
            result.box(row, col)


def test_an_odd_network_gives_right_numbers():
    """Where batch norm can't be folded, the network runs as it is."""

    def shape(first):
        rest = (nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES))
        return nn.Sequential(first, *rest)

    plain = nn.Conv2d(3, 8, 3)
    without_statistics = shape(plain)
    without_statistics[1] = nn.BatchNorm2d(8, track_running_stats=False)
    normed = shape(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)))
    image = images(1)[0]
    for model in (normed, networks.calibrated(networks.seeded(networks.Twice)), without_statistics):
        model = model.double().eval()
        batch_size = 1  # a norm without running statistics depends on the batch
        result = occlusion.sensitivity(model, image, 2, window=16, stride=16, batch_size=batch_size)
        scores, _, _ = slowly(model, image, 2, 16, 16, torch.full((1, 1, 1), 0.5, dtype=torch.float64))
        torch.testing.assert_close(result.scores, scores, rtol=1e-9, atol=1e-12)


def test_nan_for_a_covered_picture_is_an_error():
    class Standardise(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, CLASSES)

        def forward(self, pixels):
            spread = pixels.flatten(1).std(1)[:, None]  # 0 for the picture that is covered whole
            return self.linear((pixels.mean((2, 3)) - 0.5) / spread)

    with pytest.raises(ValueError, match="NaN"):
        occlusion.sensitivity(Standardise(), images(1)[0].float(), window=32, stride=16)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"window": 0}, ValueError, "window"),
        ({"window": 8, "stride": 9}, ValueError, "stride"),
        ({"window": 33}, ValueError, "32"),
        ({"stride": 0}, ValueError, "stride"),
        ({"stride": -4}, ValueError, "stride"),
        ({"window": 8.0}, TypeError, "ints"),
        ({"stride": True}, TypeError, "ints"),
        ({"window": (8, 8)}, TypeError, "ints"),
        ({"score": "loss"}, ValueError, "probability"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"batch_size": 2.5}, ValueError, "batch_size"),
        ({"baseline": 127}, ValueError, r"\[0, 1\]"),
        ({"baseline": -0.1}, ValueError, r"\[0, 1\]"),
        ({"baseline": float("nan")}, ValueError, r"\[0, 1\]"),
        ({"baseline": torch.zeros(2)}, ValueError, "colour"),
        ({"baseline": torch.zeros(3, 8, 8)}, ValueError, "picture"),
        ({"baseline": "grey"}, TypeError, "str"),
    ],
    ids=str,
)
def test_refuses(options, error, message):
    model = tiny()
    with networks.unchanged(model), pytest.raises(error, match=message):
        occlusion.sensitivity(model, images(1)[0].float(), **({"window": 8, "stride": 8} | options))
