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


def test_terms_are_in_alphabetical_order():
    assert list(GLOSSARY) == sorted(GLOSSARY, key=str.lower)
