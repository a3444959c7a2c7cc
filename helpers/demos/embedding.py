"""The demo of chapter 9: neighbours in the map, neighbours in the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..embedding import features as vectors
from ..models import Classifier
from .widget import Control, Demo, Frame, Pad, Report, Row, Scene, photo


def show(
    model: Classifier,
    images: Tensor,
    features: Tensor,
    labels: Tensor,
    names: Sequence[str],
    maps: Mapping[int, Tensor],
    classes: Sequence[str],
) -> Demo:
    """Step through points of a t-SNE map, and compare neighbours in the map with those in the space.

    ``images`` (N, 3, H, W) are the points, ``features`` (N, D) what ``model`` makes of them, ``labels`` index
    ``names``, ``maps`` goes from perplexity to positions (N, 2), and of each of ``classes`` one photograph is shown.
    """
    side, right, thumb = 420, 200, 18
    chosen = [(labels == list(names).index(name)).nonzero()[0, 0].item() for name in classes]
    space = torch.cdist(features, features)
    small = [photo(one, thumb) for one in images]
    spread = {}  # positions on the picture, from 0 to 1
    for perplexity, positions in maps.items():
        low, high = positions.amin(0), positions.amax(0)
        spread[perplexity] = (positions - low) / (high - low) * (1 - 2 * thumb / side) + thumb / side
    fields = {}
    for perplexity, places in spread.items():
        fields[perplexity] = Image.new("RGB", (side + right, side), "white")
        for tile, (x, y) in zip(small, (places * side).tolist()):
            fields[perplexity].paste(tile, (round(x - thumb / 2), round(y - thumb / 2)))

    def frame(perplexity: int, shown: Tensor, order: Tensor, rows: list[Row], says: str, point: int | None) -> Frame:
        """Circles around the ten nearest in the space, and the picture with its four nearest beside the map."""
        layer = Image.new("RGBA", (side + right, side))
        draw = ImageDraw.Draw(layer)
        for index in [*order[:10].tolist(), *([] if point is None else [point])]:
            x, y = (spread[perplexity][index] * side).tolist()
            radius, colour = (13, "#d62728") if index == point else (10, "#1f4fd6")
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=colour, width=3)
        layer.paste(photo(shown, 160), (side + 20, 16))
        for place, index in enumerate(order[:4].tolist()):
            layer.paste(photo(images[index], 78), (side + 20 + 82 * (place % 2), 200 + 82 * (place // 2)))
        alt = "A map of small photographs with circles on it; beside it one of them, and its four nearest in the space."
        return Frame(layer, rows, says, alt, fields[perplexity])

    def compute(picture: Tensor | None, report: Report) -> Scene:
        frames, spots, width = [], [], side / (side + right)
        if picture is not None:
            distances = torch.cdist(vectors(model, [picture[None]]), features)[0]
            order = distances.argsort()
            said = ", ".join(dict.fromkeys(names[labels[index]] for index in order[:10].tolist()))
            rows = [Row("nearest", names[labels[order[0]]])]
            frames = [
                frame(p, picture, order, rows, f"Your picture, perplexity {p}: the ten nearest are of {said}.", None)
                for p in maps
            ]
            choices, pad = ["your picture"], None
        else:
            for (number, perplexity), (step, point) in product(enumerate(maps), enumerate(chosen)):
                order = space[point].argsort()
                order = order[order != point]
                in_map = torch.cdist(maps[perplexity][point][None], maps[perplexity])[0].argsort()[1:11]
                kept = torch.isin(in_map, order[:10]).float().mean().item()
                own = (labels[order[:10]] == labels[point]).float().mean().item()
                mapped = (labels[in_map] == labels[point]).float().mean().item()
                name = names[labels[point]]
                rows = [
                    Row("neighbours kept", f"{kept:.1f}", kept),
                    Row("of its class, space", f"{own:.1f}", own),
                    Row("of its class, map", f"{mapped:.1f}", mapped),
                ]
                says = f"{name}, perplexity {perplexity}: {10 * kept:.0f} of its ten nearest in the space are among "
                says += "its ten nearest in the map."
                frames.append(frame(perplexity, images[point], order, rows, says, point))
                x, y = spread[perplexity][point].tolist()
                spots.append((x * width, y, number, step))
            choices = list(classes)
            pad = Pad("Point of the map", (0, 1), spots, given=1)
        return Scene(
            title="neighbours in the map, neighbours in the space",
            caption="Choose a point of the map, or step through the classes. Red: one photograph of the class. Blue: "
            "its ten nearest in the space of all features, four of which stand on the right. Where are the blue "
            "circles far from the red one? Change the perplexity.",
            heading="Of the ten nearest",
            controls=[
                Control("Perplexity", [str(perplexity) for perplexity in maps], "buttons"),
                Control("Photograph", choices),
            ],
            frames=frames,
            start=(len(maps) // 2, 0),
            pad=pad,
        )

    return Demo(compute, None, size=images.shape[-1])
