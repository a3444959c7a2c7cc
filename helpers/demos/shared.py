"""What several demos share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import ImageDraw
from torch import Tensor

from ..inputs import Box
from ..layers import ReceptiveField
from ..models import Classifier


def outline(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float) -> None:
    """A white line in a black one along the inside of a rectangle."""
    for inset, ink in enumerate(("black", "white")):
        draw.rectangle((left + inset, top + inset, right - 1 - inset, bottom - 1 - inset), None, ink)


def whole_field(image: Tensor, field: ReceptiveField, unit: Sequence[int]) -> Tensor:
    """What the unit (row, col) sees of an image (3, H, W), as large as the field; grey where the image ends."""
    margin = max(field.size)
    box = Box(*(side + margin for side in field.whole(*unit)))
    return F.pad(image, [margin] * 4, value=0.5)[:, *box.slices]


def choices(model: Classifier, picture: Tensor, targets: Sequence[int] | None, absent: str) -> tuple[list[int], Tensor]:
    """The classes to choose from, with one that is not there at the end, and all logits."""
    with torch.no_grad():
        logits = model(picture[None])[0].cpu()
    targets = list(targets) if targets is not None else logits.topk(4).indices.tolist()
    return targets + [model.index(absent)] * (absent in model.categories), logits
