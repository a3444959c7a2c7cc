"""Notebooks that leave the book: for Colab, for the download on a page, for students.

Away from the book nobody reads MyST, so that its roles and directives become plain Markdown; and the set-up cell names
the repository that it installs the code from.
"""

from __future__ import annotations

import functools
import posixpath
import re

import nbformat
from address import ROOT, Address
from nbformat import NotebookNode

CLONE = '    book = ".."  # this clone; a copy from the book\'s site names its repository here\n'


def standalone(notebook: NotebookNode, path: str, address: Address | None) -> NotebookNode:
    """A copy of the notebook at ``path``, such as ``notebooks/05_occlusion.ipynb``, that works on its own.

    With no address it installs from the clone that it lies in, and its links to pages outside its folder are gone.
    """
    result = nbformat.from_dict(notebook)
    for cell in result.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, posixpath.dirname(path), address)
        elif {"hide-input", "solution"} & set(cell.metadata.get("tags", [])):
            cell.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}  # folded in JupyterLab and Colab
    result.cells = [cell for cell in result.cells if cell.source]
    if address:
        name_source(result, address.package)
    return result


def name_source(notebook: NotebookNode, package: str) -> None:
    """Write into the set-up cell what pip installs the book's code from."""
    cell = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if CLONE not in cell.source:
        raise ValueError(f"the first code cell is not the set-up cell: {cell.source[:60]!r}")
    cell.source = cell.source.replace(CLONE, f'    book = "{package}"\n')


def plain(source: str, folder: str, address: Address | None) -> str:
    """Markdown that any notebook program shows, from MyST that stands in a page of ``folder``."""
    source = re.sub(r"(?m)^:::\{(?:exercise|solution)-end\}\n:::\n?", "", source)
    options = r"(?::\w+:.*\n)*:::\n"
    exercise = rf"(?m)^:::\{{exercise-start\}} (.+)\n{options}\s*\*\*([\d.]+)\*\* · "
    source = re.sub(exercise, r"### Exercise \2: \1\n\n", source)
    source = re.sub(rf"(?m)^:::\{{solution-start\}} ex-(\d+)-(\d+)\n{options}", r"**Solution of \1.\2**\n\n", source)
    source = re.sub(r"(?ms)^:::\{dropdown\} (.+?)\n(.*?)^:::$", r"**\1**\n\n\2", source)
    source = re.sub(r"\{cite:t\}`([^`]+)`", lambda match: _cited(match[1], "{} ({})", " and "), source)
    source = re.sub(r"\{cite\}`([^`]+)`", lambda match: f"({_cited(match[1], '{} {}', '; ')})", source)
    source = re.sub(r"\{term\}`([^`<]+?)(?:\s*<[^`]*>)?`", r"\1", source)
    source = re.sub(r"(?<!!)\[([^]]*)\]\(([^)\s]+)\)", lambda match: _link(*match.groups(), folder, address), source)
    return source.strip("\n")


def _link(text: str, target: str, folder: str, address: Address | None) -> str:
    """A link to a notebook's copy or to a file of the repository; what leads out of the book stays."""
    if re.match(r"[a-z]+:", target):
        return f"[{text}]({target})"
    path, _, _ = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    if address:
        return f"[{text}]({address.colab(path) if path.endswith('.ipynb') else address.file(path)})"
    return f"[{text}]({target})" if posixpath.dirname(path) == folder and path.endswith(".ipynb") else text


def _cited(keys: str, form: str, between: str) -> str:
    return between.join(form.format(*_author_year(key.strip())) for key in keys.split(","))


def _author_year(key: str) -> tuple[str, str]:
    """Such as ("Zeiler and Fergus", "2014")."""
    entry = _bibliography().entries[key]
    names = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    authors = {1: "{0}", 2: "{0} and {1}"}.get(len(names), "{0} et al.").format(*names)
    return authors, entry.fields["year"]


@functools.cache
def _bibliography():
    from pybtex.database import parse_file  # here: not on Colab, where `run_in_environment` runs, too

    return parse_file(ROOT / "book/references.bib")
