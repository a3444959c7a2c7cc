"""Photographs and maps, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ..inputs import Box
from .look import HEAT, LIGHT, SIGNED, STYLE, WIDTH, new, show


@dataclass
class Panel:
    """One picture of a figure.

    Parameters
    ----------
    image
        (3, H, W) in [0, 1].
    heatmap
        (H, W), of any size; with an ``image``, drawn over it, and the stronger the value, the more of it is seen.
    signed
        Diverging colours centred on zero; else from the smallest value (or zero, over an image) to the largest.
    limits
        Smallest and largest value of the colour scale, in place of the map's own.
    unit
        Adds a colour bar with this label.
    boxes
        Rectangles to draw.
    """

    image: Tensor | None = None
    heatmap: Tensor | None = None
    title: str = ""
    signed: bool = False
    limits: tuple[float, float] | None = None
    unit: str = ""
    boxes: Sequence[Box] = field(default_factory=tuple)


def panels(items: Sequence[Panel], *, alt: str, columns: int | None = None, height: float | None = None) -> None:
    """Show ``items`` side by side, ``columns`` in a row (default: up to three)."""
    if not items:
        raise ValueError("no panels to show.")
    columns = columns or min(len(items), 3)
    rows = -(-len(items) // columns)
    titles = any(item.title for item in items)
    width = min(WIDTH, 2.6 * columns)
    if height and not any(item.unit for item in items):  # no wider than needed: a narrow page shows all of them
        pictures = (height / rows - 0.25 * titles) * max(map(_shape, items))
        words = 0.09 * max(len(line) for item in items for line in item.title.split("\n"))
        width = min(WIDTH, columns * (0.1 + max(pictures, words)))
    figure, axes = new(rows, columns, height=height or rows * (width / columns + 0.25 * titles), width=width)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, item in zip(axes.flat, items):
        draw(axis, item)
    show(figure, alt, columns=columns if columns <= 4 else None)  # more belong together in rows


def _shape(panel: Panel) -> float:
    """Width over height of what a panel shows."""
    _check(panel)
    height, width = (panel.heatmap if panel.image is None else panel.image).shape[-2:]
    return width / height


def draw(axis: Axes, panel: Panel) -> None:
    """Draw one panel on ``axis``."""
    axis.set_axis_off()
    axis.set_title(panel.title, color=LIGHT["ink"])
    extent = None
    _check(panel)
    if panel.image is not None:
        photo = panel.image.detach().cpu().permute(1, 2, 0).float().numpy()
        extent = (-0.5, photo.shape[1] - 0.5, photo.shape[0] - 0.5, -0.5)
        if panel.heatmap is not None:  # a pale grey photograph leaves the colours to the map
            photo = np.repeat(photo.mean(2, keepdims=True), 3, axis=2) * 0.75 + 0.25 * photo
        axis.imshow(photo, extent=extent)
    if panel.heatmap is not None:
        values = panel.heatmap.detach().cpu().float().numpy()
        low, high = panel.limits or _limits(values, panel.signed, zero=panel.image is not None)
        share = np.clip(np.abs(values) / max(abs(low), abs(high), 1e-12), 0, 1)
        drawn = axis.imshow(
            values,
            cmap=SIGNED if panel.signed else HEAT,
            vmin=low,
            vmax=high,
            extent=extent,
            interpolation="nearest",
            alpha=None if panel.image is None else 0.15 + 0.6 * share,
        )
        if panel.unit:
            with mpl.rc_context(STYLE):
                bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.03)
                bar.outline.set_visible(False)
                bar.set_label(panel.unit)
                bar.solids.set_alpha(1)
    for box in panel.boxes:
        for colour, thickness in (("#000000", 3.0), ("#fefefe", 1.4)):  # seen on any photograph
            edge = (box.left - 0.5, box.top - 0.5), box.right - box.left, box.bottom - box.top
            axis.add_patch(mpl.patches.Rectangle(*edge, fill=False, edgecolor=colour, linewidth=thickness))


def _check(panel: Panel) -> None:
    """No picture is better than a wrong one."""
    image, heatmap = panel.image, panel.heatmap
    if image is None and heatmap is None:
        raise ValueError("a panel needs an image, a heatmap, or both.")
    if image is not None:
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"a panel's image must have shape (3, H, W), got {tuple(image.shape)}.")
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError(f"a panel's image must be in [0, 1], got {image.min():.3g} to {image.max():.3g}.")
    if heatmap is not None and (heatmap.ndim != 2 or not heatmap.isfinite().all()):
        raise ValueError(f"a panel's heatmap must be (H, W) with finite values, got {tuple(heatmap.shape)}.")


def _limits(values: np.ndarray, signed: bool, zero: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if signed:
        high = max(abs(low), abs(high)) or 1.0
        return -high, high
    return min(low, 0.0) if zero else low, high if high > low else low + 1.0
