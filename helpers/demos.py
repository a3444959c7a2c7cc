"""The interactive demos: one function a chapter, named after its module. Each returns a `widget.Demo`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from .activations import TopPatches, maps, top_patches
from .cam import cam as class_map
from .cam import gradcam
from .deconvnet import reconstruct
from .embedding import features as vectors
from .filters import GaborFit, first_layer, gabor_fit, orientation
from .guided import backprop
from .inputs import Box
from .layers import RULES, ReceptiveField, fold_batch_norm, receptive_field
from .models import Classifier
from .occlusion import Occlusion, sensitivity
from .saliency import gradient, smoothgrad
from .scoring import localisation, rank_correlation
from .shortcut import TAG
from .transfer import nearest
from .widget import SIDE, Control, Demo, Frame, Pad, Report, Row, Scene, cutout, heat, photo, sheet

SMALL = 240  # side of a picture that has few pixels itself


def probabilities(model: Classifier, values: Tensor, classes: list[int], marks: Tensor) -> list[Row]:
    """A row for each of ``classes``; ``values`` and ``marks`` are probabilities (classes,)."""
    return [Row(model.label(i), f"{values[i]:.2f}", values[i].item(), marks[i].item()) for i in classes]


def outline(draw: ImageDraw.ImageDraw, left: float, top: float, right: float, bottom: float) -> None:
    """A white line in a black one along the inside of a rectangle."""
    for inset, ink in enumerate(("black", "white")):
        draw.rectangle((left + inset, top + inset, right - 1 - inset, bottom - 1 - inset), None, ink)


def whole_field(image: Tensor, field: ReceptiveField, unit: Sequence[int]) -> Tensor:
    """What the unit (row, col) sees of an image (3, H, W), as large as the field; grey where the image ends."""
    size = field.size[0]
    row, col = (size + start + stride * u for start, stride, u in zip(field.start, field.stride, unit))
    return F.pad(image, [size] * 4, value=0.5)[:, row : row + size, col : col + size]


def shortcut(
    networks: Mapping[str, Classifier],
    images: Mapping[str, Tensor],
    *,
    classes: Sequence[str] = ("gravel", "grass"),
    tag: int = 8,
) -> Demo:
    """Chapter 1: put the tag anywhere on a picture; which class does each network say, and on what evidence?

    ``networks`` and ``images``, (3, H, W) each, by the names to show. The second of ``classes`` had the tag in
    training.
    """

    def compute(picture: Tensor | None, report: Report) -> Scene:
        shown = images if picture is None else {"your picture": picture}
        side = next(iter(shown.values())).shape[-1]
        places = [round(2 + step * (side - tag - 4) / 3) for step in range(4)]
        corners = list(product(places, places))
        frames = []
        for (kind, clean), (name, model), (top, left) in product(shown.items(), networks.items(), corners):
            box = Box(top, left, top + tag, left + tag)
            tagged = clean.clone()
            tagged[:, *box.slices] = torch.tensor(TAG).to(clean)[:, None, None]
            with torch.no_grad():
                after, before = model(torch.stack([tagged, clean]).to(model.mean)).softmax(1)[:, 1].tolist()
            evidence = class_map(model, tagged, 1).cpu()
            share = localisation(evidence, box)
            overlay = heat(evidence.relu(), (0, max(evidence.max().item(), 1e-6)), SMALL)
            answer = classes[after > 0.5]
            rows = [
                Row(f"says {classes[1]}", f"{after:.2f}", after, before),
                Row("evidence on the tag", f"{share:.2f}", share, box.area / side**2),
            ]
            says = f"{name}: the network says {answer}. Without the tag, {classes[1]} has {before:.2f}: the line."
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
                Control("Place", [f"row {row}, column {col}" for row, col in product(range(1, 5), repeat=2)], "pad"),
            ],
            frames=frames,
            start=(0, 0, 0),
            pad=Pad("Place of the tag", (2,), [(*middle, number) for number, middle in enumerate(middles)]),
        )

    return Demo(compute, None, size=next(iter(images.values())).shape[-1])


def filters(model: Classifier, images: Mapping[str, Tensor], fit: GaborFit | None = None, *, count: int = 8) -> Demo:
    """Chapter 2: a filter of the first layer, its spectrum, its Gabor, and its responses over a photograph.

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


def activations(
    model: Classifier,
    image: Tensor,
    tops: Mapping[str, TopPatches],
    labels: Tensor,
    classes: Sequence[str],
    *,
    channels: Sequence[int],
    control: Mapping[str, float],
) -> Demo:
    """Chapter 3: where a channel fires in the photograph, and the nine images of a set that fire it most.

    ``tops`` holds the top patches of each layer, for ``channels`` or for all; the images' ``labels`` index ``classes``;
    ``control`` is the mean selectivity of an untrained network's channels in each layer.
    """
    side, tile, depths = 276, 88, list(tops)

    def patch(seen: Tensor, box: Box, unit: tuple[int, int], top: TopPatches) -> Image.Image:
        """A tile as large as the field, or as the image; grey where the image or the field ends."""
        field, only = top.fields[tuple(seen.shape[-2:])], torch.full_like(seen, 0.5)
        if field.size[0] <= seen.shape[-1]:
            return photo(whole_field(seen, field, unit), tile)
        only[:, *box.slices] = seen[:, *box.slices]
        return photo(only, tile)

    montages, numbers = {}, {}
    for layer, top in tops.items():
        for channel in channels:
            place = top.channels.tolist().index(channel)
            winners = list(zip(top.index[place].tolist(), top.boxes[place], top.units[place].tolist()))
            montages[layer, channel] = sheet([patch(top.images[i], box, unit, top) for i, box, unit in winners], 3)
            found = labels[top.index[place]]
            favourite = int(found.mode().values)
            numbers[layer, channel] = (
                classes[favourite],
                int((found == favourite).sum()),
                max(top.values[place, -1].item(), 1e-6),
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
                share = count / tops[layer].index.shape[1]
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


def deconvnet(model: Classifier, tops: Mapping[str, TopPatches], channels: Mapping[str, Mapping[str, int]]) -> Demo:
    """Chapter 4: the patch that fires a unit most, what three rules send back from it, and whether that fires it again.

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


def occlusion(
    model: Classifier,
    image: Tensor,
    *,
    runs: Mapping[str, Occlusion] | None = None,
    window: int = 48,
    stride: int = 26,
) -> Demo:
    """Chapter 5: move the window over the photograph and see what the network makes of it.

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
            says = f"Window at {place}: {name} {scores[target]:.2f}, uncovered {whole[target]:.2f}. Answer: {winner}."
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


def saliency(model: Classifier, image: Tensor, target: int | None = None) -> Demo:
    """Chapter 6: the raw gradient, and SmoothGrad with more and more noise and samples."""
    levels, counts = (0.05, 0.15, 0.4), (1, 5, 25)

    def compute(picture: Tensor, report: Report) -> Scene:
        fast = fold_batch_norm(model, picture[None]).to(memory_format=torch.channels_last)  # a fifth quicker
        clean = fast(picture[None])[0].detach()
        chosen = target if target is not None and picture is image else int(clean.argmax())
        name, whole = model.label(chosen), clean.softmax(0)[chosen].item()
        raw = gradient(fast, picture, chosen).cpu()
        random, pale = torch.Generator().manual_seed(0), photo(picture, pale=True)
        frames = []
        for number, noise in enumerate((0.0, *levels)):
            report(f"Noise {noise:.2f}, {number + 1} of {1 + len(levels)} …")
            parts = zip(counts, (0, *counts)) if noise else [(1, 0)]  # each sample is computed once
            steps, total = {}, torch.zeros_like(picture)
            for count, before in parts:
                new = count - before
                total = total + new * smoothgrad(
                    fast, picture, chosen, samples=new, noise=noise, seed=count, signed=True, batch_size=4
                )
                steps[count] = (total / count).abs().amax(0).cpu()
            jitter = torch.randn(4 if noise else 1, *picture.shape, generator=random).to(picture)
            noisy = picture + noise * (picture.max() - picture.min()) * jitter
            with torch.no_grad():
                kept = fast(noisy).softmax(1)[:, chosen].mean().item()
            seen = photo(noisy[0])
            for count, show in product(counts, ("map", "a noisy copy")):
                heatmap = steps.get(count, steps[1])
                likeness = abs(rank_correlation(heatmap, raw))
                rows = [
                    Row(f"{name} in the copies", f"{kept:.2f}", kept, whole),
                    Row("like the raw map", f"{likeness:.2f}", likeness),
                ]
                copies = f"{count} {'copy' if count == 1 else 'copies'}"
                if noise:
                    says = {
                        "map": f"The map, a mean over {copies} with noise {noise:.2f}.",
                        "a noisy copy": f"A copy with noise {noise:.2f}; the map is a mean over {copies}.",
                    }[show]
                else:
                    says = {
                        "map": f"The raw map: without noise it is the same for {copies}.",
                        "a noisy copy": f"The photograph: without noise it is the same for {copies}.",
                    }[show]
                says += f" Rank correlation with the raw map {likeness:.2f}; {name} {kept:.2f} in the copies."
                if show == "map":
                    drawn = F.avg_pool2d(heatmap[None], 2)[0]  # single pixels cannot be seen, and weigh much
                    limits = (0, drawn.flatten().quantile(0.99).item())
                    frames.append(
                        Frame(heat(drawn, limits), rows, says, f"Saliency map for {name} over the photograph.", pale)
                    )
                else:
                    frames.append(Frame(seen, rows, says, "The photograph with noise, as the network gets it."))
        return Scene(
            title="noise and samples",
            caption="Add noise, then samples. Does the map come nearer to the raw one? And does the network still "
            "recognise the copies? The line is the probability for the photograph itself.",
            heading="Numbers of this map",
            controls=[
                Control("Noise", ["none", *(f"{level:.2f}" for level in levels)]),
                Control("Samples", [str(count) for count in counts]),
                Control("Show", ["the map", "a noisy copy"], "buttons"),
            ],
            frames=frames,
            start=(2, 2, 0),
        )

    return Demo(compute, image, size=image.shape[-1])


def _choices(
    model: Classifier, picture: Tensor, targets: Sequence[int] | None, absent: str
) -> tuple[list[int], Tensor]:
    """The classes to choose from, with one that is not there at the end, and all logits."""
    with torch.no_grad():
        logits = model(picture[None])[0].cpu()
    targets = list(targets) if targets is not None else logits.topk(4).indices.tolist()
    return targets + [model.index(absent)] * (absent in model.categories), logits


def cam(model: Classifier, image: Tensor, targets: Sequence[int] | None = None, *, absent: str = "flamingo") -> Demo:
    """Chapter 7: choose the class, see its class activation map. ``targets``: the classes that ``image`` shows."""

    def compute(picture: Tensor, report: Report) -> Scene:
        classes, logits = _choices(model, picture, targets if picture is image else None, absent)
        maps = [class_map(model, picture, target, upsample=False).cpu() for target in classes]
        scale, pale = max(1e-6, *(votes.max().item() for votes in maps)), photo(picture, pale=True)
        probabilities, frames = logits.softmax(0), []
        for (target, votes), part, colours in product(zip(classes, maps), ("for", "both"), ("own", "one")):
            name, strongest = model.label(target), votes.max().item()
            limit = max(strongest if colours == "own" else scale, 1e-6)
            drawn = heat(votes.relu(), (0, limit)) if part == "for" else heat(votes, (-limit, limit), signed=True)
            gain, loss = (side.sum().item() / votes.numel() for side in (votes.clamp(min=0), -votes.clamp(max=0)))
            rows = [
                Row("probability", f"{probabilities[target]:.2f}", probabilities[target].item()),
                Row("votes for", f"{gain:.1f}", gain / max(scale, gain)),
                Row("votes against", f"{loss:.1f}", loss / max(scale, gain)),
                Row("strongest vote", f"{strongest:.1f}", max(strongest, 0) / scale),
            ]
            says = f"{name}: logit {logits[target]:.1f}, the mean of the votes plus the bias."
            frames.append(Frame(drawn, rows, says, f"Class activation map of {name} over the picture.", pale))
        return Scene(
            title="one picture, one map for each class",
            caption=f"Ask for each class, at last for {absent}. On its own scale every map looks sure of itself; on "
            "one scale for all you see which has evidence. Red and blue: votes for and against.",
            heading="What the map adds up to",
            controls=[
                Control("Class", [model.label(target) for target in classes], "buttons"),
                Control("Votes", ["for", "for and against"], "buttons"),
                Control("Colours", ["own scale", "one scale"], "buttons"),
            ],
            frames=frames,
            start=(0, 0, 0),
        )

    return Demo(compute, image, size=image.shape[-1])


def guided(
    model: Classifier,
    image: Tensor,
    targets: Sequence[int] | None = None,
    boxes: Sequence[Box] | None = None,
    *,
    absent: str = "flamingo",
) -> Demo:
    """Chapter 8: class × method. ``boxes`` says where in ``image`` each of ``targets`` is shown."""

    def compute(picture: Tensor, report: Report) -> Scene:
        known = boxes if picture is image else None
        classes, _ = _choices(model, picture, targets if picture is image else None, absent)
        fast, pale, signed = fold_batch_norm(model, picture[None]), photo(picture, pale=True), {}
        for number, target in enumerate(classes, start=1):
            report(f"Class {number} of {len(classes)} …")
            beam, lines = gradcam(fast, picture, target), backprop(fast, picture, target)
            plain = gradient(fast, picture, target, signed=True)
            signed[target] = {
                "gradient": plain,
                "guided backpropagation": lines,
                "Grad-CAM": beam,
                "Guided Grad-CAM": lines * beam,
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


def embedding(
    model: Classifier,
    images: Tensor,
    features: Tensor,
    labels: Tensor,
    names: Sequence[str],
    maps: Mapping[int, Tensor],
    classes: Sequence[str],
) -> Demo:
    """Chapter 9: step through points of a t-SNE map, and compare neighbours in the map with those in the space.

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
                frame(p, picture, order, rows, f"The ten nearest to your picture are of {said}.", None) for p in maps
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


class Pictures(NamedTuple):
    """Labelled pictures: (N, 3, H, W), (N,), and from a kind of features to (N, D)."""

    images: Tensor
    labels: Tensor
    features: Mapping[str, Tensor]


def transfer(
    names: Sequence[str],
    gallery: Pictures,
    queries: Pictures,
    describe: Callable[[Tensor], Mapping[str, Tensor]],
    kinds: Mapping[str, float],
) -> Demo:
    """Chapter 10: choose a query and the kind of features, see its five nearest neighbours.

    Labels index ``names``; ``describe`` gives the features of other images, and ``kinds`` goes from the kinds to show
    to their precision@5 over all queries.
    """
    side = 100

    def compute(picture: Tensor | None, report: Report) -> Scene:
        if picture is None:
            asked, found, tags = queries.images, queries.features, [names[label] for label in queries.labels]
        else:
            asked, found, tags = picture[None], describe(picture[None]), ["your picture"]
        frames = []
        for number, kind in product(range(len(asked)), kinds):
            nearest_ones = nearest(found[kind][number][None], gallery.features[kind], 5)
            index, similarity = nearest_ones.index[0].tolist(), nearest_ones.similarity[0].tolist()
            right = [picture is None and bool(gallery.labels[i] == queries.labels[number]) for i in index]
            rows = [
                Row(
                    ("✓ " if hit else "✗ ") * (picture is None) + names[gallery.labels[i]],
                    f"{value:.2f}",
                    max(value, 0),
                )
                for i, value, hit in zip(index, similarity, right)
            ]
            rows.append(Row("precision@5, all queries", f"{kinds[kind]:.2f}", kinds[kind], 1 / len(names)))
            says = f"By {kind}: {sum(right)} of five are of the query's class." if picture is None else f"By {kind}."
            tiles = [photo(asked[number], side), *(photo(gallery.images[i], side) for i in index)]
            alt = f"A query and its five nearest by {kind}: {', '.join(names[gallery.labels[i]] for i in index)}."
            frames.append(Frame(sheet(tiles, 6), rows, says, alt))
        return Scene(
            title="show me more like this",
            caption="Left the query, then its five nearest neighbours. Guess what each kind of features will take for "
            "alike. Which mistakes would you make yourself? The line across the lowest bar is chance.",
            heading="Cosine similarity",
            controls=[Control("Query", tags), Control("Features", list(kinds), "buttons")],
            frames=frames,
            start=(0, len(kinds) - 1),
        )

    return Demo(compute, None, size=gallery.images.shape[-1])
