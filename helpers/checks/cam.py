"""Checks of the exercises of chapter 7, class activation maps."""

import torch
from torch import Tensor, nn

from helpers import cam, layers, runtime

from . import draw, exercise
from .answers import Answer, Wrong, compare, require, tensor


@exercise("7.1", "cups(cup, count): the grid of four cells, (3, 2H, 2W)")
def cups(answer: Answer) -> None:
    coffee = draw.image(0, 16)[:, :10, :14]
    corners = [(0, 0), (0, 14), (10, 0), (10, 14)]

    def grid(filled: list[tuple[int, int]], fill: float = 0.5) -> Tensor:
        image = torch.full((3, 20, 28), fill)
        for top, left in filled:
            image[:, top : top + 10, left : left + 14] = coffee
        return image

    for count in (0, 4, 1, 2, 3):
        compare(
            answer(coffee, count),
            grid(corners[:count]),
            hints={
                "The cells fill up from top to bottom. Fill the upper row first.": grid(
                    [corners[index] for index in (0, 2, 1, 3)[:count]]
                ),
                "The cells fill up from the last to the first.": grid(corners[::-1][:count]),
                "The empty cells are black. Grey is 0.5.": grid(corners[:count], 0.0),
                "The empty cells are white. Grey is 0.5.": grid(corners[:count], 1.0),
                "There is one cup too many.": grid(corners[: count + 1]),
                "There is one cup too few.": grid(corners[: max(count - 1, 0)]),
                "The cups and the empty cells are exchanged.": grid(corners[count:]),
            },
            what=f"the grid with {count} cups",
            tolerance=1e-5,
        )


@exercise("7.2", "hirescam(model, image, target, layer): the signed map, (h, w)")
def hirescam(answer: Answer) -> None:
    for seed, target, layer in ((1, 1, "conv2"), (2, 4, "pool"), (3, 0, "conv1"), (0, 3, "relu2")):
        model, image = draw.network(seed), draw.image(seed, 24)[:, :16, :20].to(runtime.device())
        cut = [name for name, _ in model.named_children()].index(layer) + 1
        with layers.evaluating(model, gradients=True):  # the network in two parts, so that no hook is needed
            maps = model[:cut](image[None]).detach().requires_grad_()
            gradients = torch.autograd.grad(model[cut:](maps)[0, target], maps)[0][0].cpu()
        maps = maps.detach()[0].cpu()
        signed = torch.einsum("khw,khw->hw", gradients, maps)
        weights = gradients.mean((1, 2))
        compare(
            answer(model, image, target, layer),
            signed,
            hints={
                "This is Grad-CAM: the gradients were averaged over the places before the product.": torch.einsum(
                    "k,khw->hw", weights, maps
                ),
                "This is Grad-CAM with its ReLU.": torch.einsum("k,khw->hw", weights, maps).relu(),
                "The products are right. Add them up over the maps.": gradients * maps,
                "This is a mean over the maps. HiResCAM adds them up.": signed / len(maps),
                "The map is right, but its negative values are gone. It is signed: no ReLU.": signed.relu(),
                "This is the sum of the gradients. Multiply each by its feature map first.": gradients.sum(0),
                "This is the sum of the feature maps. Multiply each by its gradient first.": maps.sum(0),
                "The gradients lost their signs.": (gradients.abs() * maps).sum(0),
                "The negative products are left out. Add them, too.": (gradients * maps).relu().sum(0),
            },
            what=f"the map at {layer}",
        )


def _brightness_by_position(by_position: Tensor) -> nn.Module:
    """The network of the exercise: brightness, and for each position a weight."""
    network = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), nn.Flatten(), nn.Linear(64, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1 / 3)
        network[2].weight.copy_(by_position.flatten()[None])
    return network.eval().to(runtime.device())


@exercise("7.3", "fooling(): the weights by position (8, 8), and the image (3, 8, 8)")
def fooling(answer: Answer) -> None:
    found = answer()
    if not (isinstance(found, tuple | list) and len(found) == 2):
        raise Wrong("Return two things: the weights by position (8, 8) and the image (3, 8, 8).")
    by_position, image = tensor(found[0], "the weights").float(), tensor(found[1], "the image").float()
    shapes = tuple(by_position.shape), tuple(image.shape)
    require(
        shapes != ((3, 8, 8), (8, 8)),
        "The two are in the wrong order: first the weights by position, then the image.",
    )
    require(shapes[0] == (8, 8), f"The weights have shape {shapes[0]}, expected (8, 8).")
    require(shapes[1] == (3, 8, 8), f"The image has shape {shapes[1]}, expected (3, 8, 8).")
    require(by_position.isfinite().all(), "The weights hold an infinite value.")
    require(
        image.min() >= 0 and image.max() <= 1,
        f"The image has values from {image.min():.2g} to {image.max():.2g}. An image lies in [0, 1].",
    )
    network = _brightness_by_position(by_position)
    heatmap = cam.gradcam(network, image, 0, layer="0", upsample=False).flatten().cpu()
    require(
        heatmap.sum() > 0,
        "Grad-CAM is 0 everywhere: it weights the map by the mean gradient, and here the mean is not positive.",
    )
    hidden = torch.eye(64).view(64, 1, 8, 8)  # one pixel in each of 64 copies
    with layers.evaluating(network):
        scores = network(torch.cat([image[None], image * (1 - hidden)]).to(runtime.device()))[:, 0].cpu()
    change = scores[1:] - scores[0]
    raises = change > 1e-5 * change.abs().max()
    share = (heatmap[raises].sum() / heatmap.sum()).item()
    require(
        raises.any(),
        "Covering lowers the score wherever you try: Grad-CAM is not wrong here. Which weights make it rise?",
    )
    require(
        share > 0.5,
        f"Grad-CAM puts a share of {share:.2f} of its values on pixels whose covering raises the score. "
        "It must be more than half.",
    )
