"""Put on ``book/index.md`` what is computed: its demo and the pictures of its cards.

The line ``% demo`` becomes what front_demo.py made. A line ``% card: PAGE FIGURE LEFT TOP RIGHT BOTTOM WORDS`` becomes
a card with the page's title, the words, and a part of a figure from the page's executed notebook: the sides are shares
of the figure's width and height. ``% card: atlas WORDS`` has images of the atlas.
"""

import base64
import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import atlas_page
import numpy as np
import place_figures
from demos import on_page
from PIL import Image, ImageOps

DEMO = "% demo"
CARDS = re.compile(r"(?m)^% card: .+(?:\n% card: .+)*$")
SIZE = (360, 270)  # of a card's picture, in pixels
BOTH = "both-modes"  # the class of a picture that dark pages show, too
FOLDERS = ("notebooks", "book")  # where the pages are

Save = Callable[[str, str, str], str]  # picture's MIME type, base64, page → address


def place_front(page: Path, scene: Path, folder: Path, front: str, save: Save) -> None:
    """Replace the lines of ``page``.

    Parameters
    ----------
    scene
        What front_demo.py wrote.
    folder, front, save
        As `demos.place_demos` takes them.
    """
    text = page.read_text(encoding="utf-8")
    if text.count(f"\n{DEMO}\n") != 1:
        raise ValueError(f"{page} must have one line {DEMO!r}.")
    demo = on_page(json.loads(scene.read_text(encoding="utf-8")), "index-1", folder, save)
    demo += f'<script src="../_static/demos/{front}" defer></script>'
    text = text.replace(f"\n{DEMO}\n", f"\n{_raw(demo)}\n")
    text = CARDS.sub(lambda lines: _raw(_cards(lines[0].splitlines(), save)), text)
    page.write_text(text, encoding="utf-8")


def _raw(markup: str) -> str:
    return f"```{{raw}} html\n{markup}\n```"


def _cards(lines: list[str], save: Save) -> str:
    cards = [card(line.removeprefix("% card: "), save) for line in lines]
    return '<ul class="cards">\n' + "\n".join(cards) + "\n</ul>"


def card(line: str, save: Save) -> str:
    """The card of one line, as HTML."""
    name, rest = line.split(maxsplit=1)
    if name == "atlas":
        title, words = Path("book/atlas.md").read_text(encoding="utf-8").split("\n", 1)[0], rest
        address, alt, drawings = "atlas.html", "Twelve images made for channels of a network.", {BOTH: _mosaic()}
    else:
        number, *sides, words = rest.split(maxsplit=5)
        folder = next(place for place in FOLDERS if Path("_build", place, f"{name}.ipynb").is_file())
        notebook = json.loads(Path("_build", folder, f"{name}.ipynb").read_text(encoding="utf-8"))
        title = "".join(notebook["cells"][0]["source"]).split("\n", 1)[0]
        alt, figures = figure(notebook, number)
        address, alt = f"../{folder}/{name}.html", f"From figure {number}: {alt}"
        drawings = part(figures, [float(side) for side in sides])
    images = "".join(
        f'<img class="{mode}" src="{save("image/webp", _webp(drawing), name)}" alt="{html.escape(alt)}" '
        f'width="{SIZE[0]}" height="{SIZE[1]}" loading="lazy">'
        for mode, drawing in drawings.items()
    )
    say, title = html.escape, title.removeprefix("# ")
    return f'<li>{images}<p><a href="{address}">{say(title)}</a><span>{say(words)}</span></p></li>'


def figure(notebook: dict, number: str) -> tuple[str, dict[str, Image.Image]]:
    """A figure's alternative text, and from its class on the page (mode) to its drawing."""
    output = None
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and f"**Figure {number}.**" in "".join(cell["source"]) and output:
            found = place_figures.drawings(output["data"])
            alt = next(facts["alt"] for facts in output["metadata"].values() if "alt" in facts)
            return alt, {mode: place_figures.opened(data) for mode, (_, data) in found.items()}
        for one in cell.get("outputs", []):
            output = one if any(kind.startswith("image/") for kind in one.get("data", {})) else output
    raise LookupError(f"there is no figure {number}: no caption begins with it below a picture.")


def part(drawings: dict[str, Image.Image], sides: list[float]) -> dict[str, Image.Image]:
    """What lies between the sides (left, top, right, bottom, as shares), without its margins, in the card's shape.

    Margins are rows and columns at the edge that are mostly paper, titles among them; the first drawing is that on
    white paper.
    """
    left, top, right, bottom = sides
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(f"left, top, right and bottom must be shares of the figure, in this order, got {sides}.")
    first = next(iter(drawings.values()))
    box = [round(share * side) for share, side in zip(sides, first.size * 2)]
    for upright in (False, True, False):
        paper = (np.asarray(first.crop(tuple(box))) > 250).all(2).mean(0 if upright else 1)
        solid = np.flatnonzero(paper < 0.6)
        if len(solid) > len(paper) / 4:  # else it is a plot, of which all is kept
            start = box[not upright]
            box[not upright], box[2 + (not upright)] = int(start + solid[0]), int(start + solid[-1] + 1)
    crops = {mode: drawing.crop(tuple(box)) for mode, drawing in drawings.items()}
    return {mode: ImageOps.fit(crop, SIZE, Image.Resampling.LANCZOS) for mode, crop in crops.items()}


def _mosaic(count: int = 12, columns: int = 4) -> Image.Image:
    """Images of the atlas, the same number of steps apart."""
    pictures = [picture for _, picture in atlas_page.read()[1]]
    side = SIZE[0] // columns
    canvas = Image.new("RGB", SIZE)
    for number in range(count):
        tile = Image.open(io.BytesIO(pictures[number * len(pictures) // count]))
        canvas.paste(tile.convert("RGB").resize((side, side)), (number % columns * side, number // columns * side))
    return canvas


def _webp(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=65, method=4)
    return base64.b64encode(file.getvalue()).decode("ascii")
