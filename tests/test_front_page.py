"""tools/site/front_page.py: the lines of book/index.md become its demo and its cards."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import front_page as front
import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
INDEX = (ROOT / "book/index.md").read_text("utf-8")
LINES = re.findall(r"(?m)^% card: (.+)$", INDEX)


def figure_of(colours: list[str], size: tuple[int, int] = (90, 30)) -> str:
    """A picture of upright stripes of equal width, in base64."""
    stripe = size[0] // len(colours)
    picture = Image.new("RGB", size)
    for number, colour in enumerate(colours):
        picture.paste(Image.new("RGB", (stripe, size[1]), colour), (number * stripe, 0))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def notebook(*numbers: str, dark: bool = False) -> nbformat.NotebookNode:
    """A chapter with one figure for each number."""
    cells = [nbformat.v4.new_markdown_cell("# 5. What if we <cover> it?\n\nText.")]
    for number in numbers:
        data = {"image/png": figure_of(["red", "blue", "white"]), "text/plain": "x"}
        if dark:
            data[front.place_figures.DARK] = {"mime": "image/png", "data": figure_of(["red", "green", "black"])}
        facts = {"image/png": {"alt": f'The "stripes" of {number}.', "width": 90, "height": 30}}
        output = nbformat.v4.new_output("display_data", data=data, metadata=facts)
        cells += [nbformat.v4.new_code_cell("draw()", outputs=[output])]
        cells += [nbformat.v4.new_markdown_cell(f"**Figure {number}.** Stripes.")]
    return nbformat.v4.new_notebook(cells=cells)


class Saved(dict):
    def save(self, mime: str, data: str, page: str) -> str:
        assert mime == "image/webp"
        self[f"{page}-{len(self)}.webp"] = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        return [*self][-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one executed chapter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "_build/notebooks").mkdir(parents=True)
    nbformat.write(notebook("5.1", "5.10", dark=True), tmp_path / "_build/notebooks/05_x.ipynb")
    return tmp_path


def test_a_card_has_title_words_link_and_the_part_of_the_figure(here: Path) -> None:
    saved = Saved()
    card = front.card("05_x 5.1 0.34 0.1 0.66 0.9 Cover & see", saved.save)
    assert '<a href="../notebooks/05_x.html">5. What if we &lt;cover&gt; it?</a>' in card and "Cover &amp; see" in card
    assert card.count('alt="From figure 5.1: The &quot;stripes&quot; of 5.1."') == 2
    assert re.findall(r'class="([^"]+)" src="([^"]+)"', card) == [
        ("only-light", "05_x-0.webp"),
        ("only-dark", "05_x-1.webp"),
    ]
    for picture, channel in zip(saved.values(), (2, 1)):
        assert picture.size == front.SIZE
        middle = np.asarray(picture)[135, 180].astype(int)
        assert middle.argmax() == channel and middle[(channel + 1) % 3] < 20


def test_without_a_dark_drawing_one_picture_serves_both() -> None:
    alt, drawings = front.figure(notebook("5.1", "5.2"), "5.2")
    assert [*drawings] == ["both-modes"] and alt == 'The "stripes" of 5.2.'


@pytest.mark.parametrize("number", ["5.2", "5", "5.100"])
def test_a_figure_that_is_not_there_is_named(number: str) -> None:
    with pytest.raises(LookupError, match=f"no figure {number}"):
        front.figure(notebook("5.1", "5.10"), number)


@pytest.mark.parametrize("sides", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1, 1.1)])
def test_sides_that_are_no_box_are_refused(sides: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="in this order"):
        front.part({"both-modes": Image.new("RGB", (90, 30))}, list(sides))


def test_margins_and_titles_are_cut_off_in_both_drawings() -> None:
    light, dark = Image.new("RGB", (300, 200), "white"), Image.new("RGB", (300, 200), "black")
    for drawing, colour in ((light, "red"), (dark, "green")):
        drawing.paste(Image.new("RGB", (120, 90), colour), (100, 70))
        drawing.paste(Image.new("RGB", (40, 10), colour), (140, 50))  # a title
    found = front.part({"only-light": light, "only-dark": dark}, [0.2, 0.1, 0.9, 1])
    assert np.asarray(found["only-light"]).tolist() == np.full((270, 360, 3), [255, 0, 0]).tolist()
    assert np.asarray(found["only-dark"])[..., 1].min() > 100


def test_a_part_that_is_mostly_paper_stays_whole() -> None:
    plot = Image.new("RGB", front.SIZE, "white")
    plot.paste(Image.new("RGB", (20, 20), "red"), (10, 10))
    assert front.part({"both-modes": plot}, [0, 0, 1, 1])["both-modes"].tobytes() == plot.tobytes()


def scene() -> dict:
    markup = '<figure class="demo"><img src="picture:0" alt="A red one."></figure>'
    return {"html": markup, "text": "Demo: x.", "pictures": [figure_of(["red"])], "frames": []}


def test_the_page_gets_its_demo_and_its_cards(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_webp", lambda picture: figure_of(["red"]))
    page, saved = here / "index.md", Saved()
    page.write_text(
        "# T\n\n% demo\n\nText.\n\n% card: 05_x 5.1 0 0 1 1 A\n% card: 05_x 5.10 0 0 1 1 B\n\nEnd.\n", "utf-8"
    )
    (here / "front.json").write_text(json.dumps(scene()), "utf-8")
    front.place_front(page, here / "front.json", here, "demos.js?1", saved.save)
    text = page.read_text("utf-8")
    assert "%" not in text and text.count("```{raw} html") == text.count("\n```\n") == 2
    assert text.count("<ul") == 1 and text.count("<li>") == 2
    assert "picture:" not in text and 'src="index-0.webp"' in text and '"../_static/demos/demos.js?1"' in text
    assert re.search(r'data-demo="index-1" data-scene="../_static/demos/index-1.js\?\w{10}"', text)
    assert (here / "index-1.js").read_text("utf-8").startswith('bookDemo("index-1",')
    assert text.startswith("# T\n\n```{raw}") and text.endswith("```\n\nEnd.\n")


@pytest.mark.parametrize("text", ["# T\n", "# T\n\n% demo\n\n% demo\n"])
def test_a_page_without_a_place_for_the_demo_is_refused(here: Path, text: str) -> None:
    (here / "index.md").write_text(text, "utf-8")
    with pytest.raises(ValueError, match="one line '% demo'"):
        front.place_front(here / "index.md", here / "front.json", here, "", Saved().save)


def test_every_chapter_has_a_card_in_order() -> None:
    names = [line.split()[0] for line in LINES]
    assert names == [*sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb")), "scoreboard", "atlas"]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.split()[0])
def test_a_card_shows_something(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the committed outputs: where a figure has changed, its part is not mostly paper."""
    monkeypatch.chdir(tmp_path)
    for folder in front.FOLDERS:
        (tmp_path / "_build" / folder).mkdir(parents=True)
        for path in (ROOT / folder).glob(f"{line.split()[0]}.ipynb"):
            shutil.copy(path, tmp_path / "_build" / folder)
    (tmp_path / "book").symlink_to(ROOT / "book")
    saved = Saved()
    card = front.card(line, saved.save)
    assert len(saved) == 1 and "both-modes" in card
    pixels = np.asarray(*saved.values()).astype(int)
    assert pixels.std() > 15
    if not line.startswith("scoreboard"):  # a plot is mostly paper
        paper = (pixels > 250).all(2)
        assert paper.mean() < 0.35
        assert max(paper[:, [0, -1]].mean(0).max(), paper[[0, -1]].mean(1).max()) < 0.8, "more than the panel is shown"
