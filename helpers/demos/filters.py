"""The demo of chapter 2: a filter and what it answers to."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..filters import GaborFit, first_layer, gabor_fit, orientation
from ..models import Classifier
from .shared import outline
from .widget import Control, Demo, Frame, Pad, Report, Row, Scene, heat, photo


def show(model: Classifier, images: Mapping[str, Tensor], fit: GaborFit | None = None, *, count: int = 8) -> Demo:
    """A filter of the first layer, its spectrum, its Gabor, and its responses over a photograph.

    ``images``, (3, H, H) each, by the names to show; ``fit`` is that of `filters.gabor_fit`, where it is there
    already. At most ``count`` filters of each kind are shown.
    """
    weights = first_layer(model).cpu()
    angle, frequency, colour = orientation(weights)
    fit = fit or gabor_fit(weights)
    cycles, power = frequency * weights.shape[-1], torch.fft.fft2(weights, s=(64, 64)).abs().square().sum(1)
    limits = {"blob": 0.5, "edge": 1.25, "grating": 99.0}
    kinds = [next(kind for kind, high in limits.items() if value < high) for value in cycles]
    order = []
    for kind in limits:  # in each the grey ones first, by direction
        members = sorted(
            (i for i in range(len(weights)) if kinds[i] == kind), key=lambda i: (colour[i] > 0.3, angle[i])
        )
        few = min(count, len(members))
        order += [members[number * len(members) // few] for number in range(few)]
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    columns, tile, gap, side, quarter = 4, 47, 4, 302, 120
    left = columns * (tile + gap) - gap + 10
    rows_up = -(-len(order) // columns)
    top = max(side, rows_up * (tile + gap) - gap) + 10

    def grey(values: Tensor, size: int) -> Image.Image:
        return photo(0.5 + 0.5 * values / values.abs().max().clamp(min=1e-12), size, sharp=True)

    corners = [(number % columns * (tile + gap), number // columns * (tile + gap)) for number in range(len(order))]
    spots = [((x + tile / 2) / (left + side), (y + tile / 2) / (top + quarter)) for x, y in corners]

    under = Image.new("RGBA", (left + side, top + quarter))
    for i, corner in zip(order, corners):
        under.paste(grey(weights[i], tile), corner)

    def compute(picture: Tensor | None, report: Report) -> Scene:
        frames, shown = [], images if picture is None else {"your picture": picture}
        for name, image in shown.items():
            pale = photo(image, side, pale=True).convert("RGBA")
            ready = (image.to(model.mean.device) - model.mean[0]) / model.std[0]  # as the network sees it
            with torch.no_grad():
                responses = conv(ready[None])[0].cpu()
            patches = F.unfold(ready[None], conv.kernel_size, padding=conv.padding, stride=conv.stride)[0].T.cpu()
            cosines = F.normalize(weights.flatten(1), dim=1) @ F.normalize(patches, dim=1).T  # (filters, places)
            inside = F.unfold(torch.ones_like(ready[None, :1]), conv.kernel_size, 1, conv.padding, conv.stride)[0]
            cosines = cosines.masked_fill((inside.amin(0) == 0).cpu(), -1)  # no patch reaches over the border
            for i, (x, y) in zip(order, corners):
                best = int(cosines[i].argmax())
                row, col = divmod(best, responses.shape[2])
                limit = responses[i].abs().flatten().quantile(0.98).item()
                layer = Image.new("RGBA", under.size)
                answer = Image.alpha_composite(pale, heat(responses[i], (-limit, limit), side, signed=True))
                layer.paste(answer, (left, 0))
                spectrum = heat(torch.fft.fftshift(power[i]), (0, power[i].max().item()), quarter, over=False)
                below = [grey(weights[i], quarter), spectrum, grey(fit.fitted[i], quarter)]
                below.append(grey(patches[best].view_as(weights[i]), quarter))
                for number, tile_below in enumerate(below):
                    layer.paste(tile_below, (number * (quarter + 10), top))
                draw, scale = ImageDraw.Draw(layer), side / responses.shape[1]
                across, down = left + (col + 0.5) * scale, (row + 0.5) * scale
                outline(draw, x - 2, y - 2, x + tile + 2, y + tile + 2)
                for radius, ink in ((10, "black"), (9, "white")):
                    draw.ellipse((across - radius, down - radius, across + radius, down + radius), outline=ink)
                rows = [
                    Row("cycles across the filter", f"{cycles[i]:.1f}", min(cycles[i].item() / 4, 1)),
                    Row("colour", f"{colour[i]:.2f}", colour[i].item()),
                    Row("its Gabor explains", f"{fit.explained[i]:.2f}", fit.explained[i].item()),
                    Row("cosine of the best patch", f"{cosines[i, best]:.2f}", max(cosines[i, best].item(), 0)),
                ]
                turned = "" if kinds[i] == "blob" else f" that varies most at {angle[i].abs():.0f}°"
                says = f"Filter {i}, {name}: sorted as {'an' if kinds[i] == 'edge' else 'a'} {kinds[i]}{turned}."
                alt = f"Filter {i} in a gallery, and its responses over {name}; below them the filter, its "
                alt += "spectrum, its Gabor and the most similar patch of the photograph."
                frames.append(Frame(layer, rows, says, alt, under))
        return Scene(
            title="a filter and what it answers to",
            caption="Choose a filter in the gallery (or with the arrow keys). Beside it its responses: red positive, "
            "blue negative. Below: the filter, its spectrum with frequency 0 in the middle, its Gabor, and the patch "
            "of the photograph with the highest cosine, from the place with the ring.",
            heading="Numbers of this filter",
            controls=[
                Control("Photograph", list(shown), "buttons"),
                Control("Filter, sorted by kind, grey ones first", [str(i) for i in order]),
            ],
            frames=frames,
            start=(0, next((n for n, i in enumerate(order) if kinds[i] == "edge"), 0)),
            pad=Pad(
                "Filter of the gallery",
                (0, 1),
                [(x, y, n, step) for n in range(len(shown)) for step, (x, y) in enumerate(spots)],
                given=1,
            ),
        )

    return Demo(compute, None, size=next(iter(images.values())).shape[-1])
