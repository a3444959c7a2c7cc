"""Checks of the exercises of chapter 5, occlusion."""

import torch
from torch import Tensor, nn

from helpers import layers, runtime

from . import draw, exercise
from .answers import Answer, compare


def _scores(model: nn.Module, images: Tensor, target: int, *, probability: bool = True) -> Tensor:
    """Probabilities, or logits, of the target: (N,), on the CPU."""
    with layers.evaluating(model):
        logits = model(images.to(runtime.device())).cpu()
    return (logits.softmax(1) if probability else logits)[:, target]


def _cover(image: Tensor, boxes: list[tuple[int, int, int, int]], fill: float = 0.5) -> Tensor:
    covered = image.clone()
    for top, left, bottom, right in boxes:
        covered[:, top:bottom, left:right] = fill
    return covered


@exercise("5.1", "drop(model, image, target, box): the drop of the probability, a float")
def drop(answer: Answer) -> None:
    for seed, box in enumerate([(4, 8, 20, 28), (10, 0, 19, 32)]):
        model, image = draw.network(seed), draw.image(seed)
        top, left, bottom, right = box

        def change(covered: Tensor, *, model=model, image=image, **kind: bool) -> Tensor:
            whole, hidden = _scores(model, torch.stack([image, covered]), 2, **kind)
            return whole - hidden

        compare(
            answer(model, image, 2, box),
            change(_cover(image, [box])),
            hints={
                "This is the drop of the logit. The probability comes after a softmax.": change(
                    _cover(image, [box]), probability=False
                ),
                "The pixels became black. Replace them by 0.5.": change(_cover(image, [box], 0)),
                "Rows and columns are mixed up: a box is (top, left, bottom, right).": change(
                    _cover(image, [(left, top, right, bottom)])
                ),
                "The box ends before bottom and right: these are the first ones outside.": change(
                    _cover(image, [(top, left, bottom + 1, right + 1)])
                ),
            },
            what="the drop",
        )
    nothing = answer(model, image, 2, (3, 3, 3, 3))
    compare(nothing, 0, what="the drop for a box without a pixel")


@exercise("5.2", "rise(model, image, target, masks): the mean probability where each pixel is visible, (H, W)")
def rise(answer: Answer) -> None:
    model, image = draw.network(3), draw.image(3)[:, :24, :20]
    masks = torch.rand(21, 24, 20, generator=torch.Generator().manual_seed(1))

    def weighted(masks: Tensor, fill: float = 0.5, **kind: bool) -> Tensor:
        scores = _scores(model, fill + masks[:, None] * (image - fill), 1, **kind)
        return torch.einsum("n,nhw->hw", scores, masks)

    visible = masks.sum(0)
    compare(
        answer(model, image, 1, masks),
        weighted(masks) / visible,
        hints={
            "The weighted sum is right. Divide each pixel by the sum of its masks.": weighted(masks),
            "Divide by the sum of the masks at each pixel, not by their number.": weighted(masks) / len(masks),
            "What is hidden became black. Fill with 0.5.": weighted(masks, 0.0) / visible,
            "These are logits. The formula asks for the probability: softmax.": weighted(masks, probability=False)
            / visible,
            "The masks are the wrong way round: 1 is where the picture is kept.": weighted(1 - masks)
            / (1 - masks).sum(0),
        },
        what="the map",
    )


@exercise("5.3", "windows_to_change(model, image, order, window): how many windows it takes, an int")
def windows_to_change(answer: Answer) -> None:
    random = torch.Generator().manual_seed(0)
    for seed in range(6):
        model, image = draw.network(seed), draw.image(seed)
        order = [(8 * (index // 4), 8 * (index % 4)) for index in torch.randperm(16, generator=random).tolist()]
        boxes = [(top, left, top + 8, left + 8) for top, left in order]

        def decision(boxes: list, *, model=model, image=image) -> int:
            with layers.evaluating(model):
                return model(_cover(image, boxes)[None].to(runtime.device())).argmax().item()

        together = [decision(boxes[:count]) for count in range(1, 17)]
        alone = [decision([box]) for box in boxes]
        truth, single = (
            next((count for count, found in enumerate(series, start=1) if found != decision([])), 16)
            for series in (together, alone)
        )
        compare(
            answer(model, image, order, 8),
            truth,
            hints={
                "Windows that were covered must stay covered.": single,
                "One too few: the window that changes the decision counts.": truth - 1,
                "One too many: stop at the window that changes the decision.": truth + 1,
            },
            what="the number of windows",
            tolerance=0,
        )
    compare(answer(model, image, [], 8), 0, what="the number for an empty order", tolerance=0)
