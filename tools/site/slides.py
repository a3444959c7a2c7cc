"""Make a deck of slides of each chapter: ``slides.py``, from the built site into ``_build/html/slides``.

Which cells are on a slide says their metadata, ``slideshow``, as nbconvert and RISE know it: ``slide_type`` is slide
(begins one), - (belongs to it), fragment (so, but shown later), notes (said, not shown), skip. Of our own are three
keys: ``minutes`` at the beginning of a slide, for a lecture of 45 minutes and for one of 20, whose deck leaves out what
has 0; ``code``, the names of functions that are shown instead of a cell's output; ``prose``, all or none, where not
the usual part of a cell's prose is shown.

What is on the page is on the slide, figures, demos and all, but for prose. Of that a slide shows questions, sentences
with a term or claim in bold, displayed equations, lists and tables, and the speaker's notes hold all of it. So what is
changed in the notebook changes here.
"""

from __future__ import annotations

import ast
import copy
import html
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import nbformat
from bs4 import BeautifulSoup, Comment, NavigableString, Tag
from offered import offer
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

SITE = Path("_build/html")
REVEAL = Path("node_modules/reveal.js/dist")
HERE = Path(__file__).parent
TYPES = ("slide", "fragment", "-", "notes", "skip")
LENGTHS = (45, 20)  # minutes
SENTENCE = re.compile(r"(?:(?<=[.?!])|(?<=[.?!]\)))\s+(?=[^\sa-z])")


@dataclass
class Slide:
    """One slide in the making: HTML."""

    title: str
    minutes: tuple[int, int]
    body: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def marked(notebook: nbformat.NotebookNode) -> dict[str, dict]:
    """From the id of each cell that is part of the deck to its ``slideshow``."""
    found = {}
    for cell in notebook.cells:
        marks = cell.metadata.get("slideshow", {"slide_type": "skip"})
        if marks["slide_type"] not in TYPES:
            raise ValueError(f"Cell {cell.id}: slide_type must be one of {', '.join(TYPES)}, got {marks!r}.")
        if ("minutes" in marks) != (marks["slide_type"] == "slide"):
            raise ValueError(f"Cell {cell.id}: `minutes` stand where a slide begins, and nowhere else.")
        if marks.get("prose") not in (None, "all", "none"):
            raise ValueError(f"Cell {cell.id}: `prose` is all or none, or is not there; got {marks['prose']!r}.")
        if marks["slide_type"] != "skip":
            found[cell.id] = marks
    return found


def by_cell(article: Tag, first: str) -> dict[str, list[Tag]]:
    """From a cell's id to its blocks on the page, by the comments that build_site.py left; ``first`` has none."""
    found: dict[str, list[Tag]] = {first: []}
    blocks = found[first]
    for node in _flat(article):
        if isinstance(node, Tag):
            blocks.append(node)
        elif mark := re.fullmatch(r"\s*cell (\S+)\s*", node):
            blocks = found.setdefault(mark[1], [])
    return found


def _flat(parent: Tag) -> Iterator[Tag | Comment]:
    """Blocks and comments in their order, with sections opened."""
    for child in parent.children:
        if isinstance(child, Tag) and child.name == "section":
            yield from _flat(child)
        elif isinstance(child, (Tag, Comment)):
            yield child


def sentences(paragraph: Tag) -> list[str]:
    """The HTML of each sentence; what stands in an inline element is not cut."""
    found = [""]
    for child in paragraph.children:
        if not isinstance(child, NavigableString):
            found[-1] += str(child)
            if child.name == "strong" and re.search(r"[.?!]$", child.get_text()):
                found.append("")  # a run-in head
            continue
        first, *rest = SENTENCE.split(str(child))
        found[-1] += html.escape(first, quote=False)
        found += [html.escape(text, quote=False) for text in rest]
        if re.search(r"[.?!]\)?\s+$", str(child)):
            found.append("")
    return [text.strip() for text in found if text.strip()]


def shown(block: Tag) -> list[str]:
    """The sentences of a paragraph or a list's item that an audience has to see.

    Those with something in bold, and questions; a run-in head stands with the sentence after it, if nothing else of the
    paragraph is bold.
    """
    every = sentences(block)
    found = [text for text in every if "<strong>" in text or text.endswith("?")]
    if every and re.fullmatch(r"<strong>.*</strong>", every[0]) and "".join(found).count("<strong>") == 1:
        found = every[:2] + [text for text in found if text not in every[:2]]
    return found


class Deck:
    """The slides of a chapter."""

    def __init__(self, notebook: nbformat.NotebookNode, name: str, page: str) -> None:
        self.cells = {cell.id: cell for cell in notebook.cells}
        self.marks = marked(notebook)
        article = BeautifulSoup(page, "html.parser").find("article", class_="bd-article")
        for unwanted in article.select(".headerlink, .launches, button, noscript, script"):
            unwanted.decompose()
        for tag in article.find_all(True):
            if tag.get("id") and not tag.find_parent(class_="demo-host"):
                del tag["id"]
        for link in article.find_all("a", href=True):
            if not urlsplit(link["href"]).scheme:  # as seen from slides/ instead of notebooks/
                link["href"] = "../" + urljoin(f"/notebooks/{name}.html", link["href"]).removeprefix("/")
        self.title = ""
        self.slides: list[Slide] = []
        blocks = by_cell(article, notebook.cells[0].id)
        for cell in self.cells:  # the headings of cells that are not in the deck count, too
            self._cell(cell, blocks.get(cell, []))

    def _cell(self, name: str, blocks: list[Tag]) -> None:
        for block in blocks:
            if block.name in ("h1", "h2", "h3"):
                self.title = block.decode_contents().strip()
        marks = self.marks.get(name)
        if marks is None:
            return
        if marks["slide_type"] == "slide":
            self.slides.append(Slide(self.title, tuple(marks["minutes"])))
        slide = self.slides[-1]
        if self.cells[name].cell_type == "code":
            parts = [_definitions(self.cells[name], marks["code"])] if "code" in marks else _outputs(blocks)
        else:
            parts = []
            for block in blocks:
                part, note = _prose(block, "notes" if marks["slide_type"] == "notes" else marks.get("prose", "key"))
                parts.append(part)
                slide.notes.append(note)
        parts = [part for part in parts if part]
        if marks["slide_type"] == "fragment":
            parts = [f'<div class="fragment">{"".join(parts)}</div>']
        slide.body += parts

    def __str__(self) -> str:
        return "\n".join(map(_section, self.slides))


def _definitions(cell: nbformat.NotebookNode, names: str) -> str:
    """Functions and classes of a cell, in colour."""
    lines, found = cell.source.splitlines(), []
    tree = ast.parse("\n".join("" if line.startswith(("!", "%")) else line for line in lines))
    known = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for name in names.split():
        if name not in known:
            raise ValueError(f"Cell {cell.id} defines no {name!r}; its slideshow asks for it.")
        found.append("\n".join(lines[known[name].lineno - 1 : known[name].end_lineno]))
    coloured = highlight("\n".join(found), PythonLexer(), HtmlFormatter(nowrap=True)).rstrip("\n")
    return f'<div class="code"><div class="highlight"><pre>{_lines(coloured)}</pre></div></div>'


def _lines(text: str) -> str:
    """Lines as blocks, so that what wraps is indented more than its line's beginning."""
    found = []
    for line in text.split("\n"):
        bare = BeautifulSoup(line, "html.parser").get_text()
        found.append(
            f'<span class="line" style="--indent: {len(bare) - len(bare.lstrip()) + 4}ch">{line or " "}</span>'
        )
    return "".join(found)


def _outputs(blocks: list[Tag]) -> list[str]:
    """What a cell has printed and drawn."""
    found = []
    for block in blocks:
        for output in block.select(".cell_output > .output"):
            if figure := output.select_one("figure.book-figure"):
                found.append(_figure(figure))
            elif host := output.select_one(".demo-host"):
                picture = host.find("img")
                ratio = int(picture["width"]) / int(picture["height"])
                style = "live strip" if ratio > 3 else "live"
                found.append(f'<div class="{style}" style="--ratio: {ratio:.3f}" data-prevent-swipe>{host}</div>')
            elif table := output.select_one("table"):
                found.append(f'<div class="numbers">{table}</div>')
            else:
                text = textwrap.dedent(output.get_text().strip("\n"))
                wide = max(map(len, text.splitlines())) > 68
                found.append(f'<pre class="{"wide" if wide else ""}">{_lines(html.escape(text))}</pre>')
    return found


def _figure(figure: Tag) -> str:
    """A figure that takes what room a slide has left, its panels side by side."""
    figure = copy.copy(figure)
    images = figure.find_all("img")
    mode = images[0]["class"]
    widths = [int(image["width"]) for image in images if image["class"] == mode]
    figure["style"] = f"--ratio: {sum(widths) / int(images[0]['height']):.4f}"
    for image in images:
        image["style"] = f"flex: {image['width']} 1 0"
        image.attrs.pop("loading", None)  # the slides are all there, shown or not
    return f'<div class="stand">{figure}</div>'


def _prose(block: Tag, part: str) -> tuple[str, str]:
    """What a block of text has for the slide, and what for the notes; ``part`` is key, all, none or notes."""
    classes = block.get("class") or []
    if block.name in ("h1", "h2", "h3") or "solution" in classes or not block.get_text().strip():
        return "", ""
    if block.name == "div" and "math" in classes:
        return ("" if part == "notes" else str(block)), f"<p>{_tex(block)}</p>"
    if part == "notes":
        return "", str(block)
    if "figure-caption" in classes:
        return f'<p class="caption">{block.decode_contents()}</p>', str(block)
    if block.name == "p":
        found = {"all": [block.decode_contents()], "none": []}[part] if part != "key" else shown(block)
        return (f"<p>{' '.join(found)}</p>" if found else ""), str(block)
    if block.name in ("ul", "ol"):
        items = [" ".join(_item(item)) for item in block.find_all("li", recursive=False)]
        text = "".join(f"<li>{item}</li>" for item in items)
        return (f"<{block.name}>{text}</{block.name}>" if part != "none" else ""), str(block)
    if "exercise" in classes:
        title = block.find(class_="admonition-title").get_text().strip()
        text = "".join(map(str, block.select_one("section").children))
        return f'<div class="exercise"><p class="title">{title}</p>{text}</div>', ""
    return str(block), ""  # a table


def _item(item: Tag) -> list[str]:
    """Of an item that begins with a run-in head what is to be seen; of others all."""
    text = item.find("p") or item
    if re.fullmatch(r"<strong>.*[.:]</strong>", sentences(text)[0]):
        return shown(text)
    return [text.decode_contents().strip()]


def _tex(block: Tag) -> str:
    """A formula as it is typed, for the notes, where none is set."""
    return html.escape(re.sub(r"^\\\[|\\\]$", "", block.get_text().strip()))


def _section(slide: Slide) -> str:
    long, short = slide.minutes
    time = f"{long} min" + (f", {short} in the short lecture" if short else ", not in the short lecture")
    notes = "".join(slide.notes)
    notes = re.sub(r"\\[()]", "", notes)  # TeX stays as it is typed
    body = "".join(slide.body)
    length = len(BeautifulSoup(body, "html.parser").get_text())
    size = "" if 'class="stand"' in body or 'class="live"' in body else "words" + " long" * (length > 330)
    heading = "h1" if slide.title[:1].isdigit() else "h2"
    return (
        f'<section class="{size}" data-minutes="{long}" data-short="{short}"><{heading}>{slide.title}</{heading}>'
        f'{body}<aside class="notes mathjax_ignore"><p>{time}.</p>{notes}</aside></section>'
    )


def write(notebook: nbformat.NotebookNode, name: str, page: str) -> str:
    """The document of a chapter's deck."""
    deck = Deck(notebook, name, page)
    title = BeautifulSoup(deck.slides[0].title, "html.parser").get_text()
    front = re.search(r'src="(\.\./_static/demos/demos\.js[^"]*)"', page)
    values = {
        "TITLE": html.escape(title),
        "CHAPTER": f"../notebooks/{name}.html",
        "SLIDES": str(deck),
        "DEMOS": f'<script src="{front[1]}" defer></script>' if front else "",
    }
    text = (HERE / "slides.html").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"<!-- {key} -->", value)
    return text


def main() -> None:
    if not (SITE / "notebooks").is_dir():
        sys.exit("There is no site yet: make site")
    place = SITE / "slides"
    shutil.rmtree(place, ignore_errors=True)
    for part in ("reveal.js", "reveal.css", "plugin/notes.js"):
        target = place / "reveal" / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REVEAL / part, target)
    for part in ("slides.css", "slides.js"):
        shutil.copy(HERE / part, place)
    for path in sorted(Path("notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        page = (SITE / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        (place / f"{path.stem}.html").write_text(write(notebook, path.stem, page), encoding="utf-8")
    offer(SITE)
    print(f"The slides are at file://{place.resolve()}/ (one file for each chapter).")


if __name__ == "__main__":
    main()
