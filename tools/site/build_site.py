"""Build the site: put the sources together in ``_build/source``, run Jupyter Book, move the result to ``_build/html``.

The sources are the pages of ``book/``, the executed notebooks of ``_build/notebooks``, their demos, MathJax from
``node_modules``, the pictures of the atlas and of the front page, the playground. Where the repository has
an address (address.py), pages get buttons for Colab and Binder and links to their source; the notebooks' copies, for
Colab and for the download, lie beside the pages.
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
import yaml
from address import COPIES, Address, find
from atlas_page import place_atlas
from demos import place_demos, write_front_end
from front_page import place_front
from place_figures import place_figures
from playground import CHAPTERS, place_playground
from standalone_notebooks import standalone

SOURCE, SITE = Path("_build/source"), Path("_build/html")
DEMOS = SOURCE / "book/assets/demos"
MATHJAX = ("tex-mml-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")

TIMINGS = "% the table of times"  # replaced in book/timings.md


NOTEBOOKS = [*sorted(Path("notebooks").glob("*.ipynb")), *sorted(Path("book").glob("*.ipynb"))]


def stage(address: Address | None) -> None:
    """Put everything that Jupyter Book reads into a new folder."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    ignore = shutil.ignore_patterns("node_modules", "*.ipynb", "*.tar")
    shutil.copytree("book", SOURCE / "book", ignore=ignore)
    (SOURCE / "tools/site").mkdir(parents=True)
    for name in ("_toc.yml", "tools/site/exercise_numbers.py", "tools/site/raw_anchors.py"):
        shutil.copy(name, SOURCE / name)
    configuration = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))
    (SOURCE / "_config.yml").write_text(yaml.safe_dump(with_address(configuration, address)), encoding="utf-8")
    for name in MATHJAX:
        origin, place = Path("node_modules/mathjax/es5", name), SOURCE / "book/assets/mathjax" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if origin.is_dir() else shutil.copy)(origin, place)
    front = write_front_end(DEMOS)
    (SOURCE / "notebooks").mkdir()
    seconds = {}
    for path in NOTEBOOKS:
        notebook = nbformat.read(Path("_build") / path, as_version=4)
        seconds[path.stem] = notebook.metadata.get("execution_seconds", float("nan"))
        place_demos(notebook, path.stem, DEMOS, front, _save)
        place_figures(notebook, path.stem, _save)
        mark_captions(notebook)
        mark_cells(notebook)
        place_badges(notebook, path, address)
        notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # nbval leaves it out
        nbformat.write(notebook, SOURCE / path)
    place_front(SOURCE / "book/index.md", Path("_build/front_demo.json"), DEMOS, front, _save)
    place_atlas(SOURCE / "book/atlas.md", SOURCE / "book/assets/atlas")
    place_playground(SOURCE / "book/playground.md", Path("_build/playground"), SOURCE / "book/assets/playground")
    page = SOURCE / "book/timings.md"
    page.write_text(page.read_text(encoding="utf-8").replace(TIMINGS, "\n".join(_rows(seconds))), encoding="utf-8")


def _rows(seconds: dict[str, float]) -> list[str]:
    """A table of the times, with their sum."""
    rows = [f"| `{name}` | {time:.0f} |" for name, time in seconds.items()]
    return ["| notebook | seconds |", "|---|--:|", *rows, f"| sum | {sum(seconds.values()):.0f} |"]


def with_address(configuration: dict, address: Address | None) -> dict:
    """The configuration with what the theme needs for its buttons; as it is where there is no address."""
    if address is None:
        return configuration
    buttons = {f"use_{name}_button": True for name in ("repository", "issues", "edit_page")}
    hosts = {"binderhub_url": "https://mybinder.org", "colab_url": "https://colab.research.google.com"}
    return configuration | {
        "repository": {"url": address.url, "branch": address.branch, "path_to_book": ""},
        "html": configuration["html"] | buttons,
        "launch_buttons": configuration["launch_buttons"] | hosts,
    }


def place_badges(notebook: nbformat.NotebookNode, path: Path, address: Address | None) -> None:
    """Put the links that open the notebook elsewhere under its title."""
    links = {"Download the notebook": path.name}
    if path.stem in CHAPTERS:
        links["Try it on your own photograph"] = f"../book/playground.html#try-{CHAPTERS[path.stem]}"
    if address:
        elsewhere = {"Open in Colab": address.colab(path.as_posix()), "Open in Binder": address.binder(path.as_posix())}
        links = elsewhere | links
    waiting = f'<a class="launch" hidden data-offered="../slides/{path.stem}.html">Slides</a>'
    slides = waiting if path.parent.name == "notebooks" else ""
    badges = "".join(
        f'<a class="launch" href="{html.escape(target)}"{" download" * target.endswith(".ipynb")}>{text}</a>'
        for text, target in links.items()
    )
    title, _, rest = notebook.cells[0].source.partition("\n")
    notebook.cells[0].source = f'{title}\n\n<div class="launches">{badges}{slides}</div>\n{rest}'


def mark_captions(notebook: nbformat.NotebookNode) -> None:
    """Give paragraphs that begin with **Figure 5.1.** a class of their own."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?m)^(?=\*\*Figure \d+\.\d+\.\*\*)", "{.figure-caption}\n", cell.source)


def mark_cells(notebook: nbformat.NotebookNode) -> None:
    """Leave a comment where each cell begins, so that slides.py finds the cells of a deck on the page."""
    first, *rest = notebook.cells
    notebook.cells = [first]
    for cell in rest:
        if "solution" not in cell.metadata.get("tags", []):
            notebook.cells.append(nbformat.v4.new_markdown_cell(f"<!-- cell {cell.id} -->"))
        notebook.cells.append(cell)


def _save(mime: str, data: str, chapter: str) -> str:
    """Write a picture beside the other assets and return its address as seen from a chapter."""
    content = base64.b64decode(data)
    name = f"{chapter}-{hashlib.sha256(content).hexdigest()[:10]}.{mime.removeprefix('image/')}"
    place = SOURCE / "book/assets/figures" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return f"../_static/figures/{name}"


def mend(page: str, address: Address | None) -> str:
    """Take back what the theme tells screen readers wrongly, and what makes its pages slow and restless."""
    if address:  # the theme knows one branch only
        of_branch = f"colab.research.google.com/github/{address.owner}/{address.name}/blob/"
        page = page.replace(f"{of_branch}{address.branch}/", f"{of_branch}{COPIES}/")
    # Its font draws the icons; this would draw them again, with 1.5 MB.
    page = re.sub(r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', "", page)
    # Light or dark, which its last script would decide: the whole page would move then.
    system = '(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")'
    page = page.replace('localStorage.getItem("theme") || "auto"', f'localStorage.getItem("theme") || {system}')
    if 'class="math' not in page:  # Sphinx gives the first page MathJax, whatever is on it
        page = re.sub(r'<script[^>]* src="[^"]*/mathjax/[^"]*"></script>', "", page)
    page = page.replace('<div role="list" class="citation-list">', '<div class="citation-list">')  # it holds no items
    page = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", page)  # it has a text
    page = re.sub(r'(<i class="theme-switch[^>]*?) title="[^"]*"', r"\1", page)  # it would be a second name
    return page.replace('<summary aria-label="Toggle hidden content">', "<summary>")  # its text says more


def main() -> None:
    address = find()
    stage(address)
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
        page.write_text(mend(page.read_text(encoding="utf-8"), address), encoding="utf-8")
    root = work / "_build/html/index.html"  # only leads on, with no icon: a browser would ask for /favicon.ico
    icon = '<link rel="icon" type="image/svg+xml" href="_static/favicon.svg">'
    root.write_text(root.read_text(encoding="utf-8").rstrip() + f"\n{icon}\n", encoding="utf-8")
    for path in NOTEBOOKS:
        copy = standalone(nbformat.read(path, as_version=4), path.as_posix(), address)
        nbformat.write(copy, work / "_build/html" / path)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(work / "_build/html", SITE)
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    pages = len(list(SITE.rglob("*.html")))
    print(f"{pages} pages, {size / 1e6:.0f} MB, repository: {address.url if address else 'none'}")


if __name__ == "__main__":
    main()
