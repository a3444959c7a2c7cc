"""A plugin for nbval: the run whose numbers it compares is the one that the site shows, so that no chapter runs twice.

    HELPERS_DARK_FIGURES=1 python -m pytest --nbval-lax -p tools.site.save_executed notebooks/NAME.ipynb

writes ``_build/notebooks/NAME.ipynb``, as ``tools/site/execute.py`` does, unless a cell failed.
"""

import copy
import time
from pathlib import Path

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile

BUILD = Path("_build")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item, IPyNbCell) and not hasattr(item.parent, "started"):
        item.parent.started, item.parent.failed = time.perf_counter(), False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if isinstance(item, IPyNbCell) and not report.passed:
        item.parent.failed = True
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if isinstance(item, IPyNbCell) and (nextitem is None or nextitem.parent is not item.parent):
        cells = [other for other in item.session.items if other.parent is item.parent]
        if not item.parent.failed and len(cells) == sum(cell.cell_type == "code" for cell in item.parent.nb.cells):
            save(item.parent, cells)


def save(file: IPyNbFile, cells: list[IPyNbCell]) -> None:
    """Write the notebook with the outputs of this run."""
    notebook = copy.deepcopy(file.nb)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, (cell, run) in enumerate(zip(code, cells), start=1):
        cell.outputs, cell.execution_count = nbformat.from_dict(run.test_outputs), number
    notebook.metadata["execution_seconds"] = round(time.perf_counter() - file.started, 1)
    path = BUILD / file.path.relative_to(Path.cwd())
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    nbformat.write(notebook, unfinished)
    unfinished.replace(path)  # in one step: another build may read it
