"""Checks of the exercises of chapter 8, guided backpropagation and Guided Grad-CAM."""

import copy
import math

import torch
from torch import Tensor

from helpers import guided, layers, runtime, saliency

from . import draw, exercise
from .answers import Answer, compare, require, tensor


@exercise("8.1", "against(model, image, target): the guided map of the negative logit, (3, H, W)")
def against(answer: Answer) -> None:
    for seed, target in ((0, 1), (1, 4), (2, 3)):
        model, image = draw.network(seed), draw.image(seed, 24)[:, :16, :20].to(runtime.device())
        negative = copy.deepcopy(model)  # its logits are minus those of the model
        with torch.no_grad():
            negative.classes.weight.neg_()
            negative.classes.bias.neg_()
        with layers.relu_rule(negative, "deconvnet"):
            deconvnet = saliency.gradient(negative, image, target, signed=True)
        for_it = guided.backprop(model, image, target)
        compare(
            answer(model, image, target),
            guided.backprop(negative, image, target),
            hints={
                "This is the guided map of the logit itself.": for_it,
                "This is minus the guided map of the logit. Negate the logit, not the map: the rule is not linear.": (
                    -for_it
                ),
                "This is the plain gradient of the negative logit. The guided rule is not at work.": saliency.gradient(
                    negative, image, target, signed=True
                ),
                "This is the plain gradient of the logit. Negate the logit, and use the guided rule.": (
                    saliency.gradient(model, image, target, signed=True)
                ),
                "This is the deconvnet's rule: it does not ask whether a unit was on.": deconvnet,
                "The sign is wrong: minus the map of the negative logit.": -guided.backprop(negative, image, target),
            },
            what="the map",
        )


def _after_a_cut(cosine: float) -> float:
    """The formula of the chapter: the cosine after the negative entries of two long Gaussian vectors are cut."""
    return (math.sqrt(1 - cosine**2) + cosine * (math.pi - math.acos(cosine))) / math.pi


RUNS, FEW, MANY = 80, 30, 400  # runs of 3 steps; entries and runs of one step


@exercise("8.2", "forget(rule, steps, size, seed): the cosines after 0, 1, … steps, a list")
def forget(answer: Answer) -> None:
    def cosines(rule: str, steps: int, size: int, seed: int) -> Tensor:
        found = tensor(answer(rule, steps, size, seed), "the list")
        require(found.ndim == 1, f"One cosine for each step is expected, not a shape {tuple(found.shape)}.")
        require(
            len(found) == steps + 1,
            f"For {steps} steps there must be {steps + 1} cosines, the one before the first step included; "
            f"there are {len(found)}.",
        )
        require(found.abs().max() <= 1.001, "A cosine lies outside [-1, 1].")
        return found

    first, again, other = (cosines("guided", 3, 50, seed) for seed in (0, 0, 1))
    require(torch.equal(first, again), "Two calls with the same seed differ: draw all numbers with that seed.")
    require(not torch.equal(first, other), "Two seeds give the same cosines. Does the seed go into the generator?")

    # Means over many runs. One cosine of vectors with 100 entries varies by about 0.2, the mean of 80 by about 0.02.
    found = torch.stack([cosines("guided", 3, 100, seed) for seed in range(RUNS)]).mean(0).tolist()
    truth = [0.0]
    for _ in range(3):
        truth.append(_after_a_cut(truth[-1]))

    def near(value: float, expected: float) -> bool:
        return abs(value - expected) < 0.12

    require(
        near(found[0], 0) or not near(found[0], truth[1]),
        "The first cosine is that after a cut. Begin with the one after 0 steps.",
    )
    require(
        near(found[0], 0),
        f"Before the first step the cosine is {found[0]:.2f} on average; that of independent Gaussian vectors is 0.",
    )
    require(
        not near(found[1], 0),
        "Under the guided rule the first step must make the vectors alike, and here it does not. "
        "Is what is negative cut, and the matrix the same for both?",
    )
    require(
        near(found[1], truth[1]) or found[1] > truth[1],
        f"After one step the guided cosine is {found[1]:.2f} on average, which is too small. "
        "Is the mask the same for both?",
    )
    require(
        near(found[1], truth[1]),
        f"After one step the guided cosine is {found[1]:.2f} on average, which is too large.",
    )
    require(
        near(found[2], truth[2]) or not near(found[2], found[1]),
        "After the first step nothing more is forgotten. Multiply by the matrix after every cut.",
    )
    for step in (2, 3):
        require(
            near(found[step], truth[step]),
            f"After {step} steps the guided cosine is {found[step]:.2f} on average, by the formula {truth[step]:.2f}.",
        )
    plain = torch.stack([cosines("gradient", 3, 100, seed) for seed in range(RUNS)]).mean(0).abs().max().item()
    require(
        near(plain, 0),
        f'Under the rule "gradient" the cosine grows to {plain:.2f} on average. Only "guided" cuts what is negative.',
    )

    # How much single runs vary tells the number of entries, and how many the mask leaves.
    runs = torch.stack([cosines("gradient", 1, FEW, seed) for seed in range(MANY)])
    start = runs[:, 0].square().mean().item() * FEW  # 1, within 0.07
    require(0.6 < start < 1.5, f"The cosine at the start varies as if the vectors had another size than {FEW}.")
    spread = (runs[:, 1] - runs[:, 0]).square().mean().item() * FEW  # 1 by the matrix, 1 by the mask, within 0.14
    require(spread > 0.4, 'The rule "gradient" changes nothing. Multiply by the matrix under this rule, too.')
    require(
        spread > 1.45,
        "In one step the cosine varies less than it must. Is the mask there, and 1 for half of the units?",
    )
    require(spread < 2.8, "In one step the cosine varies more than it must. Is the mask 1 for half of the units?")


@exercise("8.3", "remainder(lines, absent): what is left of each map, (N, H, W)")
def remainder(answer: Answer) -> None:
    for seed in range(2):
        random = torch.Generator().manual_seed(seed)
        lines, absent = torch.rand(4, 9, 11, generator=random) ** 3, torch.rand(9, 11, generator=random) ** 2
        lines = lines * torch.tensor([1.0, 3.0, 0.2, 2.0])[:, None, None]  # maps of different strengths
        drawing = absent / absent.sum()
        shares = torch.stack([line / line.sum() for line in lines])
        left = torch.stack([share - drawing for share in shares])
        positive = left.clamp(min=0)
        compare(
            answer(lines, absent),
            positive,
            hints={
                "What is negative is still there. Keep what is positive.": left,
                "The maps were not brought to the sum 1.": (lines - absent).clamp(min=0),
                "Bring each of the four maps to the sum 1, not the four together.": (
                    lines / lines.sum() - drawing
                ).clamp(min=0),
                "The four maps were brought to the sum 1, the common drawing was not.": (shares - absent).clamp(min=0),
                "The common drawing was brought to the sum 1, the four maps were not.": (lines - drawing).clamp(min=0),
                "The maps were brought to the maximum 1, not to the sum 1.": (
                    lines / lines.amax((1, 2), keepdim=True) - absent / absent.max()
                ).clamp(min=0),
                "The difference is the wrong way round: take the common drawing away from each map.": (-left).clamp(
                    min=0
                ),
                "This is the absolute difference. Keep what is positive.": left.abs(),
                "The remainder was brought to the sum 1 again. Leave it as it is.": positive
                / positive.sum((1, 2), keepdim=True),
            },
            what="the remainder",
        )
