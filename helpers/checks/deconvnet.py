"""Checks of the exercises of chapter 4, the deconvnet."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers import layers, models, runtime
from helpers.inputs import Box

from . import draw, exercise
from .answers import Answer, compare


def _classifier(seed: int) -> models.Classifier:
    """A small LectureNet with random weights, in which no map is dead."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.Classifier(models.LectureNet(2), std=(0.2, 0.3, 0.25)).eval()
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, std=0.05)
    return model.to(runtime.device())


@exercise("4.1", "first_layer_picture(model, channel): what an activation of 1 sends back, (3, 11, 11)")
def first_layer_picture(answer: Answer) -> None:
    for seed, channel in ((0, 3), (1, 40)):
        model = _classifier(seed)
        image = draw.image(seed, 32).to(runtime.device()).requires_grad_()
        response = layers.run_to(model, "conv1", image[None])[0, channel, 4, 4]  # it sees rows and columns 11 to 21
        truth = torch.autograd.grad(response, image)[0][:, 11:22, 11:22].cpu()
        weight, std = model.network.conv1.weight.detach()[channel].cpu(), model.std.cpu()
        compare(
            answer(model, channel),
            truth,
            hints={
                "This is the filter. The way back ends at the pixels: one more step, the normalisation.": weight,
                "Multiplied by the deviations. Which way does the walk go?": weight * std,
                "The filter is mirrored. A transposed convolution puts it down as it is.": truth.flip(1, 2),
                "The mean does not come back: it is a constant, and drops out of differences.": truth
                + model.mean.cpu(),
                "Negative weights come back, too: there is no ReLU below the first layer.": truth.clamp(min=0),
            },
            what="the picture",
        )


def _back(model: models.Classifier, image: Tensor, rule: str, signal) -> tuple[Tensor, Tensor]:
    """The maps of relu5, and what ``signal`` of them sends back to the pixels by ``rule``; a step at a time."""
    value, steps = ((image - model.mean) / model.std)[None], []
    with torch.no_grad():
        for name, module in model.network.named_children():
            steps.append((module, value))
            value = module(value)
            if name == "relu5":
                break
        found = signal(value)
        for module, before in reversed(steps):
            if isinstance(module, nn.ReLU):
                found = found if rule == "gradient" else found.clamp(min=0)
                found = found if rule == "deconvnet" else found * (before > 0)
            elif isinstance(module, nn.Conv2d):
                found = torch.nn.grad.conv2d_input(
                    before.shape, module.weight, found, stride=module.stride, padding=module.padding
                )
            else:
                switches = F.max_pool2d(before, module.kernel_size, module.stride, module.padding, return_indices=True)[
                    1
                ]
                reached = torch.zeros_like(before).flatten(2)
                found = reached.scatter_add(2, switches.flatten(2), found.flatten(2)).view_as(before)
    return value, found / model.std


@exercise("4.2", "additivity(model, image, rule): the length of what is missing, relative, a float")
def additivity(answer: Answer) -> None:
    for seed, rule in ((0, "guided"), (1, "deconvnet"), (0, "gradient"), (2, "guided"), (0, "deconvnet")):
        model, image = _classifier(seed), draw.image(seed, 64).to(runtime.device())

        def strongest(maps: Tensor, *numbers: int, whole: bool = False) -> Tensor:
            """The signal of these of the maps, each at its strongest place."""
            signal, order = torch.zeros_like(maps), maps[0].amax((1, 2)).argsort(descending=True)
            for number in numbers:
                chosen = maps[0, order[number]]
                signal[0, order[number]] = chosen * (whole | (chosen == chosen.max()))
            return signal

        def sent(*numbers: int, model=model, image=image, rule=rule, **how: bool) -> Tensor:
            return _back(model, image, rule, lambda maps: strongest(maps, *numbers, **how))[1]

        first, second, both = sent(0), sent(1), sent(0, 1)
        missing = (both - first - second).norm()
        whole = [sent(*numbers, whole=True) for numbers in ((0, 1), (0,), (1,))]
        compare(
            answer(model, image, rule),
            missing / both.norm() if rule != "gradient" else 0,  # rounding alone
            hints={
                "This is a length. Divide it by that of the reconstruction of both.": missing,
                "Divided by the sum of the two lengths. Divide by the length of the reconstruction of both.": missing
                / (first.norm() + second.norm()),
                "This is a ratio of squared lengths. Take the roots.": (missing / both.norm()) ** 2,
                "One of the two is added, not subtracted.": (both - first + second).norm() / both.norm(),
                "The signals are whole maps. Each keeps its strongest place only.": (
                    whole[0] - whole[1] - whole[2]
                ).norm()
                / whole[0].norm(),
            },
            what="the missing part",
        )


@exercise("4.3", "remaining(model, pattern, about, share): the activations that remain, relative, (N,)")
def remaining(answer: Answer) -> None:
    for seed, share in ((0, 0.1), (1, 0.2)):
        model, random = _classifier(seed), torch.Generator().manual_seed(seed)
        images = torch.stack([draw.image(10 * seed + number, 64) for number in range(4)]).to(runtime.device())
        pattern = torch.randn(images.shape, generator=random).to(images)
        with layers.evaluating(model):
            maps = layers.run_to(model, "relu2", images).cpu()
        field = layers.receptive_field(model, "relu2", size=64)
        rows, columns = torch.tensor([2, 4, 5, 3]), torch.tensor([4, 3, 2, 5])
        channels = torch.stack([maps[n, :, r, c].argmax() for n, (r, c) in enumerate(zip(rows, columns))])
        boxes = [field.box(r, c) for r, c in zip(rows.tolist(), columns.tolist())]
        own = maps[torch.arange(4), channels, rows, columns]
        about = {"layer": "relu2", "images": images, "unit": (channels, rows, columns), "boxes": boxes, "own": own}

        def left(
            strength, fill=0.5, share=share, boxes=boxes, *, model=model, images=images, pattern=pattern, about=about
        ) -> Tensor:
            """The activations, with the share of pixels greyed for which ``strength`` of the pattern is largest."""
            erased = images.clone()
            for image, signed, box in zip(erased, pattern, boxes):
                values = strength(signed)[box.slices]
                limit = values.flatten().sort(descending=True).values[round(share * values.numel()) - 1]
                image[:, *box.slices][:, values >= limit] = fill
            with layers.evaluating(model):
                maps = layers.run_to(model, "relu2", erased).cpu()
            return maps[torch.arange(4), *about["unit"]]

        def largest(signed: Tensor) -> Tensor:
            return signed.abs().amax(0)

        whole = [Box(0, 0, 64, 64)] * 4
        compare(
            answer(model, pattern, about, share),
            left(largest) / own,
            hints={
                "These are the activations. Divide by the original ones.": left(largest),
                "This is how much is lost. Return what remains.": 1 - left(largest) / own,
                "The pixels became black. Mid-grey is 0.5.": left(largest, 0.0) / own,
                "The strongest positive pixels were erased. Go by the absolute pattern.": left(lambda s: s.amax(0))
                / own,
                "The weakest pixels were erased.": left(lambda s: -largest(s)) / own,
                "The sum over the channels was taken. Take the largest.": left(lambda s: s.abs().sum(0)) / own,
                "The pixels come from the whole image. Look in the receptive field only.": left(largest, boxes=whole)
                / own,
                "All but the share was erased.": left(lambda s: -largest(s), share=1 - share) / own,
            },
            what="what remains",
            tolerance=0.02,
        )
