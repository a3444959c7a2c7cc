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
from .filters import first_layer, gabor_fit, orientation
from .guided import backprop
from .inputs import Box
from .layers import RULES, fold_batch_norm, run_to
from .models import Classifier
from .occlusion import Occlusion, sensitivity
from .saliency import gradient, smoothgrad
from .scoring import localisation, rank_correlation
from .shortcut import TAG
from .transfer import nearest
from .widget import SIDE, Control, Demo, Frame, Pad, Report, Row, Scene, cutout, heat, photo, sheet

SMALL = 240  # side of a picture that has few pixels itself
THIRD = 204  # side of three pictures in a row


def probabilities(model: Classifier, values: Tensor, classes: list[int], marks: Tensor) -> list[Row]:
    """A row for each of ``classes``; ``values`` and ``marks`` are probabilities (classes,)."""
    return [Row(model.label(i), f"{values[i]:.2f}", values[i].item(), marks[i].item()) for i in classes]


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


def filters(model: Classifier, image: Tensor, explained: Tensor | None = None, *, count: int = 10) -> Demo:
    """Chapter 2: a filter of the first layer, its spectrum, and its responses over the photograph.

    ``explained``: the share of each filter that its best Gabor explains (`filters.gabor_fit`), where it is known.
    """
    weights = first_layer(model).cpu()
    angle, frequency, colour = orientation(weights)
    explained = gabor_fit(weights).explained if explained is None else explained
    cycles = frequency * weights.shape[-1]
    limits = {"blobs": (0, 0.5), "edges": (0.5, 1.25), "gratings": (1.25, 99)}
    power = torch.fft.fftshift(torch.fft.fft2(weights, s=(64, 64)).abs().square().sum(1), (1, 2))
    layer = next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d))

    def compute(picture: Tensor, report: Report) -> Scene:
        with torch.no_grad():
            responses = run_to(model, layer, picture[None])[0].cpu()
        pale, frames = photo(picture, THIRD, pale=True).convert("RGBA"), []
        for kind, (low, high) in limits.items():
            members = [i for i in explained.argsort(descending=True).tolist() if low <= cycles[i] < high]
            for number in range(count):
                i = members[number * len(members) // count]  # from the best to the least explained
                drawn = photo(0.5 + 0.5 * weights[i] / weights[i].abs().max(), THIRD, sharp=True)
                spectrum = heat(power[i], (0, power[i].max().item()), THIRD, over=False)
                limit = responses[i].abs().flatten().quantile(0.995).item()
                response = Image.alpha_composite(pale, heat(responses[i], (-limit, limit), THIRD, signed=True))
                rows = [
                    Row("cycles across", f"{cycles[i]:.1f}", min(cycles[i].item() / 4, 1)),
                    Row("colour", f"{colour[i]:.2f}", colour[i].item()),
                    Row("a Gabor explains", f"{explained[i]:.2f}", explained[i].item()),
                ]
                says = f"Filter {i}, one of the {kind}"
                says += f", varies most at {angle[i].abs():.0f}°." if kind != "blobs" else "."
                alt = f"Filter {i}, the bright spots of its spectrum, and its responses over the picture, red and blue."
                frames.append(Frame(sheet([drawn, spectrum, response], 3), rows, says, alt))
        return Scene(
            title="a filter, its spectrum, its responses",
            caption="Left the filter, in the middle its spectrum (frequency 0 in the middle), right its responses: red "
            "positive, blue negative. Before you move on, say where the next filter will respond.",
            heading="What the numbers say",
            controls=[
                Control("Kind", list(limits), "buttons"),
                Control("Filter, from the best to the least explained by a Gabor", [str(n + 1) for n in range(count)]),
            ],
            frames=frames,
            start=(1, 0),
        )

    return Demo(compute, image, size=image.shape[-1])


def activations(
    model: Classifier, image: Tensor, tops: Mapping[str, TopPatches], labels: Tensor, classes: Sequence[str]
) -> Demo:
    """Chapter 3: where a channel fires in the photograph, and the nine images of a set that fire it most.

    ``tops`` holds the top patches of each layer, all for the same channels of a set whose images have ``labels``.
    """
    side = 264

    def nine(top: TopPatches, row: int) -> Image.Image:
        tiles = []
        for patch in top.patches[row]:
            height, width = patch.shape[1:]
            square = F.pad(patch, (0, max(height - width, 0), 0, max(width - height, 0)), value=0.5)
            tiles.append(photo(F.interpolate(square[None], (side // 3 - 4,) * 2, mode="bilinear")[0], side // 3 - 4))
        return sheet(tiles, 3)

    montages = {layer: [nine(top, row) for row in range(len(top.channels))] for layer, top in tops.items()}
    channels = next(iter(tops.values())).channels.tolist()

    def compute(picture: Tensor, report: Report) -> Scene:
        pale, frames = photo(picture, side, pale=True).convert("RGBA"), []
        for layer, top in tops.items():
            report(f"Layer {layer} …")
            found = maps(model, picture, layer).cpu()
            for row, channel in enumerate(channels):
                fired, ninth = found[channel].max().item(), max(top.values[row, -1].item(), 1e-6)
                winners = labels[top.index[row]]
                favourite = int(winners.mode().values)
                share = (winners == favourite).float().mean().item()
                rows = [
                    Row("strongest here", f"{fired / ninth:.2f}", min(fired / ninth / 2, 1), 0.5),
                    Row(f"of nine: {classes[favourite]}", f"{share * 9:.0f}", share, 1 / 9),
                ]
                overlay = heat(found[channel].relu(), (0, max(fired, 1e-6)), side)
                montage = montages[layer][row].resize((side, side))
                drawn = sheet([Image.alpha_composite(pale, overlay), montage.convert("RGBA")], 2)
                says = (
                    f"Channel {channel} of {layer}: its largest value in the picture is {fired / ninth:.1f} times that "
                )
                says += "of its ninth best crop, which is the line."
                alt = f"Left where channel {channel} fires in the picture; right its nine top patches."
                frames.append(Frame(drawn, rows, says, alt))
        return Scene(
            title="where a channel fires, and for what",
            caption="Left: where the channel fires in the picture. Right: the nine patches that fire it most, at "
            "one size. Guess from the nine what the left will show. At which depth does your guess begin to fail?",
            heading="Numbers of this channel",
            controls=[
                Control("Layer", list(tops), "buttons"),
                Control("Channel", [str(channel) for channel in channels]),
            ],
            frames=frames,
            start=(1, 0),
        )

    return Demo(compute, image, size=image.shape[-1])


def deconvnet(
    model: Classifier,
    images: Tensor,
    *,
    names: Sequence[str] = ("relu1", "relu2", "relu3", "relu5"),
    channels: Sequence[int] = (0, 12, 37, 49),
) -> Demo:
    """Chapter 4: the patch of ``images`` (N, 3, H, W) that fires a unit most, and what comes back from it."""
    side = 264

    def compute(picture: Tensor | None, report: Report) -> Scene:
        pool, frames = images if picture is None else picture[None], []
        for layer in names:
            report(f"Layer {layer} …")
            top = top_patches(model, layer, pool, 1, channels)
            for row, channel in enumerate(channels):
                image, unit = pool[top.index[row, 0]], tuple(top.units[row, 0].tolist())
                box, fired = top.boxes[row][0], top.values[row, 0].item()
                patch = photo(F.interpolate(image[None, :, *box.slices], (side, side), mode="bilinear")[0], side)
                for rule in RULES:
                    back = reconstruct(model, image, layer, channel, unit, rule=rule)
                    seen = back[:, *box.slices]
                    pattern = 0.1 * back / seen.square().mean().sqrt().clamp(min=1e-12)
                    again = maps(model, (0.5 + pattern).clamp(0, 1), layer)[channel][unit].item() / max(fired, 1e-6)
                    grey = 0.5 + 0.5 * seen / seen.abs().flatten().quantile(0.995).clamp(min=1e-12)
                    drawn = photo(F.interpolate(grey[None], (side, side), mode="bilinear")[0], side)
                    rows = [
                        Row("fires the unit again", f"{again:.2f}", min(again / 2, 1), 0.5),
                        Row(
                            "sees of the picture",
                            f"{box.bottom - box.top} px",
                            (box.bottom - box.top) / image.shape[-1],
                        ),
                    ]
                    says = (
                        f"Channel {channel} of {layer}, {rule}: on grey, the pattern fires the unit {again:.1f} times "
                    )
                    says += "as much as the patch did."
                    alt = (
                        f"Left a patch of a photograph, right what {rule} sends back from channel {channel} of {layer}."
                    )
                    frames.append(Frame(sheet([patch, drawn], 2), rows, says, alt))
        return Scene(
            title="back to the pixels, by three rules",
            caption="Left the patch that fires the unit most, right what comes back from it. Change the rule at the "
            "ReLU: which two draw alike? Then go deeper: what do you recognise? The line: as much as the patch.",
            heading="Numbers of this picture",
            controls=[
                Control("Layer", list(names), "buttons"),
                Control("Channel", [str(channel) for channel in channels]),
                Control("Rule", list(RULES), "buttons"),
            ],
            frames=frames,
            start=(1, 0, 0),
        )

    return Demo(compute, None, size=images.shape[-1])


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
    levels, counts = (0.05, 0.15, 0.4), (1, 3, 9)

    def compute(picture: Tensor, report: Report) -> Scene:
        fast = fold_batch_norm(model, picture[None])
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
                says = (
                    f"The map is a mean over {count} copies with noise {noise:.2f}. "
                    if noise
                    else "The raw gradient, no noise. "
                )
                says += f"Its rank correlation with the raw map is {likeness:.2f}."
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
) -> Demo:
    """Chapter 9: step through the points of a t-SNE map, and compare neighbours in the map with those in the space.

    ``images`` (N, 3, H, W) are the points, ``features`` (N, D) what ``model`` makes of them, ``labels`` index
    ``names``, and ``maps`` goes from perplexity to positions (N, 2).
    """
    side, right, thumb = 420, 200, 18
    chosen = [(labels == label).nonzero()[0, 0].item() for label in range(len(names))]  # a crop of each photograph
    space = torch.cdist(features, features)
    small = [photo(one, thumb) for one in images]
    spread = {}  # positions on the picture, from 0 to 1
    for perplexity, positions in maps.items():
        low, high = positions.amin(0), positions.amax(0)
        spread[perplexity] = ((positions - (low + high) / 2) / (high - low).max() + 0.5) * (1 - 2 * thumb / side)
        spread[perplexity] = spread[perplexity] + thumb / side
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
        alt = "A map of small crops with circles on it; beside it one crop, and its four nearest in the space."
        return Frame(layer, rows, says, alt, fields[perplexity])

    def compute(picture: Tensor | None, report: Report) -> Scene:
        frames, spots, width = [], [], side / (side + right)
        if picture is not None:
            distances = torch.cdist(vectors(model, [picture[None]]), features)[0]
            order = distances.argsort()
            said = ", ".join(dict.fromkeys(names[labels[index]] for index in order[:10].tolist()))
            rows = [Row("nearest photograph", names[labels[order[0]]])]
            frames = [
                frame(p, picture, order, rows, f"The ten nearest to your picture come from {said}.", None) for p in maps
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
                    Row("own photograph, space", f"{own:.1f}", own),
                    Row("own photograph, map", f"{mapped:.1f}", mapped),
                ]
                says = (
                    f"A crop of {name}, perplexity {perplexity}: {10 * kept:.0f} of its ten nearest in the space are "
                )
                says += "among its ten nearest in the map."
                frames.append(frame(perplexity, images[point], order, rows, says, point))
                x, y = spread[perplexity][point].tolist()
                spots.append((x * width, y, number, step))
            choices = list(names)
            pad = Pad("Point of the map", (0, 1), spots, given=1, hover=True)
        return Scene(
            title="neighbours in the map, neighbours in the space",
            caption="Move over the map, or step through the crops. Red: the crop. Blue: its ten nearest in the "
            "space of all features, four of which stand on the right. Where are the blue circles far from the red one? "
            "Change the perplexity.",
            heading="Of the ten nearest",
            controls=[
                Control("Perplexity", [str(perplexity) for perplexity in maps], "buttons"),
                Control("Crop", choices),
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
    """Chapter 10: choose a query and the kind of features, see its five nearest crops.

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
            says = (
                f"By {kind}: {sum(right)} of five are of the query's photograph." if picture is None else f"By {kind}."
            )
            tiles = [photo(asked[number], side), *(photo(gallery.images[i], side) for i in index)]
            alt = f"A query and its five nearest crops by {kind}: {', '.join(names[gallery.labels[i]] for i in index)}."
            frames.append(Frame(sheet(tiles, 6), rows, says, alt))
        return Scene(
            title="show me more like this",
            caption="Left the query, then its five nearest crops of other places. Guess what each kind of features "
            "will take for alike. Which mistakes would you make yourself? The line across the lowest bar is chance.",
            heading="Cosine similarity",
            controls=[Control("Query", tags), Control("Features", list(kinds), "buttons")],
            frames=frames,
            start=(0, len(kinds) - 1),
        )

    return Demo(compute, None, size=gallery.images.shape[-1])
