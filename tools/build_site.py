"""Build the site: put the sources together in ``_build/source``, run Jupyter Book, move the result to ``_build/html``.

The sources are the pages of ``book/``, the executed notebooks of ``_build/notebooks``, their demos, MathJax from
``node_modules``.
The run is always complete and every warning is an error; the site that was there stays until the new one stands.
"""

import base64
import hashlib
import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from demos import place_demos, write_front_end

SOURCE, SITE = Path("_build/source"), Path("_build/html")
DEMOS = SOURCE / "book/assets/demos"
DARK = "application/vnd.helpers.dark+json"
MATHJAX = ("tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")

TIMINGS = "% the table of times"  # replaced in book/timings.md


def stage() -> None:
    """Put everything that Jupyter Book reads into a new folder."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    ignore = shutil.ignore_patterns("node_modules", "*.ipynb")
    shutil.copytree("book", SOURCE / "book", ignore=ignore)
    (SOURCE / "tools").mkdir()
    for name in ("_config.yml", "_toc.yml", "tools/exercise_numbers.py"):
        shutil.copy(name, SOURCE / name)
    for name in MATHJAX:
        origin, place = Path("node_modules/mathjax/es5", name), SOURCE / "book/assets/mathjax" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if origin.is_dir() else shutil.copy)(origin, place)
    front = write_front_end(DEMOS)
    (SOURCE / "notebooks").mkdir()
    seconds = {}
    for path in [*sorted(Path("notebooks").glob("*.ipynb")), *sorted(Path("book").glob("*.ipynb"))]:
        notebook = nbformat.read(Path("_build") / path, as_version=4)
        seconds[path.stem] = notebook.metadata.get("execution_seconds", float("nan"))
        place_demos(notebook, path.stem, DEMOS, front, _save)
        place_figures(notebook, path.stem)
        mark_captions(notebook)
        nbformat.write(notebook, SOURCE / path)
    page = SOURCE / "book/timings.md"
    page.write_text(page.read_text().replace(TIMINGS, "\n".join(_rows(seconds))))


def _rows(seconds: dict[str, float]) -> list[str]:
    """A table of the times, with their sum."""
    rows = [f"| `{name}` | {time:.0f} |" for name, time in seconds.items()]
    return ["| notebook | seconds |", "|---|--:|", *rows, f"| sum | {sum(seconds.values()):.0f} |"]


def place_figures(notebook: nbformat.NotebookNode, chapter: str) -> None:
    """Turn the figures' outputs into HTML with alternative text, a size, and a drawing for each mode.

    Sphinx would keep the picture and lose the rest.
    """
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
            drawings = {"only-light": (kind, output.data[kind])}
            if DARK in output.data:
                drawings["only-dark"] = (output.data[DARK]["mime"], output.data[DARK]["data"])
            images = "".join(
                f'<img class="{name if len(drawings) > 1 else "both-modes"}" src="{_save(mime, data, chapter)}" '
                f'alt="{html.escape(facts["alt"])}" width="{facts["width"]}" height="{facts["height"]}" loading="lazy">'
                for name, (mime, data) in drawings.items()
            )
            style = "book-figure wide" if facts["width"] > 600 else "book-figure"
            output.data = nbformat.from_dict({"text/html": f'<figure class="{style}" tabindex="-1">{images}</figure>'})


def mark_captions(notebook: nbformat.NotebookNode) -> None:
    """Give paragraphs that begin with **Figure 5.1.** a class of their own."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?m)^(?=\*\*Figure \d+\.\d+\.\*\*)", "{.figure-caption}\n", cell.source)


def _save(mime: str, data: str, chapter: str) -> str:
    """Write a picture beside the other assets and return its address as seen from a chapter."""
    content = base64.b64decode(data)
    name = f"{chapter}-{hashlib.sha256(content).hexdigest()[:10]}.{mime.removeprefix('image/')}"
    place = SOURCE / "book/assets/figures" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return f"../_static/figures/{name}"


def mend(page: str) -> str:
    """Take back what the theme tells screen readers wrongly, and what makes its pages slow and restless."""
    # Its font draws the icons; this would draw them again, with 1.5 MB.
    page = re.sub(r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', "", page)
    # Light or dark, which its last script would decide: the whole page would move then.
    system = '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
    page = page.replace('localStorage.getItem("theme") || "auto"', f'localStorage.getItem("theme") || {system}')
    page = page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')  # it holds no items
    page = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", page)  # it has a text
    page = re.sub(r'(<i class="theme-switch[^>]*?) title="[^"]*"', r"\1", page)  # it would be a second name
    return page.replace('<summary aria-label="Toggle hidden content">', "<summary>")  # its text says more


def main() -> None:
    stage()
    work = Path("_build/jupyter-book")
    shutil.rmtree(work, ignore_errors=True)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", SOURCE, "--path-output", work]
    print("Building the site …", flush=True)
    options = ["-W", "-n", "--keep-going", "--all", "--quiet"]
    environment = os.environ | {"PYTHONUTF8": "1"}
    # Its standard output names the working folder as the site's; warnings come on the standard error.
    result = subprocess.run([*map(str, command), *options], env=environment, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{result.stdout}\nThe site was not built: see the warnings above.")
    for page in (work / "_build/html").rglob("*.html"):
        page.write_text(mend(page.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(work / "_build/html", SITE)
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    print(f"{len(list(SITE.rglob('*.html')))} pages, {size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
