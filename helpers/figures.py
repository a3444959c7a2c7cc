"""The figures of the book: one look, alternative text in every one of them, a second drawing for dark pages.

`panels` shows photographs and maps side by side, `curves`, `bars` and `table` show numbers; what they do not do is
drawn with matplotlib on the axes of `new` and shown with `show`.
"""

from __future__ import annotations

import base64
import html
import io
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like, to_hex, to_rgba
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .inputs import Box

WIDTH = 7.6  # inches; at 100 CSS pixels an inch, the width of the page's column
CHART = 5.8  # of bars and curves: on a phone they shrink, and their labels are still read
SHARPNESS = 1.5  # device pixels for each CSS pixel
LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "muted": "#59636f"}
DARK = {"paper": "#14181e", "ink": "#ced6dd", "muted": "#9ca4af"}  # paper: the background of the dark pages
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito: safe for the colour-blind
HEAT, SIGNED = "magma", "RdBu_r"

_STYLE = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "figure.facecolor": LIGHT["paper"],
    "axes.facecolor": LIGHT["paper"],
    "text.color": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.edgecolor": LIGHT["muted"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
}


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


def new(
    rows: int = 1, columns: int = 1, *, height: float = 2.8, width: float = WIDTH, **options
) -> tuple[Figure, np.ndarray]:
    """An empty figure in the book's look and its axes, an array (rows, columns); sizes in inches."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def show(figure: Figure, alt: str, *, columns: int | None = None) -> None:
    """Display ``figure`` with ``alt``, the text that says what it shows to those who can't see it.

    Of pictures say in how many ``columns`` they stand: where the page is narrow a site may cut between these, and draw
    the pictures smaller than labels could be.

    PNG, or JPEG where that is smaller (photographs). Where the environment has ``HELPERS_DARK_FIGURES=1``, as it has
    while the site is built, the same figure drawn for dark pages goes with it.
    """
    if not isinstance(alt, str) or len(alt.split()) < 4:
        raise ValueError(f"alt must say in words what the figure shows, got {alt!r}.")
    kind, data, (width, height) = _encode(figure)
    bundle = {kind: data, "text/plain": alt}
    if os.environ.get("HELPERS_DARK_FIGURES") == "1":
        undo = _recolour(figure, dict(zip(LIGHT.values(), DARK.values())))
        dark_kind, dark_data, _ = _encode(figure)
        for change, colour in undo:
            change(colour)
        bundle["application/vnd.helpers.dark+json"] = {"mime": dark_kind, "data": dark_data}
    display(bundle, raw=True, metadata={kind: {"alt": alt, "width": width, "height": height, "columns": columns}})


def _encode(figure: Figure) -> tuple[str, str, tuple[int, int]]:
    """The smaller of PNG and JPEG: its MIME type, its bytes in base64, its size in CSS pixels."""
    with mpl.rc_context(_STYLE):
        sheet = io.BytesIO()
        look = {"dpi": 100 * SHARPNESS, "facecolor": figure.get_facecolor(), "bbox_inches": "tight", "pad_inches": 0.04}
        figure.savefig(sheet, **look, pil_kwargs={"compress_level": 1})
    picture = Image.open(sheet).convert("RGB")
    files = {"image/png": io.BytesIO(), "image/jpeg": io.BytesIO()}
    picture.save(files["image/png"], "PNG")
    picture.save(files["image/jpeg"], "JPEG", quality=88, optimize=True, subsampling=0)
    kind = min(files, key=lambda kind: files[kind].tell())
    if kind == "image/png":  # to optimise that of a photograph, too, would take most of the time
        files[kind] = io.BytesIO()
        picture.save(files[kind], "PNG", optimize=True)
    width, height = (round(side / SHARPNESS) for side in picture.size)
    return kind, base64.b64encode(files[kind].getvalue()).decode("ascii"), (width, height)


def _recolour(figure: Figure, colours: Mapping[str, str]) -> list[tuple[Callable, object]]:
    """Replace colours in everything that the figure holds; return what undoes it."""
    undo = []
    figure.draw_without_rendering()  # makes the last ticks
    for artist in figure.findobj():
        for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get, change = getattr(artist, f"get_{part}", None), getattr(artist, f"set_{part}", None)
            if get and change:
                old = value = get()
                if np.ndim(value) == 2 and len(value) == 1:  # a collection with one colour
                    value = value[0]
                given = not isinstance(value, str) or value.startswith("#")  # neither "none" nor "auto"
                if given and is_color_like(value) and to_rgba(value)[3] == 1 and to_hex(value) in colours:
                    change(colours[to_hex(value)])
                    undo.append((change, old))
    return undo


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
            with mpl.rc_context(_STYLE):
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


def table(
    rows: Mapping[str, Mapping[str, object]],
    *,
    caption: str,
    best: Mapping[str, Callable] | None = None,
    digits: int = 2,
) -> None:
    """Numbers with their headers: ``rows`` goes from the name of each row to its values, by the name of their column.

    A float has so many ``digits``, a (mean, low, high) is shown with its interval; what a row lacks stays empty.
    ``best`` goes from columns to `max` or `min`: that value is marked.
    """
    columns = list(dict.fromkeys(column for values in rows.values() for column in values))
    marked = {}
    for column, choose in (best or {}).items():
        marked[column] = choose(_number(values[column]) for values in rows.values() if column in values)
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    lines, body = [["", *columns]], ""
    for name, values in rows.items():
        lines.append([name, *(" ".join(_written(values.get(column, ""), digits)) for column in columns)])
        body += f'<tr><th scope="row">{html.escape(name)}</th>'
        for column in columns:
            number, *interval = map(html.escape, _written(values.get(column, ""), digits))
            if column in values and marked.get(column) == _number(values[column]):
                number = f"<strong>{number}</strong>"
            body += f"<td>{number}{''.join(f' <small>{ends}</small>' for ends in interval)}</td>"
        body += "</tr>"
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
    page = f'<table class="results"><caption>{html.escape(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
    display({"text/html": f"{page}<tbody>{body}</tbody></table>", "text/plain": f"{caption}\n{text}"}, raw=True)


def _number(value: object) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _written(value: object, digits: int) -> list[str]:
    """A value as text, and its interval if it has one."""
    if isinstance(value, tuple):
        mean, low, high = value
        return [f"{mean:.{digits}f}", f"[{low:.{digits}f}, {high:.{digits}f}]"]
    value = value.item() if isinstance(value, Tensor) else value
    return [f"{value:.{digits}f}" if isinstance(value, float) else str(value)]
