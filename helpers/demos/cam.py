"""The demo of chapter 7: one picture, one map for each class."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from torch import Tensor

from ..cam import cam
from ..models import Classifier
from .shared import choices
from .widget import Control, Demo, Frame, Report, Row, Scene, heat, photo

PARTS = "for", "for and against"
COLOURS = "own scale", "one scale"


def show(model: Classifier, image: Tensor, targets: Sequence[int] | None = None, *, absent: str = "flamingo") -> Demo:
    """Choose the class, see its class activation map. ``targets``: the classes that ``image`` shows."""

    def compute(picture: Tensor, report: Report) -> Scene:
        classes, logits = choices(model, picture, targets if picture is image else None, absent)
        maps = [cam(model, picture, target, upsample=False).cpu() for target in classes]
        scale, pale = max(1e-6, *(heatmap.max().item() for heatmap in maps)), photo(picture, pale=True)
        probabilities, frames = logits.softmax(0), []
        for (target, heatmap), part, colours in product(zip(classes, maps), PARTS, COLOURS):
            name, strongest = model.label(target), heatmap.max().item()
            limit = max(strongest if colours == COLOURS[0] else scale, 1e-6)
            both = part == PARTS[1]
            drawn = heat(heatmap, (-limit, limit), signed=True) if both else heat(heatmap.relu(), (0, limit))
            gain, loss = (side.sum().item() / heatmap.numel() for side in (heatmap.relu(), (-heatmap).relu()))
            rows = [
                Row("probability", f"{probabilities[target]:.2f}", probabilities[target].item()),
                Row("evidence for", f"{gain:.1f}", gain / max(scale, gain)),
                Row("evidence against", f"{loss:.1f}", loss / max(scale, gain)),
                Row("largest class activation", f"{strongest:.1f}", max(strongest, 0) / scale),
            ]
            says = f"Evidence {part} {name}, {colours}: logit {logits[target]:.1f}, the mean of the map plus the bias."
            frames.append(Frame(drawn, rows, says, f"Class activation map of {name} over the picture.", pale))
        return Scene(
            title="one picture, one map for each class",
            caption=f"Ask for each class, at last for {absent}. On its own scale every map looks sure of itself; on "
            "one scale for all you see which has evidence. Red and blue: evidence for and against.",
            heading="What the map adds up to",
            controls=[
                Control("Class", [model.label(target) for target in classes], "buttons"),
                Control("Evidence", list(PARTS), "buttons"),
                Control("Colours", list(COLOURS), "buttons"),
            ],
            frames=frames,
            start=(0, 0, 0),
        )

    return Demo(compute, image, size=image.shape[-1])
