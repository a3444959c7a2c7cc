"""Is an explanation right? Scores against a known truth, against the network itself, against a destroyed network."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from . import datasets, layers, photos
from .inputs import Box, as_batch, as_logits, as_map, as_targets
from .runtime import progress

# What the groceries are, in ImageNet's words, by fine class: only these can stand in a grid.
KNOWN = {
    "Banana": "banana",
    "Brown-Cap-Mushroom": "mushroom",
    "Cabbage": "head cabbage",
    "Cucumber": "cucumber",
    "Granny-Smith": "Granny Smith",
    "Lemon": "lemon",
    "Orange": "orange",
    "Pineapple": "pineapple",
    "Pomegranate": "pomegranate",
    "Satsumas": "orange",
    "Zucchini": "zucchini",
    **{f"{colour}-Bell-Pepper": "bell pepper" for colour in ("Green", "Orange", "Red", "Yellow")},
}
BOARD = Path(__file__).parent / "data" / "scoreboard.json"  # tools/data/quote_scoreboard.py writes it


def grids(classifier, n: int = 16, *, size: int = 160, confidence: float = 0.3, seed: int = 0) -> list[photos.Grid]:
    """``n`` grids of 4·``n`` photographs, packaged ones and groceries, each of which ``classifier`` gets right.

    No photograph is in two grids, and no class twice in a grid. One photograph of each class is drawn, then a second
    of each that has two, and so on, until there are enough.

    Parameters
    ----------
    classifier
        A `models.Classifier` with ImageNet's category names.
    size
        Side of a cell in pixels; the groceries have 160.
    confidence
        Least probability of the right answer for the photograph alone.

    Raises
    ------
    ValueError
        There are too few such photographs for ``n`` grids.
    """
    random = np.random.default_rng(seed)
    known = _known(classifier, size, confidence)
    classes = random.permutation([*known]).tolist()
    piles = [[(c, *known[c][i]) for i in random.permutation(len(known[c]))[: max(n, 0)]] for c in classes]
    drawn = [pile[place] for place in range(max(map(len, piles), default=0)) for pile in piles if place < len(pile)]
    if n < 1 or len(drawn) < 4 * n:
        raise ValueError(
            f"asked for {n} grids, but {classifier.name} knows only {len(drawn)} different photographs of "
            f"{len(known)} classes with probability {confidence} or more: ask for fewer, or lower the confidence."
        )
    drawn = sorted(drawn[: 4 * n], key=lambda photograph: classes.index(photograph[0]))
    grids = []
    for start in range(n):  # class by class, dealt out like cards
        four = [drawn[start::n][cell] for cell in random.permutation(4)]
        targets, names, images = zip(*four)
        grids.append(photos.collage(images, names, targets))
    return [grids[place] for place in random.permutation(n)]  # neighbours hold the same classes


def _known(classifier, size: int, confidence: float) -> dict[int, list[tuple[str, Tensor]]]:
    """From each class to the name and image (3, size, size) of its photographs that ``classifier`` gets right."""
    candidates = [(name, labels, photos.load(name, size)) for name, labels in photos.KNOWN.items()]
    for split in ("train", "test"):
        data = datasets.groceries(split, "fine", size=size)
        for name, (image, label) in zip(data.names, data):
            if data.classes[label] in KNOWN:
                candidates.append((name, {KNOWN[data.classes[label]]}, image))
    known: dict[int, list[tuple[str, Tensor]]] = {}
    for start in range(0, len(candidates), 8):
        part = candidates[start : start + 8]
        answers = classifier.predict(torch.stack([image for _, _, image in part]), k=1)
        for (name, labels, image), [(answer, probability)] in zip(part, answers):
            if answer in labels and probability >= confidence:
                known.setdefault(classifier.index(answer), []).append((name, image))
    return known


class Score(NamedTuple):
    """A mean and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def errors(self) -> tuple[float, float]:
        """The lengths of the interval below and above the mean, for an error bar."""
        return self.mean - self.low, self.high - self.mean


def interval(values: Sequence[float], *, share: bool = False) -> Score:
    """The mean of independent values between 0 and 1, and its 95 % interval, which stays between them.

    Student's t; with ``share`` Wilson's, for values that are 0 or 1: where all are 1, the interval still has a width.
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    count = len(values)
    if count < 2 or not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"need two values or more between 0 and 1, got {values}.")
    mean = values.mean()
    if share:
        z2 = stats.norm.ppf(0.975) ** 2 / count
        centre, half = (mean + z2 / 2) / (1 + z2), np.sqrt(z2 * mean * (1 - mean) + z2**2 / 4) / (1 + z2)
    else:
        centre, half = mean, stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return Score(*(float(np.clip(value, 0, 1)) for value in (mean, centre - half, centre + half)))


class Board(NamedTuple):
    """The scoreboard: from each method to its measures' `Score`; numbers of grids, their photographs, targets …"""

    methods: dict[str, dict[str, Score]]
    grids: int
    photographs: int
    classes: int
    targets: int
    singles: int


def board() -> Board:
    """The scoreboard as the book's page computed it: nothing is computed here (``book/scoreboard.ipynb``)."""
    found = json.loads(BOARD.read_text(encoding="utf-8"))
    rows = found.pop("methods").items()
    return Board({name: {measure: Score(*score) for measure, score in row.items()} for name, row in rows}, **found)


def localisation(heatmap: Tensor, box: Box) -> float:
    """Share of the map's positive mass that lies in ``box``: 1 is perfect; 0 where nothing is positive.

    On a grid (`photos.Grid`) a map that knows nothing scores 1/4 (Böhle et al. 2021; Rao et al. 2022).
    """
    positive = as_map(heatmap).clamp(min=0)
    total = positive.sum().item()
    return positive[_inside(box, positive)].sum().item() / total if total > 0 else 0.0


def pointing(heatmap: Tensor, box: Box) -> float:
    """1 if the map's maximum lies in ``box``, else 0; of equal maxima, the share that does (Zhang et al. 2018)."""
    heatmap = as_map(heatmap)
    maxima = heatmap == heatmap.max()
    return maxima[_inside(box, maxima)].sum().item() / maxima.sum().item()


def _inside(box: Box, heatmap: Tensor) -> tuple[slice, slice]:
    top, left, bottom, right = box
    if not (0 <= top < bottom <= heatmap.shape[0] and 0 <= left < right <= heatmap.shape[1]):
        raise ValueError(f"{tuple(box)} (top, left, bottom, right) is no box in a map of {tuple(heatmap.shape)}.")
    return Box(*box).slices


def threshold_box(heatmap: Tensor, level: float = 0.15) -> Box:
    """The box around the largest region where the map is at least ``level`` × its maximum (Zhou et al. 2016)."""
    heatmap = as_map(heatmap)
    if not heatmap.max() > 0:
        raise ValueError("the map has no positive value, hence no region.")
    if not 0 < level <= 1:
        raise ValueError(f"level must be in (0, 1], got {level!r}.")
    from scipy import ndimage  # here and below: a second of importing that many chapters do without

    regions, _ = ndimage.label((heatmap >= level * heatmap.max()).numpy())
    largest = 1 + int(np.bincount(regions.ravel())[1:].argmax())
    rows, cols = ndimage.find_objects(regions)[largest - 1]
    return Box(rows.start, cols.start, rows.stop, cols.stop)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    height = min(first.bottom, second.bottom) - max(first.top, second.top)
    width = min(first.right, second.right) - max(first.left, second.left)
    common = max(height, 0) * max(width, 0)
    return common / (first.area + second.area - common)


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two maps of the same size, -1 to 1; NaN where one of them is constant."""
    a, b = as_map(first), as_map(second)
    if a.shape != b.shape:
        raise ValueError(f"the maps must have the same size, got {tuple(a.shape)} and {tuple(b.shape)}.")
    if a.min() == a.max() or b.min() == b.max():
        return float("nan")
    from scipy import stats

    return float(stats.spearmanr(a.flatten(), b.flatten()).statistic)


@dataclass(frozen=True)
class Curve:
    """The target's probability ``scores`` after a share ``fractions`` of the pixels changed, and the ``area`` below."""

    fractions: Tensor
    scores: Tensor

    @property
    def area(self) -> float:
        """Area under the curve by the trapezoidal rule, 0 to 1."""
        return torch.trapezoid(self.scores, self.fractions).item()


def deletion_curve(model: nn.Module, image: Tensor, heatmap: Tensor, target: int, *, steps: int = 32) -> Curve:
    """Replace pixels by grey (0.5), those with the largest map values first (Petsiuk et al. 2018)."""
    return _curve(model, image, heatmap, target, steps, lambda batch: (batch, torch.full_like(batch, 0.5)))


def insertion_curve(model: nn.Module, image: Tensor, heatmap: Tensor, target: int, *, steps: int = 32) -> Curve:
    """Put pixels back into a blurred picture, those with the largest map values first (Petsiuk et al. 2018)."""
    return _curve(
        model, image, heatmap, target, steps, lambda batch: (gaussian_blur(batch, [31, 31], [10.0, 10.0]), batch)
    )


def deletion(model: nn.Module, image: Tensor, heatmap: Tensor, target: int, *, steps: int = 32) -> float:
    """Area under `deletion_curve`: small where the map ranks first what the decision rests on."""
    return deletion_curve(model, image, heatmap, target, steps=steps).area


def insertion(model: nn.Module, image: Tensor, heatmap: Tensor, target: int, *, steps: int = 32) -> float:
    """Area under `insertion_curve`: large where the map ranks first what the decision rests on."""
    return insertion_curve(model, image, heatmap, target, steps=steps).area


def _curve(model: nn.Module, image: Tensor, heatmap: Tensor, target: int, steps: int, ends: Callable) -> Curve:
    batch, single = as_batch(model, image)
    if not single:
        raise ValueError(f"image must be one image (3, H, W), got {tuple(image.shape)}.")
    heatmap = as_map(heatmap)
    if heatmap.shape != batch.shape[-2:]:
        raise ValueError(f"the map must have the image's size {tuple(batch.shape[-2:])}, got {tuple(heatmap.shape)}.")
    if not isinstance(steps, int) or not 1 <= steps <= heatmap.numel():
        raise ValueError(f"steps must be an int in 1…{heatmap.numel()}, got {steps!r}.")
    first, last = ends(batch)
    # rank 0 changes first; equal values change in the order of the pixels
    rank = torch.empty(heatmap.numel(), dtype=torch.long)
    rank[heatmap.flatten().argsort(descending=True, stable=True)] = torch.arange(heatmap.numel())
    rank = rank.view(heatmap.shape).to(batch.device)
    counts = torch.linspace(0, heatmap.numel(), steps + 1).round().long()
    scores = []
    with layers.evaluating(model):
        index = as_targets(target, as_logits(model(batch)))
        for part in counts.to(batch.device).split(8):
            changed = torch.where(rank < part[:, None, None, None], last, first)
            logits = as_logits(model(changed))
            scores.append(logits.softmax(1).gather(1, index.expand(len(part))[:, None])[:, 0])
    return Curve(counts.double() / heatmap.numel(), torch.cat(scores).cpu().double())


def randomisation(
    model: nn.Module,
    explain: Callable[[nn.Module, Tensor, int], Tensor],
    image: Tensor,
    target: int,
    *,
    paths: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Randomise the network from the top down and follow the map (the cascading test of Adebayo et al. 2018).

    Parameters
    ----------
    explain
        From (model, image, target) to a map (H, W): ``saliency.gradient``, ``cam.gradcam`` …
    target
        The class that is explained, kept while the network is destroyed.
    paths
        Layers from the top down; all weights inside a layer are randomised together. Default: every layer that has a
        weight matrix or kernel of its own, last to first.

    Returns
    -------
    dict
        From each layer to the rank correlation of the absolute map with the original one, once this layer and all
        before it in the list have random weights: Gaussian, with the mean and standard deviation of the trained ones.
        An explanation of what the network has learnt falls towards 0; one that stays near 1 did not depend on it.
    """
    if paths is None:
        paths = [name for name, module in model.named_modules() if _weights(module, recurse=False)][::-1]
    correlations = {}
    with torch.inference_mode(False):
        original = explain(copy.deepcopy(model), image, target).abs()
        for path, network in zip(progress(paths, "randomise", "layer"), randomised(model, paths, seed=seed)):
            heatmap = explain(network, image, target).abs()
            correlations[path.removeprefix("network.")] = rank_correlation(original, heatmap)
    return correlations


def randomised(model: nn.Module, paths: Sequence[str], *, seed: int = 0) -> Iterator[nn.Module]:
    """A copy of ``model`` with more and more random weights: once the first layer of ``paths`` has them, the second …

    Kernels and weight matrices become Gaussian, with the mean and standard deviation of the trained ones; biases and
    batch norms stay. It is one copy throughout: copy what shall be kept.
    """
    with torch.inference_mode(False):
        network, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for path in paths:
        with torch.inference_mode(False):
            for weight in _weights(layers.find(network, path), recurse=True):
                noise = torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype)
                weight.data = weight.data.mean() + weight.data.std(correction=0) * noise
        yield network


def _weights(module: nn.Module, recurse: bool) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters(recurse) if parameter.ndim >= 2]
