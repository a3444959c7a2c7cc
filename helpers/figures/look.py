"""One look for all figures, and how one of them gets onto the page."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
from IPython.display import display
from matplotlib.colors import is_color_like, to_hex, to_rgba
from matplotlib.figure import Figure
from PIL import Image

WIDTH = 7.6  # inches; at 100 CSS pixels an inch, the width of the page's column
SHARPNESS = 1.5  # device pixels for each CSS pixel
LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "muted": "#59636f"}
DARK = {"paper": "#14181e", "ink": "#ced6dd", "muted": "#9ca4af"}  # paper: the background of the dark pages
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe & Ito: safe for the colour-blind
HEAT, SIGNED = "magma", "RdBu_r"

STYLE = {
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


def new(
    rows: int = 1, columns: int = 1, *, height: float = 2.8, width: float = WIDTH, **options
) -> tuple[Figure, np.ndarray]:
    """An empty figure in the book's look and its axes, an array (rows, columns); sizes in inches."""
    with mpl.rc_context(STYLE):
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
    with mpl.rc_context(STYLE):
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
