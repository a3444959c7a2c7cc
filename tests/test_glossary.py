"""Each term of the glossary names the chapter where it comes first."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent


def entries(page: str) -> dict[str, tuple[list[str], str]]:
    """From each term to its names and its definition."""
    found = {}
    for block in page.split(":sorted:\n", 1)[1].split("\n:::", 1)[0].strip().split("\n\n"):
        lines = block.splitlines()
        names = [line for line in lines if not line.startswith(" ")]
        found[names[0]] = names, " ".join(line.strip() for line in lines[len(names) :])
    return found


GLOSSARY = entries((ROOT / "book/glossary.md").read_text(encoding="utf-8"))
CHAPTERS = {
    int(path.name[:2]): "\n\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}


def first(definition: str) -> int:
    """The chapter that a definition names at its end."""
    return int(re.search(r"Chapter (\d+)[^.]*\.$", definition)[1])


def linked(names: list[str]) -> list[int]:
    """The chapters that link to a term."""
    roles = [rf"\{{term\}}`(?:[^`<]*<)?{re.escape(name)}>?`" for name in names]
    return [number for number, text in CHAPTERS.items() if re.search("|".join(roles), text, re.IGNORECASE)]


@pytest.mark.parametrize("term", GLOSSARY)
def test_the_chapter_named_is_the_first(term):
    names, definition = GLOSSARY[term]
    chapter = first(definition)
    assert any(name.lower() in CHAPTERS[chapter].lower() for name in names), f"chapter {chapter} does not say {term}"
    assert all(number >= chapter for number in linked(names)), f"linked before, in chapter {min(linked(names))}"


PROSE = CHAPTERS | {
    path.name: "\n\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    for path in (ROOT / "book").glob("*.ipynb")
}
PROSE |= {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")}
INSTEAD = {  # words of our own, and what the field says
    r"facets?": "linear region",
    r"votes?": "class activation",
    r"beams?": "class activation map",
    r"attention": "affinity",
    r"widest shadow": "projection",
    r"purity": "precision@k",
    r"blocks\.\d|bn2": "stage 1 … stage 5, but for one table",
    r"chelsea|hopper|ihc": "what the photograph shows",
}


@pytest.mark.parametrize("ours", INSTEAD)
def test_where_the_field_has_a_word_it_is_used(ours):
    for place, text in PROSE.items():
        if place != "credits.md":  # the names of the photographs
            text = re.sub(r"(?s)```.*?```|`[^`]*`", "", text)  # code
            found = re.search(rf"(?<![\w.])({ours})(?!\w)", text)
            assert not found, f"{place}: {text[found.start() - 30 : found.end() + 30]!r}, say {INSTEAD[ours]!r}"


def test_terms_are_in_alphabetical_order():
    assert list(GLOSSARY) == sorted(GLOSSARY, key=str.lower)
