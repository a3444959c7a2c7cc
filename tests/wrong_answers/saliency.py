"""Chapter 6: gradients of the score."""

import numpy as np
import torch

from helpers import layers, runtime, saliency
from helpers.checks import draw


def _slope(model, image, target):
    return saliency.gradient(model, image, target, signed=True)


def sign_step_not_clipped(model, image, target, size):
    return image + size * _slope(model, image, target).sign()


def sign_step_downhill(model, image, target, size):
    return (image - size * _slope(model, image, target).sign()).clamp(0, 1)


def sign_step_of_the_gradient(model, image, target, size):
    return (image + size * _slope(model, image, target)).clamp(0, 1)


def sign_step_of_the_map(model, image, target, size):
    return (image + size * saliency.gradient(model, image, target).sign()).clamp(0, 1)


def sign_step_of_the_probability(model, image, target, size):
    pixels = image[None].clone().requires_grad_()
    slope = torch.autograd.grad(model(pixels).softmax(1)[0, target], pixels)[0][0]
    return (image + size * slope.sign()).clamp(0, 1)


def sign_step_in_place(model, image, target, size):
    image += size * _slope(model, image, target).sign()
    return image.clamp_(0, 1)


def sign_step_in_numpy(model, image, target, size):
    """Right: backward(), then numpy."""
    pixels = image[None].clone().requires_grad_()
    model(pixels)[0, target].backward()
    return np.clip(image.cpu().numpy() + size * np.sign(pixels.grad[0].cpu().numpy()), 0, 1)


def _walk(model, image, target, baseline, steps, *, shift=0.5, factor=True):
    points = [baseline + (step + shift) / steps * (image - baseline) for step in range(steps)]
    mean = torch.stack([_slope(model, point, target) for point in points]).mean(0)
    return (image - baseline) * mean if factor else mean


def from_the_beginnings(model, image, target, baseline, steps):
    return _walk(model, image, target, baseline, steps, shift=0)


def from_the_ends(model, image, target, baseline, steps):
    return _walk(model, image, target, baseline, steps, shift=1)


def without_the_factor(model, image, target, baseline, steps):
    return _walk(model, image, target, baseline, steps, factor=False)


def times_the_image(model, image, target, baseline, steps):
    return image * _walk(model, image, target, baseline, steps, factor=False)


def from_black(model, image, target, baseline, steps):
    return _walk(model, image, target, torch.zeros_like(image), steps)


def summed(model, image, target, baseline, steps):
    return steps * _walk(model, image, target, baseline, steps)


def at_the_image(model, image, target, baseline, steps):
    return (image - baseline) * _slope(model, image, target)


def of_the_probability(model, image, target, baseline, steps):
    way = torch.arange(0.5, steps).to(image)[:, None, None, None] / steps
    pixels = (way * image + (1 - way) * baseline).requires_grad_()
    model(pixels).softmax(1)[:, target].sum().backward()
    return pixels.grad.mean(0) * (image - baseline)


def walk_in_one_batch(model, image, target, baseline, steps):
    """Right: all points in one batch."""
    way = torch.arange(0.5, steps).to(image)[:, None, None, None] / steps
    pixels = (way * image + (1 - way) * baseline).requires_grad_()
    model(pixels)[:, target].sum().backward()
    return pixels.grad.mean(0) * (image - baseline)


def walk_by_loop(model, image, target, baseline, steps):
    """Right: a running sum, numpy in float64."""
    total = np.zeros(image.shape)
    for step in range(steps):
        share = (2 * step + 1) / (2 * steps)
        total += _slope(model, (1 - share) * baseline + share * image, target).cpu().numpy() / steps
    return total * (image - baseline).cpu().numpy()


def _ascend(model, image, layer, steps, size, *, clip=True, sign=1):
    """Right, but for what the options change."""
    names = [name for name, _ in model.named_children()]
    below = model if layer is None else model[: names.index(layer) + 1]
    for _ in range(steps):
        pixels = image.clone().requires_grad_()
        slope = torch.autograd.grad(below(pixels[None]).square().mean(), pixels)[0]
        image = image + sign * size * slope / slope.abs().mean()
        image = image.clamp(0, 1) if clip else image
    return image


def dream_downhill(model, image, layer, steps, size):
    return _ascend(model, image, layer, steps, size, sign=-1)


def dream_of_the_logits(model, image, layer, steps, size):
    return _ascend(model, image, None, steps, size)


def dream_not_clipped(model, image, layer, steps, size):
    return _ascend(model, image, layer, steps, size, clip=False)


def dream_clipped_at_the_end(model, image, layer, steps, size):
    return _ascend(model, image, layer, steps, size, clip=False).clamp(0, 1)


def dream_from_grey(model, image, layer, steps, size):
    return _ascend(model, torch.full_like(image, 0.5), layer, steps, size)


def dream_of_another_layer(model, image, layer, steps, size):
    return _ascend(model, image, "relu1" if layer != "relu1" else "relu2", steps, size)


def dream_of_the_first_gradient(model, image, layer, steps, size):
    pixels = image.clone().requires_grad_()
    slope = torch.autograd.grad(layers.run_to(model, layer, pixels[None]).square().mean(), pixels)[0]
    for _ in range(steps):
        image = (image + size * slope / slope.abs().mean()).clamp(0, 1)
    return image


def dream_of_long_steps(model, image, layer, steps, size):
    for _ in range(steps):
        pixels = image.clone().requires_grad_()
        slope = torch.autograd.grad(layers.run_to(model, layer, pixels[None]).square().sum(), pixels)[0]
        image = (image + size * slope).clamp(0, 1)
    return image


def dream_one_step_more(model, image, layer, steps, size):
    return _ascend(model, image, layer, steps + 1, size)


def dream_of_the_mean(model, image, layer, steps, size):
    for _ in range(steps):
        pixels = image.clone().requires_grad_()
        slope = torch.autograd.grad(layers.run_to(model, layer, pixels[None]).mean(), pixels)[0]
        image = (image + size * slope / slope.abs().mean()).clamp(0, 1)
    return image


def dream_that_trains(model, image, layer, steps, size):
    """As an optimiser that was given the wrong parameters."""
    result = _ascend(model, image, layer, steps, size)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01
    return result


def dream_with_a_hook(model, image, layer, steps, size, *, remove=False):
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda module, given, output: kept.update(map=output))
    for _ in range(steps):
        pixels = image.clone().requires_grad_()
        model(pixels[None])
        slope = torch.autograd.grad(kept["map"].norm() ** 2, pixels)[0]
        image = (image + size * slope / slope.abs().mean()).clamp(0, 1)
    if remove:
        handle.remove()
    return image


def dream_with_a_hook_removed(model, image, layer, steps, size):
    """Right: a hook that goes, half the squared norm, as in the first program for it."""
    return dream_with_a_hook(model, image, layer, steps, size, remove=True)


def dream_by_backward(model, image, layer, steps, size):
    """Right: backward(), a leaf that is changed in place."""
    pixels = image.clone().requires_grad_()
    for _ in range(steps):
        layers.run_to(model, layer, pixels[None]).pow(2).mean().backward()
        with torch.no_grad():
            pixels += size * pixels.grad / pixels.grad.abs().mean()
            pixels.clamp_(0, 1)
        pixels.grad = None
    return pixels


WRONG = {
    "6.1": [
        (sign_step_not_clipped, "Clip"),
        (sign_step_downhill, "uphill"),
        (sign_step_of_the_gradient, "different lengths"),
        (sign_step_of_the_map, "abs too many"),
        (sign_step_of_the_probability, "raises the probability"),
        (sign_step_in_place, "clone"),
    ],
    "6.2": [
        (from_the_beginnings, "beginnings"),
        (from_the_ends, "ends of the steps"),
        (without_the_factor, "in front of the integral"),
        (times_the_image, "The factor is the image"),
        (from_black, "starts at black"),
        (summed, "a mean"),
        (at_the_image, "Walk the whole way"),
        (of_the_probability, "explains the probability"),
    ],
    "6.3": [
        (dream_downhill, "downhill"),
        (dream_of_the_logits, "logits large"),
        (dream_not_clipped, "leave [0, 1]"),
        (dream_clipped_at_the_end, "only at the end"),
        (dream_from_grey, "start is ignored"),
        (dream_of_another_layer, "another layer"),
        (dream_of_the_first_gradient, "anew"),
        (dream_of_long_steps, "not divided"),
        (dream_one_step_more, "too many"),
        (dream_of_the_mean, "mean activation"),
        (dream_that_trains, "network has changed"),
        (dream_with_a_hook, "handle.remove()"),
    ],
}
RIGHT = {
    "6.1": [sign_step_in_numpy],
    "6.2": [walk_in_one_batch, walk_by_loop],
    "6.3": [dream_with_a_hook_removed, dream_by_backward],
}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    model, image = draw.network(seed + 40), draw.image(seed + 40, 16).to(runtime.device())
    if label == "6.1":
        return model, image, seed, (-0.02, 0.3, 0.02)[seed]
    if label == "6.2":
        return model, image, seed, 0.3 * draw.image(seed + 60, 16).to(image), seed + 2
    return model, image, ("relu1", "conv2", "relu2")[seed], seed + 1, 0.04
