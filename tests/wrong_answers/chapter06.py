"""Chapter 6: gradients of the score."""

import numpy as np
import torch

from helpers import runtime, saliency
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


def _by_weights(model, image, weights):
    """The gradient of the sum of the logits with these weights, a function of the probabilities."""
    pixels = image[None].clone().requires_grad_()
    outputs = model(pixels)[0]
    return torch.autograd.grad((weights(outputs.detach().softmax(0)) * outputs).sum(), pixels)[0][0]


def _one(target, p):
    return torch.nn.functional.one_hot(torch.tensor(target), len(p)).to(p)


def of_the_logit(model, image, target):
    return _slope(model, image, target)


def without_rivals(model, image, target):
    return _by_weights(model, image, lambda p: p * (1 - p) * _one(target, p))


def of_the_logarithm(model, image, target):
    return _by_weights(model, image, lambda p: _one(target, p) - p)


def rivals_only(model, image, target):
    return _by_weights(model, image, lambda p: -p[target] * p)


def wrong_way_round(model, image, target):
    return _by_weights(model, image, lambda p: p[target] * (p - _one(target, p)))


def probability_largest(model, image, target):
    return probability_by_autograd(model, image, target).abs().amax(0)


def probability_by_autograd(model, image, target):
    """Right: what the exercise asks to compare with."""
    pixels = image[None].clone().requires_grad_()
    return torch.autograd.grad(model(pixels).softmax(1)[0, target], pixels)[0][0]


def probability_by_classes(model, image, target):
    """Right: one gradient for each class, and the formula in numpy."""
    p = model(image[None])[0].softmax(0).detach().cpu().numpy()
    slopes = np.stack([_slope(model, image, index).cpu().numpy() for index in range(len(p))])
    return p[target] * (slopes[target] - np.tensordot(p, slopes, 1))


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
        (of_the_logit, "gradient of the logit"),
        (without_rivals, "rivals are missing"),
        (of_the_logarithm, "ln p"),
        (rivals_only, "own logit"),
        (wrong_way_round, "opposite sign"),
        (probability_largest, "shape"),
    ],
    "6.3": [
        (from_the_beginnings, "beginnings"),
        (from_the_ends, "ends of the steps"),
        (without_the_factor, "in front of the integral"),
        (times_the_image, "The factor is the image"),
        (from_black, "starts at black"),
        (summed, "a mean"),
        (at_the_image, "Walk the whole way"),
    ],
}
RIGHT = {
    "6.1": [sign_step_in_numpy],
    "6.2": [probability_by_autograd, probability_by_classes],
    "6.3": [walk_in_one_batch, walk_by_loop],
}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    model, image = draw.network(seed + 40), draw.image(seed + 40, 16).to(runtime.device())
    if label == "6.1":
        return model, image, seed, (-0.02, 0.3, 0.02)[seed]
    if label == "6.2":
        return model, image, seed
    return model, image, seed, 0.3 * draw.image(seed + 60, 16).to(image), seed + 2
