"""Chapter 8: guided backpropagation and Guided Grad-CAM."""

import numpy as np
import torch

from helpers import guided, layers, runtime, saliency
from helpers.checks import draw


def against_is_for(model, image, target):
    return guided.backprop(model, image, target)


def against_by_minus(model, image, target):
    return -guided.backprop(model, image, target)


def against_by_gradient(model, image, target):
    return -saliency.gradient(model, image, target, signed=True)


def _against(model, image, target, rule):
    pixels = image[None].clone().requires_grad_()
    with layers.relu_rule(model, rule):
        score = -model(pixels)[0, target]
        return torch.autograd.grad(score, pixels)[0][0]


def against_by_deconvnet(model, image, target):
    return _against(model, image, target, "deconvnet")


def against_absolute(model, image, target):
    return _against(model, image, target, "guided").abs()


def against_largest(model, image, target):
    return _against(model, image, target, "guided").abs().amax(0)


def against_by_hooks(model, image, target):
    """Right: hooks on the ReLUs, backward()."""
    handles = [
        module.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0].clamp(min=0),))
        for module in model.modules()
        if isinstance(module, torch.nn.ReLU)
    ]
    pixels = image[None].clone().requires_grad_()
    (-model(pixels)[0, target]).backward()
    for handle in handles:
        handle.remove()
    return pixels.grad[0]


def _forget(rule, steps, size, seed, *, masks=1, matrices=1, mask=0.5, start=torch.randn, first=0, cut=("guided",)):
    random = torch.Generator().manual_seed(seed)
    both, cosines = start(size, 2, generator=random), []
    for _ in range(first + steps + 1):
        cosines.append(torch.nn.functional.cosine_similarity(*both.T, dim=0).item())
        both = both * (torch.rand(size, masks, generator=random) < mask)
        both = both.clamp(min=0) if rule in cut else both
        if matrices:
            products = torch.randn(matrices, size, size, generator=random) @ both / size**0.5
            both = torch.stack([products[0, :, 0], products[-1, :, 1]], 1)
    return cosines[first:]


def forget_two_masks(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, masks=2)


def forget_two_matrices(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, matrices=2)


def forget_without_matrix(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, matrices=0)


def forget_without_mask(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, mask=1)


def forget_with_a_quarter(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, mask=0.25)


def forget_from_the_first_step(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, first=1)


def forget_without_the_start(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed)[1:]


def forget_always_guided(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, cut=("guided", "gradient"))


def forget_never_guided(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, cut=())


def forget_from_uniform(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, seed, start=torch.rand)


def forget_of_fixed_size(rule, steps, size=500, seed=0):
    return _forget(rule, steps, 100, seed)


def forget_one_seed(rule, steps, size=500, seed=0):
    return _forget(rule, steps, size, 0)


def forget_in_numpy(rule, steps, size=500, seed=0):
    """Right: numpy, and half of the units exactly."""
    random = np.random.default_rng(seed)
    first, second = random.standard_normal((2, size))
    found = []
    for step in range(steps + 1):
        found.append(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
        if step == steps:
            return np.array(found)
        keep = random.permutation(size) < size // 2
        matrix = random.standard_normal((size, size))
        for vector in (first, second):
            vector *= keep
            if rule == "guided":
                np.maximum(vector, 0, out=vector)
            vector[:] = matrix @ vector / np.sqrt(size / 2)


def _shares(maps):
    return maps / maps.sum((-2, -1), keepdim=True)


def remainder_signed(lines, absent):
    return _shares(lines) - _shares(absent)


def remainder_of_raw_maps(lines, absent):
    return (lines - absent).clamp(min=0)


def remainder_together(lines, absent):
    return (lines / lines.sum() - _shares(absent)).clamp(min=0)


def remainder_by_maximum(lines, absent):
    return (lines / lines.amax((1, 2), keepdim=True) - absent / absent.max()).clamp(min=0)


def remainder_reversed(lines, absent):
    return (_shares(absent) - _shares(lines)).clamp(min=0)


def remainder_absolute(lines, absent):
    return (_shares(lines) - _shares(absent)).abs()


def remainder_in_place(lines, absent):
    lines /= lines.sum((1, 2), keepdim=True)
    return (lines - _shares(absent)).clamp(min=0)


def remainder_by_loop(lines, absent):
    """Right: one map at a time, numpy."""
    drawing = absent.double().numpy() / absent.double().sum().item()
    left = []
    for line in lines.double().numpy():
        share = line / line.sum()
        left.append(np.where(share > drawing, share - drawing, 0))
    return left


WRONG = {
    "8.1": [
        (against_is_for, "logit itself"),
        (against_by_minus, "not linear"),
        (against_by_gradient, "not at work"),
        (against_by_deconvnet, "deconvnet"),
        (against_absolute, "abs too many"),
        (against_largest, "shape"),
    ],
    "8.2": [
        (forget_two_masks, "mask the same for both"),
        (forget_two_matrices, "matrix the same for both"),
        (forget_without_matrix, "after every cut"),
        (forget_without_mask, "varies less"),
        (forget_with_a_quarter, "varies more"),
        (forget_from_the_first_step, "Begin with the one after 0 steps"),
        (forget_without_the_start, "there must be 4 cosines"),
        (forget_always_guided, 'Only "guided" cuts'),
        (forget_never_guided, "negative cut"),
        (forget_from_uniform, "independent Gaussian vectors is 0"),
        (forget_of_fixed_size, "another size"),
        (forget_one_seed, "Two seeds"),
    ],
    "8.3": [
        (remainder_signed, "Keep what is positive"),
        (remainder_of_raw_maps, "not brought to the sum 1"),
        (remainder_together, "not the four together"),
        (remainder_by_maximum, "maximum 1"),
        (remainder_reversed, "wrong way round"),
        (remainder_absolute, "absolute difference"),
        (remainder_in_place, "clone"),
    ],
}
RIGHT = {"8.1": [against_by_hooks], "8.2": [forget_in_numpy], "8.3": [remainder_by_loop]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    if label == "8.1":
        return draw.network(seed + 40), draw.image(seed + 40, 16).to(runtime.device()), seed
    if label == "8.2":
        return ("guided", "gradient", "guided")[seed], 3, 40, seed
    random = torch.Generator().manual_seed(seed)
    return torch.rand(4, 6, 7, generator=random) ** 2, torch.rand(6, 7, generator=random)
