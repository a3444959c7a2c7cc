"""Numbers as lines, bars and points."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from .look import COLOURS, LIGHT, new, show

CHART = 5.8  # inches, of bars and curves: on a phone they shrink, and their labels are still read


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    alt: str,
    level: tuple[float, str] | None = None,
    height: float = 2.8,
    markers: bool = False,
) -> None:
    """Lines: ``series`` goes from label to (xs, ys); ``level`` is a horizontal line (value, label), such as chance."""
    figure, axes = new(height=height, width=CHART)
    axis = axes[0, 0]
    for number, (label, (xs, ys)) in enumerate(series.items()):
        marker = "osD^vP"[number % 6] if markers else None
        axis.plot(xs, ys, label=label, marker=marker, markersize=4, color=COLOURS[number % len(COLOURS)])
    _finish(axis, level, x, y)
    if len(series) > 1:
        axis.legend(labelcolor=LIGHT["ink"], frameon=False)
    show(figure, alt)


def bars(
    values: Mapping[str, float],
    *,
    y: str,
    alt: str,
    errors: Mapping[str, float | tuple[float, float]] | None = None,
    level: tuple[float, str] | None = None,
    height: float = 2.8,
) -> None:
    """Bars: ``values`` goes from label to height, ``errors`` to the length of the error bar below and above it."""
    figure, axes = new(height=height, width=CHART)
    axis = axes[0, 0]
    yerr = np.array([np.broadcast_to(errors[label], 2) for label in values]).T if errors else None
    style = {"ecolor": LIGHT["ink"], "capsize": 4}
    room = max(8, 50 // len(values))  # letters that fit below a bar
    labels = [label if "\n" in label else textwrap.fill(label, room, break_long_words=False) for label in values]
    axis.bar(labels, list(values.values()), yerr=yerr, width=0.6, color=COLOURS[0], error_kw=style)
    _finish(axis, level, "", y)
    show(figure, alt)


def _finish(axis: Axes, level: tuple[float, str] | None, x: str, y: str) -> None:
    if level:
        axis.axhline(level[0], color=LIGHT["muted"], linestyle="--", linewidth=1)
        place = {"xy": (1.01, level[0]), "xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
        axis.annotate(level[1], **place, color=LIGHT["ink"], fontsize=10)  # beside the axes, where no bar hides it
    axis.set_xlabel(x)
    axis.set_ylabel(y)


def scatters(
    maps: Mapping[str, Tensor], groups: Mapping[str, Sequence[int] | slice | Tensor], *, alt: str, height: float = 3.0
) -> None:
    """Points in the plane: ``maps`` goes from titles to positions (N, 2), ``groups`` from labels to rows."""
    figure, axes = new(1, len(maps), height=height)
    for axis, (title, positions) in zip(axes[0], maps.items()):
        axis.set(title=title, xticks=[], yticks=[])
        axis.set_aspect("equal", "datalim")
        axis.spines[["top", "right"]].set_visible(True)
        for label, rows in groups.items():
            axis.scatter(*positions[rows].T, s=6, label=label, linewidths=0)
    look = {"labelcolor": LIGHT["ink"], "frameon": False, "handletextpad": 0.1, "columnspacing": 0.8, "markerscale": 2}
    columns = len(groups) if len(maps) == 1 else 2
    axes[0, 0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=columns, **look)  # below the first
    show(figure, alt, columns=len(maps))
