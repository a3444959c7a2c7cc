"""Turn the figures of a notebook into HTML: alternative text, a size, a drawing for each mode, and strips that wrap.

Sphinx would keep the picture and lose the rest. A figure of panels is cut between its columns, so that a narrow page
can put them below one another.
"""

import base64
import html
import io
import sys
from collections.abc import Callable

import nbformat
import numpy as np
from PIL import Image

DARK = "application/vnd.helpers.dark+json"
WIDE = 600  # CSS pixels; what is wider does not fit a phone
NOISE = 14  # of 255: what JPEG does to a plain ground beside a photograph

Save = Callable[[str, str, str], str]  # MIME type, bytes in base64, chapter -> the address on the site


def place_figures(notebook: nbformat.NotebookNode, chapter: str, save: Save) -> None:
    """Replace each picture among the outputs by its HTML."""
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            kind = next((kind for kind in output.get("data", {}) if kind.startswith("image/")), None)
            if kind is None:
                continue
            facts = output.metadata.get(kind, {})
            if not facts.get("alt"):
                sys.exit(
                    f"{chapter}: the picture of cell {number} has no alternative text: use helpers.figures.show()."
                )
            output.data = nbformat.from_dict({"text/html": _figure(drawings(output.data), facts, chapter, save)})


def drawings(data: dict) -> dict[str, tuple[str, str]]:
    """From the class on the page (mode) to MIME type and bytes in base64 of a figure's output."""
    kind = next(kind for kind in data if kind.startswith("image/"))
    light = (kind, "".join(data[kind]))
    if DARK not in data:
        return {"both-modes": light}
    return {"only-light": light, "only-dark": (data[DARK]["mime"], data[DARK]["data"])}


def _figure(drawn: dict[str, tuple[str, str]], facts: dict, chapter: str, save: Save) -> str:
    alt, edges = html.escape(facts["alt"]), None
    columns = facts.get("columns")
    if facts["width"] > WIDE and columns and columns > 1:
        edges = gutters(opened(next(iter(drawn.values()))[1]), columns)
    if edges is None:
        style = "book-figure wide" if facts["width"] > WIDE and columns != 1 else "book-figure"  # labels stay legible
        images = "".join(
            f'<img class="{name}" src="{save(mime, data, chapter)}" alt="{alt}" width="{facts["width"]}" '
            f'height="{facts["height"]}" loading="lazy">'
            for name, (mime, data) in drawn.items()
        )
        return f'<figure class="{style}" tabindex="-1">{images}</figure>'
    images, height = "", facts["height"]
    for name, (mime, data) in drawn.items():
        picture = opened(data)
        for left, right in zip(edges, edges[1:]):
            width = round(facts["width"] * (right - left) / picture.width)
            address = save(mime, _encode(picture.crop((left, 0, right, picture.height)), mime), chapter)
            size = f'width="{width}" height="{height}" loading="lazy"'
            images += f'<img class="{name}" src="{address}" alt="" {size}>'
    return f'<figure class="book-figure strips" role="img" aria-label="{alt}" tabindex="-1">{images}</figure>'


def gutters(picture: Image.Image, columns: int) -> list[int] | None:
    """Where to cut between ``columns`` panels, with both ends; None where there is no clear gutter near each place."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    clear = np.abs(pixels - pixels[0, 0]).max((0, 2)) <= NOISE  # of each column of pixels: nothing but ground
    gaps = np.flatnonzero(np.diff(clear, prepend=False, append=False)).reshape(-1, 2)  # the first column, that after
    edges = [0]
    for number in range(1, columns):
        place, reach = picture.width * number / columns, 0.3 * picture.width / columns  # colour bars take room, too
        near = [(first, last) for first, last in gaps if abs((first + last) / 2 - place) < reach]
        if not near:
            return None
        first, last = max(near, key=lambda gap: (gap[1] - gap[0], -abs((gap[0] + gap[1]) / 2 - place)))  # the widest
        edges.append(int(first + last) // 2)
    return [*edges, picture.width]


def opened(data: str) -> Image.Image:
    """The picture that these bytes in base64 are."""
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def _encode(picture: Image.Image, mime: str) -> str:
    file = io.BytesIO()
    options = {"quality": 90, "subsampling": 0} if mime == "image/jpeg" else {}
    picture.save(file, mime.removeprefix("image/"), optimize=True, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
