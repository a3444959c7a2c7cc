"""The demo of chapter 5: move the window over the photograph."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from ..models import Classifier
from ..occlusion import Occlusion, sensitivity
from .widget import SIDE, Control, Demo, Frame, Pad, Report, Row, Scene, cutout, photo


def probabilities(model: Classifier, values: Tensor, classes: list[int], marks: Tensor) -> list[Row]:
    """A row for each of ``classes``; ``values`` and ``marks`` are probabilities (classes,)."""
    return [Row(model.label(i), f"{values[i]:.2f}", values[i].item(), marks[i].item()) for i in classes]


def show(
    model: Classifier,
    image: Tensor,
    *,
    runs: Mapping[str, Occlusion] | None = None,
    window: int = 48,
    stride: int = 26,
) -> Demo:
    """Move the window over the photograph and see what the network makes of it.

    ``runs`` are those of `occlusion.sensitivity` for ``image`` that are there already, named "grey", "black", "white"
    or "blurred" for what fills the window.
    """

    def compute(picture: Tensor, report: Report) -> Scene:
        fills = {"grey": 0.5, "black": 0.0, "white": 1.0, "blurred": gaussian_blur(picture, [61, 61], [20.0, 20.0])}
        found = dict(runs or {}) if picture is image else {}
        for number, (name, fill) in enumerate(fills.items(), start=1):
            report(f"Covering the picture with {name}, {number} of {len(fills)} …")
            if name not in found:
                found[name] = sensitivity(model, picture, window=window, stride=stride, baseline=fill)
        first = found["grey"]
        target, whole = int(first.target), first.clean.softmax(-1).cpu()
        covered = {name: found[name].outputs.softmax(-1).cpu() for name in fills}  # (rows, cols, classes)
        peaks = torch.stack([scores.amax((0, 1)) for scores in covered.values()]).amax(0)
        classes = [target, *(i for i in peaks.argsort(descending=True).tolist() if i != target)][:5]
        name, clear = model.label(target), photo(picture)
        layers = {fill: photo(torch.as_tensor(value).expand_as(picture)) for fill, value in fills.items()}
        rows, cols = first.scores.shape
        frames, spots = [], []
        for row, col, fill in product(range(rows), range(cols), fills):
            scores = covered[fill][row, col]
            winner = model.label(int(scores.argmax()))
            box = [side * SIDE / picture.shape[-1] for side in first.box(row, col)]
            place = f"row {row + 1} of {rows}, column {col + 1} of {cols}"
            says = f"Covered with {fill} at {place}: {name} {scores[target]:.2f}, uncovered {whole[target]:.2f}. "
            says += f"Answer: {winner}."
            alt = f"The photograph, covered with {fill} at {place}."
            frames.append(
                Frame(cutout(layers[fill], box), probabilities(model, scores, classes, whole), says, alt, clear)
            )
            if fill == "grey":
                spots.append(((box[1] + box[3]) / 2 / SIDE, (box[0] + box[2]) / 2 / SIDE, row, col))
        return Scene(
            title="move the window over the photograph",
            caption="Drag the square, or move it with the arrow keys. The line across each bar is the probability for "
            f"the whole photograph. Where does {name} lose most, which class takes over, and does the filling matter?",
            heading="Probability with the square there",
            controls=[
                Control("Row", [f"row {row + 1}" for row in range(rows)], "pad"),
                Control("Column", [f"column {col + 1}" for col in range(cols)], "pad"),
                Control("Filling of the square", list(fills), "buttons"),
            ],
            frames=frames,
            start=(rows // 2, cols // 2, 0),
            pad=Pad("Position of the square", (0, 1), spots),
        )

    return Demo(compute, image, size=image.shape[-1])
