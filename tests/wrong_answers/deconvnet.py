"""Chapter 4: the deconvnet."""

import torch

from helpers import activations, layers
from helpers.checks import draw
from helpers.checks.deconvnet import _classifier


def picture_filter(model, channel):
    return model.network.conv1.weight.detach()[channel]


def picture_multiplied(model, channel):
    return model.network.conv1.weight.detach()[channel] * model.std


def picture_mirrored(model, channel):
    return (model.network.conv1.weight.detach()[channel] / model.std).flip(1, 2)


def picture_rectified(model, channel):
    return (model.network.conv1.weight.detach()[channel] / model.std).relu()


def picture_of_all(model, channel):
    return model.network.conv1.weight.detach() / model.std


def picture_by_autograd(model, channel):
    """Right: the gradient of one place, in numpy."""
    pixels = torch.rand(1, 3, 64, 64, device=model.std.device, requires_grad=True)
    layers.run_to(model, "conv1", pixels)[0, channel, 7, 7].backward()
    gradient = pixels.grad[0].cpu().numpy()
    return gradient[:, 23:34, 23:34]


def _sent(model, image, rule, *, whole=False):
    pixels = image[None].clone().requires_grad_()
    with layers.relu_rule(model, rule), layers.record(model, ["relu5"]) as recorded:
        model(pixels)
    maps, channels = recorded["relu5"], recorded["relu5"][0].amax((1, 2)).topk(2).indices
    signals = []
    for channel in channels:
        signal = torch.zeros_like(maps)
        signal[0, channel] = maps[0, channel].detach() * (whole | (maps[0, channel] == maps[0, channel].max()))
        signals.append(signal)
    signals.append(sum(signals))
    return [torch.autograd.grad(maps, pixels, signal, retain_graph=True)[0] for signal in signals]


def additivity_length(model, image, rule):
    first, second, both = _sent(model, image, rule)
    return (both - first - second).norm()


def additivity_by_parts(model, image, rule):
    first, second, both = _sent(model, image, rule)
    return (both - first - second).norm() / (first.norm() + second.norm())


def additivity_squared(model, image, rule):
    first, second, both = _sent(model, image, rule)
    return (both - first - second).square().sum() / both.square().sum()


def additivity_whole_maps(model, image, rule):
    first, second, both = _sent(model, image, rule, whole=True)
    return (both - first - second).norm() / both.norm()


def additivity_always_zero(model, image, rule):
    return 0.0


def additivity_in_numpy(model, image, rule):
    """Right: the same with numpy at the end."""
    first, second, both = (part.cpu().double().numpy().ravel() for part in _sent(model, image, rule))
    return float(((both - first - second) ** 2).sum() ** 0.5 / (both**2).sum() ** 0.5)


def _remaining(
    model, pattern, about, share, *, fill=0.5, strength=lambda s: s.abs().amax(0), everywhere=False, own=True
):
    erased = about["images"].clone()
    for image, signed, box in zip(erased, pattern, about["boxes"]):
        part = (slice(None), slice(None)) if everywhere else box.slices
        values = strength(signed)[part]
        image[(slice(None), *part)][:, values >= values.flatten().quantile(1 - share)] = fill
    values = activations.maps(model, erased, about["layer"])
    values = values[torch.arange(len(erased)), *about["unit"]].cpu()
    return values / about["own"] if own else values


def remaining_not_divided(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, own=False)


def remaining_lost(model, pattern, about, share=0.03):
    return 1 - _remaining(model, pattern, about, share)


def remaining_black(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, fill=0)


def remaining_positive(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, strength=lambda s: s.amax(0))


def remaining_weakest(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, strength=lambda s: -s.abs().amax(0))


def remaining_sum(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, strength=lambda s: s.abs().sum(0))


def remaining_everywhere(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, share, everywhere=True)


def remaining_fixed_share(model, pattern, about, share=0.03):
    return _remaining(model, pattern, about, 0.03)


def remaining_by_topk(model, pattern, about, share=0.03):
    """Right: one image at a time, topk in place of a quantile."""
    found = []
    for number, (top, left, bottom, right) in enumerate(about["boxes"]):
        image = about["images"][number].clone()
        window = image[:, top:bottom, left:right].reshape(3, -1)
        strength = pattern[number, :, top:bottom, left:right].abs().amax(0).flatten()
        window[:, strength.topk(round(share * len(strength))).indices] = 0.5
        image[:, top:bottom, left:right] = window.view(3, bottom - top, right - left)
        channel, row, column = (index[number] for index in about["unit"])
        value = activations.maps(model, image, about["layer"])[channel, row, column]
        found.append((value.cpu() / about["own"][number]).item())
    return found


WRONG = {
    "4.1": [
        (picture_filter, "one more step"),
        (picture_multiplied, "Which way"),
        (picture_mirrored, "mirrored"),
        (picture_rectified, "no ReLU below"),
        (picture_of_all, "shape"),
    ],
    "4.2": [
        (additivity_length, "This is a length"),
        (additivity_by_parts, "sum of the two lengths"),
        (additivity_squared, "squared lengths"),
        (additivity_whole_maps, "whole maps"),
        (additivity_always_zero, "not right"),
    ],
    "4.3": [
        (remaining_not_divided, "Divide by the original"),
        (remaining_lost, "Return what remains"),
        (remaining_black, "Mid-grey"),
        (remaining_positive, "absolute pattern"),
        (remaining_weakest, "weakest"),
        (remaining_sum, "Take the largest"),
        (remaining_everywhere, "receptive field only"),
        (remaining_fixed_share, "differs"),
    ],
}
RIGHT = {"4.1": [picture_by_autograd], "4.2": [additivity_in_numpy], "4.3": [remaining_by_topk]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    model = _classifier(seed + 40)
    if label == "4.1":
        return model, 7 * seed + 2
    if label == "4.2":
        return model, draw.image(seed + 40, 64), ("guided", "deconvnet", "guided")[seed]
    images = torch.stack([draw.image(seed + number, 64) for number in range(3)])
    maps = activations.maps(model, images, "relu2").cpu()
    unit = torch.tensor([1, 2, 3]), torch.tensor([3, 4, 3]), torch.tensor([4, 4, 3])
    own = maps[torch.arange(3), *unit].clamp(min=0.1)
    field = layers.receptive_field(model, "relu2", size=64)
    boxes = [field.box(*place) for place in zip(unit[1].tolist(), unit[2].tolist())]
    pattern = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return model, pattern, {"layer": "relu2", "images": images, "unit": unit, "boxes": boxes, "own": own}, 0.1
