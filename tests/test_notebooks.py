"""The committed notebooks are whole, and nbval notices when they are not."""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from chapters import CHAPTERS, CHECKED, nbval
from normalise import LIMIT, clean, faults

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture
def notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _text(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def test_there_are_chapters() -> None:
    assert CHAPTERS


def test_was_run_from_top_to_bottom_without_a_fault(notebook: nbformat.NotebookNode) -> None:
    assert faults(notebook) == []


def test_is_clean_and_small(path: Path, notebook: nbformat.NotebookNode) -> None:
    cleaned = copy.deepcopy(notebook)
    clean(cleaned)
    assert cleaned == notebook, "run `make refresh`"
    assert path.stat().st_size <= LIMIT


@pytest.mark.parametrize("path", sorted((ROOT / "book").glob("*.ipynb")), ids=lambda path: path.stem, indirect=True)
def test_a_page_that_runs_is_whole_clean_and_checked(path: Path, notebook: nbformat.NotebookNode) -> None:
    test_was_run_from_top_to_bottom_without_a_fault(notebook)
    test_is_clean_and_small(path, notebook)
    assert sum(CHECKED in _tags(cell) for cell in _code(notebook)) >= 4


def _read_through(notebook: nbformat.NotebookNode) -> Iterator[tuple[nbformat.NotebookNode, str]]:
    """The cells that a reader reads: of the exercises nothing. With each the text that counts."""
    exercises = False
    for cell in notebook.cells:
        kept = []
        for line in cell.source.splitlines():
            if cell.cell_type == "markdown" and line.startswith("## "):
                exercises = line == "## Exercises"
            if not exercises:
                kept.append(line)
        if kept and "solution" not in _tags(cell):
            yield cell, "\n".join(kept)


def test_is_of_a_chapters_size(notebook: nbformat.NotebookNode) -> None:
    cells = list(_read_through(notebook))
    words = sum(len(text.split()) for cell, text in cells if cell.cell_type == "markdown")
    lines = sum(bool(line.strip()) for cell, text in cells if cell.cell_type == "code" for line in text.splitlines())
    assert 12 <= len(_code(notebook)) <= 30
    assert 1500 <= words <= 2600
    assert lines <= 230 + 11  # and the set-up's block, the same in each


def test_begins_with_a_picture(notebook: nbformat.NotebookNode) -> None:
    words = 0
    for cell in notebook.cells:
        if any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {})):
            break
        words += len(cell.source.split()) if cell.cell_type == "markdown" else 0
    assert words <= 150


def test_five_cells_compare_printed_numbers(notebook: nbformat.NotebookNode) -> None:
    checked = [cell for cell in _code(notebook) if CHECKED in _tags(cell)]
    assert len(checked) >= 5
    for cell in checked:
        printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
        tables = [output.data["text/plain"] for output in cell.outputs if "text/html" in output.get("data", {})]
        printed += "".join(tables)
        assert re.search(r"\d", printed), f"prints no number: {cell.source[:60]!r}"
    assert not any({"nbval-skip", "raises-exception"} & set(_tags(cell)) for cell in _code(notebook))


def test_figures_have_alternative_text_and_captions(path: Path, notebook: nbformat.NotebookNode) -> None:
    figures = 0
    for cell in _code(notebook):
        for output in cell.outputs:
            for kind in output.get("data", {}):
                if kind.startswith("image/"):
                    figures += 1
                    assert len(output.metadata[kind]["alt"].split()) >= 4
    numbers = re.findall(r"(?m)^\*\*Figure (\d+)\.(\d+)\.\*\*", _text(notebook))
    assert figures
    assert numbers == [(str(int(path.stem[:2])), str(n)) for n in range(1, figures + 1)]


def test_has_three_exercises_with_solutions(path: Path, notebook: nbformat.NotebookNode) -> None:
    text, chapter = _text(notebook), int(path.stem[:2])
    labels = [f"ex-{chapter}-{number}" for number in (1, 2, 3)]
    assert re.findall(r"(?m)^:label: (ex-\S+)", text) == labels
    assert re.findall(r"\{solution-start\} (\S+)", text) == labels


def test_nbval_passes_a_true_number(small: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, path = small
    nbformat.write(notebook, path)
    assert faults(notebook) == []
    assert nbval(path).returncode == 0


def test_nbval_fails_when_a_number_changed(small: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, path = small
    notebook.cells[0].outputs[0].text = "share: 0.74\n"
    nbformat.write(notebook, path)
    result = nbval(path)
    assert result.returncode == 1
    assert "0.74" in result.stdout


def test_a_notebook_that_was_never_run_is_refused(small: tuple[nbformat.NotebookNode, Path]) -> None:
    """Its cells would be compared with nothing, or not at all."""
    notebook, _ = small
    notebook.cells[0].outputs = []
    notebook.cells[0].execution_count = None
    assert "execution count None" in faults(notebook)[0]


@pytest.mark.parametrize(
    "output",
    [
        nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[]),
        nbformat.v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
        nbformat.v4.new_output("display_data", data={"application/vnd.helpers.dark+json": {}}),
        nbformat.v4.new_output("stream", name="stderr", text="FutureWarning"),
    ],
    ids=["error", "widget", "dark drawing", "stderr"],
)
def test_such_an_output_is_refused(small: tuple[nbformat.NotebookNode, Path], output: nbformat.NotebookNode) -> None:
    notebook, _ = small
    notebook.cells[0].outputs.append(output)
    assert len(faults(notebook)) == 1


DRAWING = """import matplotlib
from helpers import figures
figure, axes = figures.new()
axes[0, 0].plot([1, 2])
figures.show(figure, "A line that rises from one to two.")"""


@pytest.fixture
def drawn(small: tuple[nbformat.NotebookNode, Path]) -> tuple[nbformat.NotebookNode, Path]:
    """The same with a figure."""
    notebook, path = small
    notebook.cells.append(nbformat.v4.new_code_cell(DRAWING, execution_count=2))
    nbformat.write(notebook, path)
    return notebook, path


def _run(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path.parent / "_build" / path.name, as_version=4)


def test_the_run_that_was_compared_is_kept_for_the_site(drawn: tuple[nbformat.NotebookNode, Path]) -> None:
    """By nbval and by `tools/site/execute.py` alike: with the drawing for dark pages, which is not compared."""
    _, path = drawn
    result = nbval(path, "-p", "tools.site.save_executed")
    assert result.returncode == 0, result.stdout
    kept = _run(path)
    command = [sys.executable, str(ROOT / "tools/site/execute.py"), str(path), str(path.parent / "executed.ipynb")]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    executed = nbformat.read(path.parent / "executed.ipynb", as_version=4)
    assert [cell.outputs for cell in kept.cells] == [cell.outputs for cell in executed.cells]
    assert [cell.execution_count for cell in kept.cells] == [1, 2]
    assert "application/vnd.helpers.dark+json" in kept.cells[1].outputs[0].data
    assert min(kept.metadata.execution_seconds, executed.metadata.execution_seconds) > 0


@pytest.mark.parametrize("source", ["print('share: 0.74')", "1 / 0"], ids=["another number", "an error"])
def test_a_run_that_failed_is_not_kept(drawn: tuple[nbformat.NotebookNode, Path], source: str) -> None:
    notebook, path = drawn
    notebook.cells[0].source = source
    nbformat.write(notebook, path)
    assert nbval(path, "-p", "tools.site.save_executed").returncode == 1
    assert not (path.parent / "_build").exists()


def test_an_execution_that_failed_writes_nothing(small: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, path = small
    notebook.cells[0].source = "raise ValueError('blown')"
    nbformat.write(notebook, path)
    command = [sys.executable, str(ROOT / "tools/site/execute.py"), str(path), str(path.parent / "executed.ipynb")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1 and "blown" in result.stderr
    assert not (path.parent / "executed.ipynb").exists()
