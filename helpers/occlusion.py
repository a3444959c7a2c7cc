"""Chapter 5: cover a part of the picture and see what it does to the decision."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import layers
from .inputs import Box, Target, as_batch, as_logits, as_targets, check_count
from .runtime import progress

SCORES = ("probability", "logit")


@dataclass(frozen=True)
class Occlusion:
    """What `sensitivity` found for one image, or for N images (then the tensors have a leading N).

    Attributes
    ----------
    scores : Tensor (rows, cols)
        The target's score with the window at every position.
    heatmap : Tensor (H, W)
        Mean drop of the score, ``reference - score``, over the windows that cover a pixel; negative where covering
        the pixel helps the target.
    reference : Tensor ()
        The target's score for the whole image.
    target : Tensor ()
        The class.
    outputs : Tensor (rows, cols, classes)
        The network's logits with the window at every position.
    clean : Tensor (classes,)
        The network's logits for the whole image.
    window, stride : int
        In pixels.
    score : str
        ``"probability"`` or ``"logit"``.
    """

    scores: Tensor
    heatmap: Tensor
    reference: Tensor
    target: Tensor
    outputs: Tensor
    clean: Tensor
    window: int
    stride: int
    score: str

    def box(self, row: int, col: int) -> Box:
        """The pixels that the window covers at position ``row``, ``col``."""
        rows, cols = self.scores.shape[-2:]
        if not (0 <= row < rows and 0 <= col < cols):
            raise IndexError(f"the window has {rows}×{cols} positions, there is none at {row}, {col}.")
        height, width = self.heatmap.shape[-2:]
        top, left = row * self.stride, col * self.stride
        return Box(top, left, min(top + self.window, height), min(left + self.window, width))

    def of(self, target: Target) -> Occlusion:
        """The same run, read for another class: the network does not run again."""
        clean = self.clean if self.clean.ndim == 2 else self.clean[None]
        targets = as_targets(target, clean)
        targets = targets if self.clean.ndim == 2 else targets[0]
        return _read(self.outputs, self.clean, targets, self.heatmap.shape[-2:], self.window, self.stride, self.score)


def sensitivity(
    model: nn.Module,
    image: Tensor,
    target: Target = None,
    *,
    window: int = 32,
    stride: int = 8,
    baseline: float | Tensor = 0.5,
    score: str = "probability",
    batch_size: int | None = None,
) -> Occlusion:
    """Slide a window over the image and record the target's score (Zeiler & Fergus 2014, section 4.2).

    Parameters
    ----------
    model
        Any network from (N, 3, H, W) to (N, classes).
    image
        (3, H, W) or (N, 3, H, W) in [0, 1].
    target
        Class index, one for each image, or None for the predicted class.
    window, stride
        Side of the square window and its step, in pixels, ``stride <= window <= min(H, W)``. The last window in a row
        or column is clipped at the border, as in captum.
    baseline
        What covers the picture: a grey value, a colour (3,), or a picture (3, H, W) of which the window shows its part.
    score
        ``"probability"`` (softmax) or ``"logit"``.
    batch_size
        Covered pictures in a forward pass. Default: 64; on the CPU 1 to 32, the fewer the larger the network's maps.

    Notes
    -----
    Cost: one forward pass for each of ``(⌈(H - window) / stride⌉ + 1)²`` positions. It runs on a copy of the network
    whose batch norms are folded into the convolutions, in ``channels_last`` memory order: the same function, faster.
    """
    batch, single = as_batch(model, image)
    height, width = batch.shape[-2:]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in (window, stride)):
        raise TypeError(f"window and stride must be ints, got {window!r} and {stride!r}.")
    if not 1 <= stride <= window <= min(height, width):
        raise ValueError(f"need 1 <= stride <= window <= {min(height, width)}, got stride {stride}, window {window}.")
    if score not in SCORES:
        raise ValueError(f"score must be one of {', '.join(SCORES)}; got {score!r}.")
    if batch_size is not None:
        check_count("batch_size", batch_size)
    cover = _as_cover(baseline, batch)

    with layers.evaluating(model):
        fast = layers.fold_batch_norm(model, batch[:1])
        if fast is not model:
            fast.to(memory_format=torch.channels_last)
        clean = as_logits(fast(batch))
        targets = as_targets(target, clean)
        batch_size = batch_size or _batch_size(fast, batch[:1])
        outputs = torch.stack([_slide(fast, picture, cover, window, stride, batch_size) for picture in batch])
    if single:
        outputs, clean, targets = outputs[0], clean[0], targets[0]
    return _read(outputs, clean, targets, (height, width), window, stride, score)


def _batch_size(model: nn.Module, image: Tensor) -> int:
    """As many pictures as keep the largest maps below 8 million numbers.

    glibc returns what is larger (32 MB) to the system at once, and asking for it again took half of the time.
    """
    if image.device.type != "cpu":
        return 64
    largest = max((math.prod(shape) for shape in layers.trace_maps(model, image).values()), default=1)
    return max(1, min(32, 2 ** int(math.log2(max(8e6 / largest, 1)))))


def _as_cover(baseline: float | Tensor, batch: Tensor) -> Tensor:
    """``baseline`` as a picture (3, H, W)."""
    cover = torch.as_tensor(baseline, device=batch.device, dtype=batch.dtype)
    if cover.shape not in ((), (3,), batch.shape[1:]):
        raise ValueError(f"baseline must be a number, a colour (3,) or a picture (3, H, W), got {tuple(cover.shape)}.")
    if not (cover.min() >= 0 and cover.max() <= 1):
        raise ValueError("baseline must be in [0, 1], like the image.")
    return (cover.view(3, 1, 1) if cover.ndim == 1 else cover).expand(batch.shape[1:])


def _slide(model: nn.Module, image: Tensor, cover: Tensor, window: int, stride: int, batch_size: int) -> Tensor:
    """Logits with the window at every position, (rows, cols, classes)."""
    rows, cols = (_positions(side, window, stride) for side in image.shape[-2:])
    corners = [(row * stride, col * stride) for row in range(rows) for col in range(cols)]
    clean = image[None].expand(batch_size, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    covered, outputs = torch.empty_like(clean), []
    for start in progress(range(0, len(corners), batch_size), "occlusion", "batch"):
        part = corners[start : start + batch_size]
        covered.copy_(clean)
        for picture, (top, left) in zip(covered, part):
            place = (slice(None), slice(top, top + window), slice(left, left + window))
            picture[place] = cover[place]
        outputs.append(model(covered[: len(part)]))
    return as_logits(torch.cat(outputs)).view(rows, cols, -1)


def _positions(side: int, window: int, stride: int) -> int:
    return math.ceil((side - window) / stride) + 1


def _read(
    outputs: Tensor, clean: Tensor, target: Tensor, size: tuple[int, int], window: int, stride: int, score: str
) -> Occlusion:
    """Scores and heatmap of ``target`` from the logits (…, rows, cols, classes) and (…, classes)."""
    values, whole = (outputs.softmax(-1), clean.softmax(-1)) if score == "probability" else (outputs, clean)
    index = target[..., None]  # (…, 1)
    reference = whole.gather(-1, index)[..., 0]
    index = index[..., None, None, :].expand(*values.shape[:-1], 1)
    scores = values.gather(-1, index)[..., 0]
    drops = (reference[..., None, None] - scores).cpu().double()
    vertical, horizontal = (_covers(side, window, stride) for side in size)  # (rows, H), (cols, W)
    total = vertical.T @ drops @ horizontal
    count = vertical.sum(0)[:, None] * horizontal.sum(0)
    heatmap = (total / count).to(outputs.dtype).to(outputs.device)
    return Occlusion(scores, heatmap, reference, target, outputs, clean, window, stride, score)


def _covers(side: int, window: int, stride: int) -> Tensor:
    """1 where the window at a position covers a row (or column) of pixels: (positions, side)."""
    offset = torch.arange(side) - stride * torch.arange(_positions(side, window, stride))[:, None]
    return ((offset >= 0) & (offset < window)).double()
