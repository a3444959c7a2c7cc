"""The decks of slides: what the metadata of a chapter makes of its page, and every slide in headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import nbformat
import pytest
import slides
from bs4 import BeautifulSoup
from offered import offer
from playwright.sync_api import Browser, Page
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in CHAPTERS]
SMALLEST = 24  # pixels at 1280 × 720


def _notebook(*cells: tuple[str, str, dict]) -> nbformat.NotebookNode:
    """From (kind, source, slideshow); the ids are c0, c1, …"""
    notebook = nbformat.v4.new_notebook()
    for number, (kind, source, marks) in enumerate(cells):
        cell = (nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell)(source)
        cell.id, cell.metadata = f"c{number}", nbformat.from_dict({"slideshow": marks} if marks else {})
        notebook.cells.append(cell)
    return notebook


def _page(*blocks: str) -> str:
    """A page with the blocks of cell 0, 1, …"""
    marked = [blocks[0], *(f"<!-- cell c{number} -->{block}" for number, block in enumerate(blocks[1:], start=1))]
    return f'<html><body><article class="bd-article"><section>{"".join(marked)}</section></article></body></html>'


def _lines(html: str) -> list[str]:
    return [line.get_text() for line in BeautifulSoup(html, "html.parser").select("pre .line")]


BEGIN = {"slide_type": "slide", "minutes": [3, 1]}


# ----------------------------------------------------------------------------- what is shown and what is said


def test_a_slide_shows_questions_claims_and_equations_and_the_notes_hold_all() -> None:
    text = "<p>Plain. Why so? It is <strong>so</strong>, see. (And more.) <em>Last.</em></p>"
    page = _page("<h1>1. Head</h1>" + text + '<div class="math">x</div>')
    (slide,) = slides.Deck(_notebook(("markdown", "", BEGIN)), "a", page).slides
    assert slide.title == "1. Head" and slide.minutes == (3, 1)
    assert slide.body == ["<p>Why so? It is <strong>so</strong>, see.</p>", '<div class="math">x</div>']
    assert "Plain." in slide.notes[1] and "Last." in slide.notes[1]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("<p><strong>A head.</strong> What it is about. The rest.</p>", "<strong>A head.</strong> What it is about."),
        (
            "<p><strong>A head.</strong> One. Two <strong>b</strong>.</p>",
            "<strong>A head.</strong> Two <strong>b</strong>.",
        ),
        ("<p>Before. <strong>A claim.</strong> After.</p>", "<strong>A claim.</strong>"),
        ("<p>Of 3.5 and e.g. this <strong>term</strong>.</p>", "Of 3.5 and e.g. this <strong>term</strong>."),
        ("<p>(In brackets.) Why? No.</p>", "Why?"),
        (
            "<p>a &lt; b <strong>holds</strong>. Why not b &amp; c?</p>",
            "a &lt; b <strong>holds</strong>. Why not b &amp; c?",
        ),
        ("<p>Nothing to see.</p>", ""),
    ],
)
def test_which_sentences_are_shown(paragraph: str, expected: str) -> None:
    assert " ".join(slides.shown(BeautifulSoup(paragraph, "html.parser").p)) == expected


def test_fragments_notes_and_skipped_cells() -> None:
    kinds = [BEGIN, {"slide_type": "fragment"}, {"slide_type": "notes"}, {"slide_type": "skip"}, {"slide_type": "-"}]
    page = _page("<h2>A</h2>", *(f"<p>Is {word} so?</p>" for word in ("one", "two", "three", "four")))
    (slide,) = slides.Deck(_notebook(*(("markdown", "", marks) for marks in kinds)), "a", page).slides
    assert slide.body == ['<div class="fragment"><p>Is one so?</p></div>', "<p>Is four so?</p>"]
    assert "".join(slide.notes) == "<p>Is one so?</p><p>Is two so?</p><p>Is four so?</p>"


@pytest.mark.parametrize(("prose", "expected"), [("all", "<p>A. Why?</p>"), ("none", ""), (None, "<p>Why?</p>")])
def test_how_much_prose(prose: str | None, expected: str) -> None:
    """The equation is shown in any case, and all is said."""
    page = _page('<h1>1. A</h1><p>A. Why?</p><div class="math">x</div>')
    marks = BEGIN | ({"prose": prose} if prose else {})
    (slide,) = slides.Deck(_notebook(("markdown", "", marks)), "a", page).slides
    assert "".join(slide.body) == f'{expected}<div class="math">x</div>'
    assert "<p>A. Why?</p>" in slide.notes


def test_the_heading_of_a_cell_that_is_not_shown_is_the_title_of_what_follows() -> None:
    page = _page("<h1>1. A</h1>", "<section><h2>B</h2><p>Text.</p></section>", "<p>Why?</p>")
    notebook = _notebook(("markdown", "", BEGIN), ("markdown", "", {}), ("markdown", "", BEGIN))
    assert [slide.title for slide in slides.Deck(notebook, "a", page).slides] == ["1. A", "B"]


def test_code_is_shown_by_name_and_output_else() -> None:
    source = "import this\n!ls\n\ndef first():\n    return 1\n\n\ndef second():\n    return 2"
    printed = "<pre>  12\n  34\n</pre>"
    output = f'<div class="cell"><div class="cell_output"><div class="output stream">{printed}</div></div></div>'
    shown = _notebook(("markdown", "", BEGIN), ("code", source, {"slide_type": "-", "code": "second"}))
    (slide,) = slides.Deck(shown, "a", _page("<h1>A</h1>", output)).slides
    assert _lines(slide.body[0]) == ["def second():", "    return 2"]
    printed = _notebook(("markdown", "", BEGIN), ("code", source, {"slide_type": "-"}))
    (slide,) = slides.Deck(printed, "a", _page("<h1>A</h1>", output)).slides
    assert slide.body[0].startswith("<pre") and _lines(slide.body[0]) == ["12", "34"]
    missing = _notebook(("markdown", "", BEGIN), ("code", source, {"slide_type": "-", "code": "third"}))
    with pytest.raises(ValueError, match="defines no 'third'"):
        slides.Deck(missing, "a", _page("<h1>A</h1>", output))


@pytest.mark.parametrize(
    "marks",
    [
        {"slide_type": "page"},
        {"slide_type": "slide"},
        {"slide_type": "-", "minutes": [1, 1]},
        {"slide_type": "-", "prose": "some"},
    ],
)
def test_wrong_marks_are_refused(marks: dict) -> None:
    with pytest.raises(ValueError, match="Cell c0"):
        slides.marked(_notebook(("markdown", "", marks)))


def test_links_lead_where_they_led() -> None:
    links = '<a href="05_b.html#x">a</a><a href="#y">b</a><a href="../book/c.html">c</a><a href="https://d.org/">d</a>'
    (slide,) = slides.Deck(_notebook(("markdown", "", BEGIN)), "04_a", _page(f"<h1>A</h1><p>Why {links}?</p>")).slides
    assert re.findall('href="([^"]+)"', slide.body[0]) == [
        "../notebooks/05_b.html#x",
        "../notebooks/04_a.html#y",
        "../book/c.html",
        "https://d.org/",
    ]


def test_what_is_offered_is_shown_when_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    page = tmp_path / "book/index.html"
    page.write_text('<a class="launch" hidden data-offered="../a.pdf">A</a><a hidden="" data-offered="../b.pdf">B</a>')
    (tmp_path / "b.pdf").touch()
    offer(tmp_path)
    expected = '<a class="launch" hidden data-offered="../a.pdf">A</a><a href="../b.pdf">B</a>'
    assert page.read_text() == expected


# ----------------------------------------------------------------------------- the marks of the chapters


@pytest.mark.parametrize("path", CHAPTERS, ids=NAMES)
def test_every_chapter_is_marked_for_both_lectures(path: Path) -> None:
    """Ten to fifteen slides, whose minutes sum to those of the lecture; the order of the talk is the chapter's."""
    notebook = nbformat.read(path, as_version=4)
    marks = slides.marked(notebook)
    assert all("slideshow" in cell.metadata for cell in notebook.cells), "RISE would show what is not marked"
    minutes = [one["minutes"] for one in marks.values() if "minutes" in one]
    assert 10 <= len(minutes) <= 15
    assert [sum(column) for column in zip(*minutes)] == list(slides.LENGTHS)
    assert all(long >= short and long > 0 for long, short in minutes)
    assert next(iter(marks)) == notebook.cells[0].id
    cells = {cell.id: cell for cell in notebook.cells}
    assert not any("solution" in cells[name].metadata.get("tags", []) for name in marks), "a deck gives no answers"
    sources = [cells[name].source for name in marks]
    found = [
        next(number for number, source in enumerate(sources) if sign in source)
        for sign in ("demos.", "## When it misleads", "{exercise-start}", "## Summary", "## Further reading")
    ]
    assert found == sorted(found)
    assert any("Is it right?" in cell.source for cell in notebook.cells) and any(
        "code" in one for one in marks.values()
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_chapter_leads_to_its_deck_and_the_deck_back(name: str) -> None:
    chapter = BeautifulSoup((SITE / f"notebooks/{name}.html").read_text("utf-8"), "html.parser")
    assert chapter.find("a", class_="launch", string="Slides")["href"] == f"../slides/{name}.html"
    deck = BeautifulSoup((SITE / f"slides/{name}.html").read_text("utf-8"), "html.parser")
    assert deck.select_one("nav.about a")["href"] == f"../notebooks/{name}.html"


# ----------------------------------------------------------------------------- every slide


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_function("document.documentElement.dataset.deck === 'ready'")
    page.wait_for_function("document.documentElement.dataset.math === 'ready'")


@pytest.fixture(params=[(1280, 720, "light"), (1920, 1080, "dark")], ids=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    width, height, mode = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=mode)
    yield context.new_page()
    context.close()


MEASURE = """() => {
    const slide = document.querySelector('.slides > section.present'), box = slide.getBoundingClientRect();
    const scale = box.height / 720, outside = [], small = [];
    for (const element of slide.querySelectorAll('*')) {
        if (element.closest('aside.notes, mjx-assistive-mml')) continue;
        const {left, top, right, bottom, width, height} = element.getBoundingClientRect();
        if (!width || !height) continue;
        if (element.closest('.demo-choices')) continue; // their radio buttons lie over the labels
        const margin = 15 * scale;
        if (left < box.left - 1 || right > box.right + 1 || top < box.top + margin || bottom > box.bottom - margin)
            outside.push(element.outerHTML.slice(0, 80));
    }
    const walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const parent = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || parent.closest('aside.notes, mjx-container')) continue;
        if (!parent.getBoundingClientRect().width) continue;
        if (parseFloat(getComputedStyle(parent).fontSize) < SMALLEST) small.push(walk.currentNode.data);
    }
    const figures = [...slide.querySelectorAll('.stand')].map(stand => stand.getBoundingClientRect().height / scale);
    const pictures = [...slide.querySelectorAll('img')].filter(image => image.getBoundingClientRect().width);
    const broken = pictures.filter(image => !image.complete || !image.naturalWidth).map(image => image.src);
    const unnamed = pictures.filter(image => {
        const said = image.closest('[role=img]')?.getAttribute('aria-label') ?? image.alt;
        return said.split(' ').length < 2;
    }).map(image => image.src);
    return {outside, small, broken, unnamed, flat: figures.filter(height => height < 200)};
}""".replace("SMALLEST", str(SMALLEST))


@pytest.mark.parametrize("name", NAMES)
def test_no_slide_overflows_or_whispers(page: Page, name: str) -> None:
    """From a local file: everything is inside, no text is smaller than 24 pixels, every picture is there and named."""
    faults = []
    page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or faults.append(request.url)
    )
    _open(page, (SITE / f"slides/{name}.html").as_uri())
    count = page.locator(".slides > section").count()
    assert count >= 10
    live = 0
    for number in range(count):
        page.evaluate("number => deck.slide(number, 0, 99)", number)  # with all its fragments
        if page.locator("section.present .demo-host").count():
            page.wait_for_selector("section.present .demo-host[data-ready]")
            live += 1
        page.wait_for_function("[...document.querySelectorAll('section.present img')].every(image => image.complete)")
        found = page.evaluate(MEASURE)
        assert found == {key: [] for key in found}, f"slide {number + 1}"
    assert live == 1
    assert faults == []


def test_an_overflow_and_small_text_are_noticed(page: Page) -> None:
    _open(page, (SITE / f"slides/{NAMES[0]}.html").as_uri())
    page.evaluate(
        """document.querySelector('section.present').insertAdjacentHTML('beforeend',
            '<p style="font-size: 20px">small</p><div style="flex: none; height: 700px; width: 9px">tall</div>')"""
    )
    found = page.evaluate(MEASURE)
    assert found["small"] == ["small"] and any("height: 700px" in html for html in found["outside"])


def test_a_demo_answers_on_its_slide_and_its_keys_turn_no_page(page: Page) -> None:
    _open(page, (SITE / "slides/05_occlusion.html").as_uri())
    number = page.evaluate(
        "[...document.querySelectorAll('.slides > section')].findIndex(slide => slide.querySelector('.demo-host'))"
    )
    page.evaluate("number => deck.slide(number)", number)
    page.wait_for_selector(".demo-host[data-ready]")
    says = page.locator("section.present .demo-says")
    before = says.inner_text()
    page.locator("section.present .demo-pad").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("deck.getIndices().h") == number
    page.wait_for_function("before => document.querySelector('.demo-says').innerText !== before", arg=before)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("deck.getIndices().h") == number + 1


def test_a_phone_shows_slides_too(browser: Browser) -> None:
    """reveal.js would turn them into a page to scroll, without their figures."""
    page = browser.new_page(viewport={"width": 390, "height": 844})
    _open(page, (SITE / "slides/06_saliency.html").as_uri())
    assert page.locator(".slides > section.present").bounding_box()["width"] <= 390
    assert page.locator("section.present .stand img:visible").first.bounding_box()["height"] > 50
    page.close()


def test_the_short_lecture_leaves_out_and_keeps_time(page: Page) -> None:
    address = (SITE / "slides/06_saliency.html").as_uri()
    seen = {}
    for query, minutes in (("", 45), ("?minutes=20", 20)):
        _open(page, address + query)
        timings = page.locator(".slides > section").evaluate_all("all => all.map(one => Number(one.dataset.timing))")
        assert sum(timings) == 60 * minutes and 0 not in timings
        seen[minutes] = len(timings)
    assert seen[20] < seen[45]


def test_light_and_dark_by_key_and_by_address(page: Page) -> None:
    address = (SITE / "slides/06_saliency.html").as_uri()
    _open(page, f"{address}?theme=dark")
    theme, paper = "document.documentElement.dataset.theme", "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    assert page.evaluate(theme) == "dark"
    assert page.locator("section.present img:visible").first.get_attribute("class") == "only-dark"
    page.keyboard.press("d")
    assert page.evaluate(theme) == "light" and page.evaluate(paper) != dark
    assert page.locator("section.present img:visible").first.get_attribute("class") == "only-light"


def test_the_speaker_has_notes(page: Page) -> None:
    _open(page, (SITE / "slides/06_saliency.html").as_uri())
    with page.context.expect_page() as opened:
        page.keyboard.press("s")
    notes = opened.value.locator(".speaker-controls-notes .value")
    notes.get_by_text("3 min, 2 in the short lecture.").wait_for()


def test_it_prints_a_page_a_slide(browser: Browser) -> None:
    page = browser.new_page()
    _open(page, (SITE / "slides/06_saliency.html").as_uri() + "?print-pdf")
    count = page.locator(".slides section").count()
    boxes = page.locator(".slides section").evaluate_all("all => all.map(one => one.scrollHeight <= one.clientHeight)")
    reader = PdfReader(BytesIO(page.pdf(prefer_css_page_size=True, print_background=True)))
    assert len(reader.pages) == count >= 10 and all(boxes)
    assert all(len(sheet.extract_text()) > 10 for sheet in reader.pages)
    page.close()
