"""Checks of the exercises of chapter 6, gradients of the score."""

import torch
from torch import Tensor, nn

from helpers import layers, runtime

from . import draw, exercise
from .answers import Answer, compare


def _drawn(seed: int) -> tuple[nn.Module, Tensor]:
    """A network, and an image (3, 16, 20) on the same device."""
    return draw.network(seed), draw.image(seed, 24)[:, :16, :20].to(runtime.device())


def _gradient(model: nn.Module, image: Tensor, target: int, of: str = "logit") -> Tensor:
    """The gradient of the target's logit, probability, or logarithm of the probability: (3, H, W), on the CPU."""
    with layers.evaluating(model, gradients=True):
        pixels = image[None].detach().clone().requires_grad_()
        logits = model(pixels)
        scores = {"logit": logits, "probability": logits.softmax(1), "logarithm": logits.log_softmax(1)}[of]
        return torch.autograd.grad(scores[0, target], pixels)[0][0].cpu()


def _probability(model: nn.Module, image: Tensor, target: int) -> float:
    with layers.evaluating(model):
        return model(image[None]).softmax(1)[0, target].item()


@exercise("6.1", "sign_step(model, image, target, size): the image after the step, (3, H, W)")
def sign_step(answer: Answer) -> None:
    for seed, target, size in ((0, 2, 0.02), (1, 4, -0.02), (2, 0, 0.3), (3, 1, -0.3)):
        model, image = _drawn(seed)
        before, slope = image.cpu(), _gradient(model, image, target)
        step = size * slope.sign()
        compare(
            answer(model, image, target, size),
            (before + step).clamp(0, 1),
            hints={
                "Some values lie outside [0, 1]. Clip them.": before + step,
                "Every step has the opposite sign: a positive size goes uphill.": (before - step).clamp(0, 1),
                "The steps have different lengths. Each value changes by the size, up or down.": (
                    before + size * slope
                ).clamp(0, 1),
                "This is the step without the image.": step,
                "All three channels take the same step. Each value has a gradient of its own.": (
                    before + size * slope.sum(0).sign()
                ).clamp(0, 1),
                "Every value goes the same way. Is there an abs too many?": (
                    before + size * slope.abs().amax(0).sign()
                ).clamp(0, 1),
                "This step raises the probability. The gradient of the logit is asked for.": (
                    before + size * _gradient(model, image, target, "probability").sign()
                ).clamp(0, 1),
            },
            what="the image",
        )


@exercise("6.2", "probability_gradient(model, image, target): the gradient of the probability, (3, H, W)")
def probability_gradient(answer: Answer) -> None:
    for seed, target in ((4, 4), (17, 1), (22, 3)):
        model, image = _drawn(seed)
        logit, p = _gradient(model, image, target), _probability(model, image, target)
        compare(
            answer(model, image, target),
            _gradient(model, image, target, "probability"),
            hints={
                "This is the gradient of the logit.": logit,
                "The rivals are missing: the other logits change the probability, too.": p * (1 - p) * logit,
                "This is p times the gradient of the logit. The rivals are missing.": p * logit,
                "This is the gradient of ln p. From there a factor is missing.": _gradient(
                    model, image, target, "logarithm"
                ),
                "This is only what the rivals add. What does the target's own logit add?": (
                    _gradient(model, image, target, "probability") - p * logit
                ),
            },
            what="the gradient",
        )


@exercise("6.3", "integrated_gradients(model, image, target, baseline, steps): the attributions, (3, H, W)")
def integrated_gradients(answer: Answer) -> None:
    for seed, target, steps in ((7, 2, 4), (8, 0, 3), (9, 4, 1)):
        model, image = _drawn(seed)
        baseline = 0.3 * draw.image(seed + 20, 24)[:, :16, :20].to(image)

        def walk(shift: float = 0.5, start: Tensor = baseline, *, way=None, model=model, image=image, target=target):
            """The product of the way and the mean gradient at the points (step + shift) / steps of the way."""
            points = [torch.lerp(start, image, (step + shift) / steps) for step in range(steps)]  # noqa: B023
            mean = torch.stack([_gradient(model, point, target) for point in points]).mean(0)
            return mean * ((image - start).cpu() if way is None else way)

        black = torch.zeros_like(image)
        compare(
            answer(model, image, target, baseline, steps),
            walk(),
            hints={
                "The points lie at the beginnings of the steps. The midpoints are asked for.": walk(0.0),
                "The points lie at the ends of the steps. The midpoints are asked for.": walk(1.0),
                "The factor (x - x') in front of the integral is missing.": walk(way=1.0),
                "The factor is the image. It must be the way from the baseline to the image.": walk(way=image.cpu()),
                "The path starts at black, not at the baseline.": walk(start=black),
                "The factor is right, but the path starts at black, not at the baseline.": walk(
                    start=black, way=(image - baseline).cpu()
                ),
                "This is the gradient at the image alone, times the way. Walk the whole way.": (
                    _gradient(model, image, target) * (image - baseline).cpu()
                ),
                "The sum over the steps is right. The integral is a mean.": steps * walk(),
            },
            what="the attribution",
        )
