"""The demo of chapter 3: where a channel fires, and for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..activations import TopPatches, maps
from ..layers import receptive_field
from ..models import Classifier
from .shared import outline, whole_field
from .widget import Control, Demo, Frame, Report, Row, Scene, heat, photo, sheet


def show(
    model: Classifier,
    image: Tensor,
    tops: Mapping[str, TopPatches],
    labels: Tensor,
    classes: Sequence[str],
    *,
    channels: Sequence[int],
    control: Mapping[str, float],
) -> Demo:
    """Where a channel fires in the photograph, and the nine images of a set that fire it most.

    ``tops`` holds the top patches of each layer, for ``channels`` or for all; the images' ``labels`` index ``classes``;
    ``control`` is the mean selectivity of an untrained network's channels in each layer.
    """
    side, tile, depths = 276, 88, list(tops)

    def patch(seen: Tensor, unit: tuple[int, int], top: TopPatches) -> Image.Image:
        """A tile as large as the field, or as the image; grey where the image or the field ends."""
        field, only = top.fields[tuple(seen.shape[-2:])], torch.full_like(seen, 0.5)
        if field.size[0] <= seen.shape[-1]:
            return photo(whole_field(seen, field, unit), tile)
        box = field.box(*unit)
        only[:, *box.slices] = seen[:, *box.slices]
        return photo(only, tile)

    montages, numbers = {}, {}
    for layer, top in tops.items():
        for channel in channels:
            place = top.channels.tolist().index(channel)
            nine, units = top.index[place, :9].tolist(), top.units[place, :9].tolist()
            montages[layer, channel] = sheet([patch(top.images[i], unit, top) for i, unit in zip(nine, units)], 3)
            found = labels[nine]
            favourite = int(found.mode().values)
            numbers[layer, channel] = (
                classes[favourite],
                int((found == favourite).sum()),
                max(top.values[place, :9][-1].item(), 1e-6),
            )

    def compute(picture: Tensor, report: Report) -> Scene:
        pale, frames = photo(picture, side, pale=True).convert("RGBA"), []
        for layer in depths:
            report(f"Layer {layer} …")
            found, field = maps(model, picture, layer).cpu(), receptive_field(model, layer, tuple(picture.shape[-2:]))
            for channel in channels:
                name, count, ninth = numbers[layer, channel]
                fired, (row, col) = found[channel].max().item(), divmod(int(found[channel].argmax()), found.shape[2])
                box = field.box(row, col)
                drawn = Image.alpha_composite(pale, heat(found[channel].relu(), (0, max(fired, 1e-6)), side))
                scale = side / picture.shape[-1]
                outline(ImageDraw.Draw(drawn), *(scale * value for value in (box.left, box.top, box.right, box.bottom)))
                share = count / len(tops[layer].index[0, :9])
                rows = [
                    Row("strongest in the picture", f"{fired / ninth:.1f}", min(fired / ninth / 2, 1), 0.5),
                    Row(f"{name} among the nine", str(count), share, control[layer]),
                ]
                says = f"Channel {channel} of {layer}: {count} of its nine patches are of the class {name}. In the "
                says += f"picture it reaches {fired / ninth:.1f} times what the ninth of them does."
                alt = f"Left where channel {channel} of {layer} fires, the field of its strongest unit framed; right "
                alt += f"its nine top patches, {count} of the class {name}."
                frames.append(Frame(sheet([drawn, montages[layer, channel]], 2), rows, says, alt))
        return Scene(
            title="where a channel fires, and for what",
            caption="Left: where the channel fires, with a frame around what its strongest unit sees. Right: its nine "
            "best patches, at one size. The lines: as strong as the ninth patch; an untrained network's mean in this "
            "layer.",
            heading="Numbers of this channel",
            controls=[
                Control("Layer", depths, "buttons"),
                Control("Channel", [str(channel) for channel in channels]),
            ],
            frames=frames,
            start=(len(depths) - 1, 0),
        )

    return Demo(compute, image, size=image.shape[-1])
