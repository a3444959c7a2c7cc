"""The interactive demos: one function a chapter, named after its module. Each returns a `widget.Demo`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from .cam import cam as class_map
from .cam import gradcam
from .guided import backprop
from .inputs import Box
from .layers import fold_batch_norm
from .models import Classifier
from .occlusion import Occlusion, sensitivity
from .saliency import gradient, smoothgrad
from .scoring import localisation, rank_correlation
from .shortcut import TAG
from .widget import SIDE, Control, Demo, Frame, Pad, Report, Row, Scene, cutout, heat, photo

SMALL = 240  # side of a picture that has few pixels itself


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
        scale, pale = max(votes.max().item() for votes in maps), photo(picture, pale=True)
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
