"""Checks of the exercises of chapter 6, gradients of the score."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from helpers import layers, runtime

from . import draw, exercise
from .answers import Answer, Wrong, compare


def _drawn(seed: int) -> tuple[nn.Module, Tensor]:
    """A network, and an image (3, 16, 20) on the same device."""
    return draw.network(seed), draw.image(seed, 24)[:, :16, :20].to(runtime.device())


def _gradient(model: nn.Module, image: Tensor, target: int, of: str = "logit") -> Tensor:
    """The gradient of the target's logit or probability: (3, H, W), on the CPU."""
    with layers.evaluating(model, gradients=True):
        pixels = image[None].detach().clone().requires_grad_()
        logits = model(pixels)
        scores = {"logit": logits, "probability": logits.softmax(1)}[of]
        return torch.autograd.grad(scores[0, target], pixels)[0][0].cpu()


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


@exercise("6.2", "integrated_gradients(model, image, target, baseline, steps): the attributions, (3, H, W)")
def integrated_gradients(answer: Answer) -> None:
    for seed, target, steps in ((7, 2, 4), (8, 0, 3), (9, 4, 1)):
        model, image = _drawn(seed)
        baseline = 0.3 * draw.image(seed + 20, 24)[:, :16, :20].to(image)

        def walk(
            shift: float = 0.5,
            start: Tensor = baseline,
            *,
            way=None,
            of="logit",
            model=model,
            image=image,
            target=target,
        ):
            """The product of the way and the mean gradient at the points (step + shift) / steps of the way."""
            points = [torch.lerp(start, image, (step + shift) / steps) for step in range(steps)]  # noqa: B023
            mean = torch.stack([_gradient(model, point, target, of) for point in points]).mean(0)
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
                "This explains the probability. The gradient of the logit is asked for.": walk(of="probability"),
            },
            what="the attribution",
        )


def _dream(
    model: nn.Module,
    image: Tensor,
    layer: str | None,
    steps: int,
    size: float,
    *,
    objective: Callable[[Tensor], Tensor] = torch.square,
    length: Callable[[Tensor], Tensor] = lambda slope: slope / slope.abs().mean(),
    clip: str = "each step",
    anew: bool = True,
) -> Tensor:
    """DeepDream with one thing changed; ``layer`` None stands for the logits."""
    image = start = image.detach().clone()
    with layers.evaluating(model, gradients=True):
        for _ in range(steps):
            pixels = (image if anew else start).clone().requires_grad_()
            activation = pixels[None]
            for name, module in model.named_children():  # `layers.run_to` refuses an image that was not clipped
                activation = module(activation)
                if name == layer:
                    break
            image = image + size * length(torch.autograd.grad(objective(activation).sum(), pixels)[0])
            image = image.clamp(0, 1) if clip == "each step" else image
    return (image.clamp(0, 1) if clip == "the end" else image).cpu()


@exercise("6.3", "dream(model, image, layer, steps, size): the image after the steps, (3, H, W)")
def dream(answer: Answer) -> None:
    for seed, layer, steps, size in ((5, "relu1", 3, 0.03), (12, "relu2", 2, 0.05), (23, "conv2", 4, 0.02)):
        model, image = _drawn(seed)
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        model.__deepcopy__ = lambda memo, model=model: model  # the answer gets the network itself: what becomes of it?

        def dreamt(model=model, image=image, layer=layer, steps=steps, size=size, **change) -> Tensor:
            return _dream(model, image, layer, steps, size, **change)

        truth = dreamt()
        others = {name for name, _ in model.named_children()} - {layer}
        hints = {
            "It goes downhill. Add the gradient: the activations are to grow.": dreamt(size=-size),
            "Some values leave [0, 1]. Clip them after each step.": dreamt(clip="never"),
            "It clips only at the end. Clip after each step.": dreamt(clip="the end"),
            "The start is ignored: this dream begins with a grey image.": dreamt(image=torch.full_like(image, 0.5)),
            "The start is ignored: this dream begins with a black image.": dreamt(image=torch.zeros_like(image)),
            "This is what makes the logits large. Take the layer's activations.": dreamt(layer=None),
            "This raises the mean activation. The mean of the squares is asked for.": dreamt(
                objective=lambda activation: activation
            ),
            "Every step takes the gradient of the start. Compute it anew at the image so far.": dreamt(anew=False),
            "The gradient is not divided by the mean of its absolute values.": dreamt(length=lambda slope: slope),
            "The gradient is divided by its standard deviation, not by the mean of its absolute values.": dreamt(
                length=lambda slope: slope / slope.std()
            ),
            "Only the gradient's sign is used. Divide it by the mean of its absolute values.": dreamt(
                length=torch.sign
            ),
            "One step is missing.": dreamt(steps=steps - 1),
            "This is one step too many.": dreamt(steps=steps + 1),
            "This is the image as it was given, or nearly so. Is each gradient divided by the mean of its absolute "
            "values, and its step added to the image?": image,
        } | {f"This is the dream of another layer, {name}: use the argument.": dreamt(layer=name) for name in others}
        found = answer(model, image, layer, steps, size)
        if any(not torch.equal(weights[name], value) for name, value in model.state_dict().items()):
            raise Wrong("The network has changed: its weights are no longer what they were. Change the image alone.")
        if any(module._forward_hooks for module in model.modules()):
            raise Wrong("A hook of yours is still in the network. Remove it at the end: handle.remove().")
        compare(found, truth, hints=hints, what="the image")
