"""The book as one PDF, printed from the built site."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pdf
import pytest
from bs4 import BeautifulSoup
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
MARGIN = 20 / 25.4 * 72  # points


@pytest.fixture(scope="module")
def path() -> Path:
    path = SITE / "visualizing-cnns.pdf"
    assert path.exists(), "run `make pdf` first"
    return path


@pytest.fixture(scope="module")
def reader(path: Path) -> PdfReader:
    return PdfReader(path)


@pytest.fixture(scope="module")
def texts(path: Path) -> list[str]:
    """The text of each page, by pdftotext."""
    if not shutil.which("pdftotext"):
        pytest.skip("no pdftotext on this machine: install the package `poppler-utils`")
    whole = subprocess.run(["pdftotext", path, "-"], check=True, capture_output=True, text=True).stdout
    return whole.split("\f")[:-1]


def titles() -> list[str]:
    """The headings of the pages that are in the book."""
    return [_article(page).find("h1").get_text().removesuffix("#").strip() for page in pdf.pages()]


def _article(page: str) -> BeautifulSoup:
    text = (SITE / f"{page}.html").read_text(encoding="utf-8")
    return BeautifulSoup(text, "html.parser").find("article", class_="bd-article")


def plain(text: str) -> str:
    """Without what a line's end adds or takes away."""
    return re.sub(r"\W", "", text)


def test_every_chapter_is_there_in_order_and_begins_where_the_contents_say(reader: PdfReader, texts: list[str]) -> None:
    expected = [*titles(), "Solutions"]
    outline = [entry for entry in reader.outline if not isinstance(entry, list)]
    found = [(plain(entry.title), reader.get_destination_page_number(entry)) for entry in outline][2:]
    assert [title for title, _ in found] == [plain(title) for title in expected]
    contents = texts[1]
    for title, (_, number) in zip(expected, found):
        assert plain(texts[number]).removeprefix(plain(title)).startswith(plain(title)), title  # running head, heading
        assert plain(f"{title} {number + 1}") in plain(contents), title
        assert texts[number].split()[-1] == str(number + 1)


def test_the_outline_has_every_section(reader: PdfReader) -> None:
    def flat(entries: list) -> list[str]:
        return [
            title for entry in entries for title in (flat(entry) if isinstance(entry, list) else [plain(entry.title)])
        ]

    found = flat(reader.outline)
    for page in pdf.pages():
        for heading in _article(page).find_all(["h2", "h3"]):
            assert plain(heading.get_text().removesuffix("#")) in found, (page, heading.get_text())


def test_no_figure_and_no_demo_is_missing(reader: PdfReader, texts: list[str]) -> None:
    whole = "\n".join(texts)
    figures = demos = 0
    for page in pdf.pages():
        article = _article(page)
        for caption in article.select(".figure-caption"):
            figures += 1
            assert plain(caption.get_text()[:60]) in plain(whole)
        demos += len(article.select(".demo-host"))
    assert figures > 70 and demos >= 10
    assert len(re.findall(r"Demo\. ", whole)) >= demos
    drawn = set()
    for page in reader.pages:
        for name, part in page["/Resources"].get("/XObject", {}).items():
            if part.get_object()["/Subtype"] == "/Image":
                drawn.add((part.indirect_reference or part).idnum if part.indirect_reference else name)
    assert len(drawn) > figures


def test_no_page_is_empty_and_no_text_leaves_its_margins(path: Path, reader: PdfReader, texts: list[str]) -> None:
    assert [number for number, text in enumerate(texts, start=1) if len(plain(text)) < 30] == []
    boxes = subprocess.run(["pdftotext", "-bbox", path, "-"], check=True, capture_output=True, text=True).stdout
    width = float(reader.pages[0].mediabox.width)
    outside, number = [], 0
    for line in boxes.splitlines():
        number += line.lstrip().startswith("<page ")
        # Parts of large brackets, which MathJax's font keeps in the private area, have boxes that say nothing.
        word = re.search(
            r'<word xMin="([\d.-]+)" yMin="[\d.-]+" xMax="([\d.]+)" yMax="[\d.]+">([^\ue000-\uf8ff]*)<', line
        )
        if word and not MARGIN - 3 <= float(word[1]) <= float(word[2]) <= width - MARGIN + 3:
            outside.append((number, word[3]))
    assert outside == []


def test_it_is_tagged_small_and_brings_its_fonts(path: Path, reader: PdfReader) -> None:
    assert path.stat().st_size <= 25e6
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"] and "/StructTreeRoot" in root and root["/Lang"] == "en"
    fonts = [
        font.get_object() for page in reader.pages for font in page["/Resources"].get("/Font", {}).get_object().values()
    ]
    named = [font for font in fonts if font["/Subtype"] != "/Type3"]  # which are drawings in the file itself
    assert named
    for font in named:
        inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
        assert any(key.startswith("/FontFile") for key in inner["/FontDescriptor"].get_object()), font["/BaseFont"]


def test_solutions_are_at_the_end_and_nowhere_else(reader: PdfReader, texts: list[str]) -> None:
    begin = next(
        reader.get_destination_page_number(entry)
        for entry in reader.outline
        if not isinstance(entry, list) and entry.title == "Solutions"
    )
    before, after = "\n".join(texts[2:begin]), "\n".join(texts[begin:])
    assert "Solution to" not in before
    assert len(re.findall(r"Solution to", after)) >= 30


def test_links_that_lead_out_are_listed(texts: list[str]) -> None:
    whole = plain("\n".join(texts))
    for page in ("book/credits", "notebooks/06_saliency"):
        for link in _article(page).select("a[href^=http]"):
            assert plain(link["href"]) in whole, link["href"]


def test_the_front_page_links_to_it(path: Path) -> None:
    page = BeautifulSoup((SITE / "book/index.html").read_text("utf-8"), "html.parser")
    link = page.find("a", string="The book as one PDF")
    assert "hidden" not in link.attrs
    assert (SITE / "book" / link["href"]).resolve() == path
