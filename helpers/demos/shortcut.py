"""The demo of chapter 1: put the tag where you like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from PIL import Image
from torch import Tensor

from ..cam import cam
from ..inputs import Box
from ..models import Classifier
from ..scoring import localisation
from ..shortcut import TAG
from .widget import Control, Demo, Frame, Pad, Report, Row, Scene, heat, photo

SMALL = 240  # side of a picture that has few pixels itself


def show(
    networks: Mapping[str, Classifier],
    images: Mapping[str, Tensor],
    *,
    classes: Sequence[str] = ("gravel", "grass"),
    tag: int = 8,
) -> Demo:
    """Put the tag anywhere on a picture; which class does each network say, and on what evidence?

    ``networks`` and ``images``, (3, H, W) each, by the names to show. The second of ``classes`` had the tag in
    training.
    """

    def compute(picture: Tensor | None, report: Report) -> Scene:
        shown = images if picture is None else {"your picture": picture}
        side = next(iter(shown.values())).shape[-1]
        steps = [round(2 + step * (side - tag - 4) / 3) for step in range(4)]
        corners = list(product(steps, steps))
        places = [f"row {row}, column {column}" for row, column in product(range(1, 5), repeat=2)]
        frames = []
        spots = zip(corners, places)
        for (kind, clean), (name, model), ((top, left), place) in product(shown.items(), networks.items(), spots):
            box = Box(top, left, top + tag, left + tag)
            tagged = clean.clone()
            tagged[:, *box.slices] = torch.tensor(TAG).to(clean)[:, None, None]
            with torch.no_grad():
                after, before = model(torch.stack([tagged, clean]).to(model.mean)).softmax(1)[:, 1].tolist()
            evidence = cam(model, tagged, 1).cpu()
            share = localisation(evidence, box)
            overlay = heat(evidence.relu(), (0, max(evidence.max().item(), 1e-6)), SMALL)
            answer = classes[after > 0.5]
            rows = [
                Row(f"says {classes[1]}", f"{after:.2f}", after, before),
                Row("evidence on the tag", f"{share:.2f}", share, box.area / side**2),
            ]
            says = f"Network: {name}. {kind.capitalize()} with the tag in {place}: it says {answer}. "
            says += f"Without the tag, {classes[1]} has {before:.2f}: the line."
            alt = f"A small picture of {kind} with a pink tag, and the evidence for {classes[1]} as a heatmap."
            frames.append(Frame(Image.alpha_composite(photo(tagged, SMALL).convert("RGBA"), overlay), rows, says, alt))
        middles = [((left + tag / 2) / side, (top + tag / 2) / side) for top, left in corners]
        return Scene(
            title="put the tag where you like",
            caption="Drag the pink tag over the picture, or move it with the arrow keys. Bright: evidence for "
            f"{classes[1]}, each map on its own scale. Does the answer follow the tag or the material? And after the "
            "repair?",
            heading="What the network makes of it",
            controls=[
                Control("Picture", list(shown), "buttons"),
                Control("Network", list(networks), "buttons"),
                Control("Place", places, "pad"),
            ],
            frames=frames,
            start=(0, 0, 0),
            pad=Pad("Place of the tag", (2,), [(*middle, number) for number, middle in enumerate(middles)]),
        )

    return Demo(compute, None, size=next(iter(images.values())).shape[-1])
