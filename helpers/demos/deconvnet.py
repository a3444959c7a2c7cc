"""The demo of chapter 4: back to the pixels, by three rules."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch
from torch import Tensor

from ..activations import TopPatches, maps, top_patches
from ..deconvnet import reconstruct
from ..layers import RULES
from ..models import Classifier
from .shared import whole_field
from .widget import Control, Demo, Frame, Report, Row, Scene, photo, sheet


def show(model: Classifier, tops: Mapping[str, TopPatches], channels: Mapping[str, Mapping[str, int]]) -> Demo:
    """The patch that fires a unit most, what three rules send back from it, and whether that fires it again.

    ``tops`` holds the top patches of each layer, for all channels or for those shown; ``channels`` goes from the name
    to show to a channel of each layer.
    """
    side, contrast = 276, 0.1

    def at(layer: str, picture: Tensor | None) -> list[Frame]:
        frames, shown = [], [of_layer[layer] for of_layer in channels.values()]
        top = tops[layer] if picture is None else top_patches(model, layer, picture[None], 1, shown)
        places = [top.channels.tolist().index(channel) for channel in shown]
        chosen = torch.stack([top.images[number] for number in top.index[places, 0].tolist()]).to(model.mean)
        units, fired = top.units[places, 0].tolist(), top.values[places, 0].clamp(min=1e-6)
        field, boxes = top.fields[tuple(chosen.shape[-2:])], [top.boxes[place][0] for place in places]
        mask = torch.zeros_like(chosen[:, :1])
        for one, box in zip(mask, boxes):
            one[:, *box.slices] = 1
        area = 3 * mask.sum((1, 2, 3))

        def again(pattern: Tensor) -> list[float]:
            """How strongly each unit fires for grey plus its pattern, against its photograph."""
            strength = (pattern.square().sum((1, 2, 3)) / area).sqrt().clamp(min=1e-12)
            on_grey = 0.5 + pattern * (contrast / strength)[:, None, None, None]
            values = maps(model, on_grey.clamp(0, 1), layer).cpu()
            return [float(v[c, *u]) / f for v, c, u, f in zip(values, shown, units, fired.tolist())]

        centred = mask * (chosen - (mask * chosen).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True))
        plain, index = again(centred), torch.tensor(shown)
        back = {rule: reconstruct(model, chosen, layer, index, rule=rule) for rule in RULES}
        own = {rule: (again(pattern), again(-pattern)) for rule, pattern in back.items()}
        for (number, channel), rule in product(enumerate(shown), RULES):
            pattern = back[rule][number]
            grey = 0.5 + 0.5 * pattern / pattern[:, *boxes[number].slices].abs().quantile(0.995).clamp(min=1e-12)
            pictures = [photo(whole_field(seen, field, units[number]), side) for seen in (chosen[number], grey)]
            values = {"what came back": own[rule][0], "its negative": own[rule][1], "the patch": plain}
            rows = [Row(name, f"{each[number]:.2f}", min(each[number] / 2, 1), 0.5) for name, each in values.items()]
            says = f"Channel {channel} of {layer}, {rule}: on grey, what came back fires the unit "
            says += f"{own[rule][0][number]:.1f} times as much as the photograph did."
            alt = f"Left a piece of a photograph, right what {rule} sends back from channel {channel} of {layer}."
            frames.append(Frame(sheet(pictures, 2), rows, says, alt))
        return frames

    def compute(picture: Tensor | None, report: Report) -> Scene:
        frames = []
        for layer in tops:
            report(f"Layer {layer} …")
            frames += at(layer, picture)
        return Scene(
            title="back to the pixels, by three rules",
            caption="Left the patch that fires the unit most, right what comes back from it. The bars: how strongly "
            "the unit fires for this pattern, its negative and the patch itself, all on grey and at one low "
            "contrast. The line: as strongly as for the photograph.",
            heading="Fires the unit again",
            controls=[
                Control("Layer", list(tops), "buttons"),
                Control("Channel", list(channels)),
                Control("Rule", list(RULES), "buttons"),
            ],
            frames=frames,
            start=(1, 0, 1),
        )

    winners = next(iter(tops.values())).images.values()
    return Demo(compute, None, size=next(iter(winners)).shape[-1])
