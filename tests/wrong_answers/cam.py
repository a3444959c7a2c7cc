"""Chapter 7: class activation maps."""

import numpy as np
import torch

from helpers import cam, layers, runtime
from helpers.checks import draw


def _cups(coffee, count, order=(0, 1, 2, 3), fill=0.5):
    rows, cols = coffee.shape[1:]
    image = torch.full((3, 2 * rows, 2 * cols), fill)
    for cell in order[:count]:
        row, col = divmod(cell, 2)
        image[:, row * rows : (row + 1) * rows, col * cols : (col + 1) * cols] = coffee
    return image


def cups_by_column(coffee, count):
    return _cups(coffee, count, (0, 2, 1, 3))


def cups_from_the_end(coffee, count):
    return _cups(coffee, count, (3, 2, 1, 0))


def cups_on_black(coffee, count):
    return _cups(coffee, count, fill=0.0)


def cups_one_more(coffee, count):
    return _cups(coffee, count + 1)


def cups_of_one_row(coffee, count):
    return torch.cat([coffee] * count + [torch.full_like(coffee, 0.5)] * (4 - count), 2)


def cups_of_three(coffee, count):
    return _cups(coffee, min(count, 3))


def cups_in_numpy(coffee, count):
    """Right: tiles, and a mask for the empty cells."""
    empty = (np.arange(4) >= count).reshape(2, 2).repeat(coffee.shape[1], 0).repeat(coffee.shape[2], 1)
    return np.where(empty, 0.5, np.tile(coffee.numpy(), (1, 2, 2)))


def _parts(model, image, target, layer):
    """The feature maps and their gradients, both (K, h, w)."""
    with layers.record(model, [layer]) as activations:
        logit = model(image[None].clone().requires_grad_())[0, target]
        gradients = torch.autograd.grad(logit, activations[layer])[0]
    return activations[layer][0].detach(), gradients[0]


def grad_cam(model, image, target, layer):
    maps, gradients = _parts(model, image, target, layer)
    return (gradients.mean((1, 2), keepdim=True) * maps).sum(0)


def grad_cam_with_relu(model, image, target, layer):
    return cam.gradcam(model, image, target, layer=layer, upsample=False)


def hirescam_with_relu(model, image, target, layer):
    maps, gradients = _parts(model, image, target, layer)
    return (gradients * maps).sum(0).relu()


def hirescam_not_summed(model, image, target, layer):
    maps, gradients = _parts(model, image, target, layer)
    return gradients * maps


def hirescam_mean(model, image, target, layer):
    maps, gradients = _parts(model, image, target, layer)
    return (gradients * maps).mean(0)


def hirescam_with_batch(model, image, target, layer):
    maps, gradients = _parts(model, image, target, layer)
    return (gradients * maps).sum(0, keepdim=True)


def hirescam_of_gradients(model, image, target, layer):
    return _parts(model, image, target, layer)[1].sum(0)


def hirescam_by_hooks(model, image, target, layer):
    """Right: hooks of its own, backward(), numpy."""
    seen = {}

    def forward(module, arguments, output):
        seen["maps"] = output
        output.retain_grad()

    handle = model.get_submodule(layer).register_forward_hook(forward)
    model(image[None])[0, target].backward()
    handle.remove()
    model.zero_grad()
    maps = seen["maps"]
    return np.einsum("khw,khw->hw", maps.detach()[0].cpu().numpy(), maps.grad[0].cpu().numpy())


def _halves(left, right):
    return torch.tensor([left] * 4 + [right] * 4).expand(8, 8)


def fooling_nobody():
    return torch.ones(8, 8), torch.full((3, 8, 8), 0.5)


def fooling_with_an_empty_map():
    return _halves(0.5, -2.0), _halves(0.3, 0.9).expand(3, 8, 8)


def fooling_too_little():
    return _halves(2.0, -0.5), torch.full((3, 8, 8), 0.5)


def fooling_too_bright():
    return _halves(2.0, -0.5), _halves(0.3, 9.0).expand(3, 8, 8)


def fooling_in_another_order():
    return _halves(0.3, 0.9).expand(3, 8, 8), _halves(2.0, -0.5)


def fooling_in_grey():
    return _halves(2.0, -0.5), _halves(0.3, 0.9)


def fooling_by_the_weights_alone():
    return _halves(2.0, -0.5)


def fooling_by_one_pixel():
    """Right: a single pixel speaks for the class, and a dark one at that; numpy."""
    by_position, image = np.full((8, 8), -0.01), np.ones((3, 8, 8))
    by_position[4, 4], image[:, 4, 4] = 10, 0.1
    return by_position, image


def fooling_by_rows():
    """Right: rows in turn, random brightness."""
    by_position = np.where(np.arange(64).reshape(8, 8) // 8 % 2, -1.0, 1.5)
    image = np.random.default_rng(0).random((3, 8, 8)) * np.where(by_position > 0, 0.2, 1.0)
    return [by_position.tolist(), image.tolist()]


WRONG = {
    "7.1": [
        (cups_by_column, "upper row first"),
        (cups_from_the_end, "last to the first"),
        (cups_on_black, "black"),
        (cups_one_more, "too many"),
        (cups_of_one_row, "shape"),
        (cups_of_three, "too few"),
    ],
    "7.2": [
        (grad_cam, "This is Grad-CAM: the gradients were averaged"),
        (grad_cam_with_relu, "Grad-CAM with its ReLU"),
        (hirescam_with_relu, "no ReLU"),
        (hirescam_not_summed, "Add them up"),
        (hirescam_mean, "a mean over the maps"),
        (hirescam_with_batch, "size 1"),
        (hirescam_of_gradients, "sum of the gradients"),
    ],
    "7.3": [
        (fooling_nobody, "not wrong here"),
        (fooling_with_an_empty_map, "0 everywhere"),
        (fooling_too_little, "more than half"),
        (fooling_too_bright, "[0, 1]"),
        (fooling_in_another_order, "wrong order"),
        (fooling_in_grey, "The image has shape"),
        (fooling_by_the_weights_alone, "two things"),
    ],
}
RIGHT = {
    "7.1": [cups_in_numpy],
    "7.2": [hirescam_by_hooks],
    "7.3": [fooling_by_one_pixel, fooling_by_rows],
}


def samples(label, seed):
    """Arguments on which two answers can be told apart; none for 7.3, where many answers are right."""
    if label == "7.1":
        return draw.image(seed, 16)[:, :12], seed + 1
    if label == "7.2":
        image = draw.image(seed + 40, 16).to(runtime.device())
        return draw.network(seed + 40), image, seed, ("relu2", "conv2", "pool")[seed]
    return ()
