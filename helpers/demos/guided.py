"""The demo of chapter 8: class and method."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from ..cam import gradcam
from ..guided import backprop
from ..inputs import Box
from ..layers import fold_batch_norm
from ..models import Classifier
from ..saliency import gradient
from ..scoring import localisation
from .shared import choices
from .widget import Control, Demo, Frame, Report, Row, Scene, heat, photo


def show(
    model: Classifier,
    image: Tensor,
    targets: Sequence[int] | None = None,
    boxes: Sequence[Box] | None = None,
    *,
    absent: str = "flamingo",
) -> Demo:
    """Class × method. ``boxes`` says where in ``image`` each of ``targets`` is shown."""

    def compute(picture: Tensor, report: Report) -> Scene:
        known = boxes if picture is image else None
        classes, _ = choices(model, picture, targets if picture is image else None, absent)
        fast, pale, signed = fold_batch_norm(model, picture[None]), photo(picture, pale=True), {}
        for number, target in enumerate(classes, start=1):
            report(f"Class {number} of {len(classes)} …")
            where, lines = gradcam(fast, picture, target), backprop(fast, picture, target)
            plain = gradient(fast, picture, target, signed=True)
            signed[target] = {
                "gradient": plain,
                "guided backpropagation": lines,
                "Grad-CAM": where,
                "Guided Grad-CAM": lines * where,
            }
        frames = []
        for number, target in enumerate(classes):
            for method, map_ in signed[target].items():
                name = model.label(target)
                alike = F.cosine_similarity(map_.flatten(), signed[classes[0]][method].flatten(), dim=0).item()
                rows = [Row(f"like that for {model.label(classes[0])}", f"{alike:.2f}", max(alike, 0))]
                if known:
                    box = known[min(number, len(known) - 1)]
                    share = (
                        localisation(map_.abs().amax(0) if map_.ndim == 3 else map_, box) if number < len(known) else 0
                    )
                    rows.append(Row("share in its cell", f"{share:.2f}" if number < len(known) else "–", share, 0.25))
                says = f"{method} for {name}: cosine with the map for {model.label(classes[0])} {alike:.2f}."
                if map_.ndim == 2:
                    drawn, under = heat(map_, (0, max(map_.max().item(), 1e-12))), pale
                else:
                    small = F.avg_pool2d(map_, 2)
                    grey = 0.5 + 0.5 * small / small.abs().flatten().quantile(0.99).clamp(min=1e-12)
                    drawn, under = photo(grey), None
                frames.append(Frame(drawn.convert("RGBA"), rows, says, f"{method} for {name}.", under))
        return Scene(
            title="class and method",
            caption=f"Choose a method, then change the class. Which pictures change with it? Ask for {absent}, too, "
            "which is not there. The line across the lower bar is chance.",
            heading="Numbers of this map",
            controls=[
                Control("Class", [model.label(target) for target in classes], "buttons"),
                Control("Method", list(signed[classes[0]]), "buttons"),
            ],
            frames=frames,
            start=(0, 1),
        )

    return Demo(compute, image, size=image.shape[-1])
