"""The student edition: no solution is in it, everything else is, and it serves as it stands."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from pathlib import Path

import nbformat
import pytest
import solutions
import student_edition
from student_edition import for_students, is_solution

from helpers import checks

CHAPTERS = sorted(solutions.NOTEBOOKS.glob("*.ipynb"))


def pairs(path: Path):
    chapter = nbformat.read(path, as_version=4)
    return chapter, for_students(chapter)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_line_of_a_solution_is_left(path: Path) -> None:
    chapter, edition = pairs(path)
    left = {line.strip() for cell in edition.cells for line in cell.source.splitlines()}
    left |= {line.strip() for cell in edition.cells for text in outputs(cell) for line in text.splitlines()}
    own = {line.strip() for cell in chapter.cells if not is_solution(cell) for line in cell.source.splitlines()}
    hidden = {
        line.strip()
        for cell in chapter.cells
        if is_solution(cell)
        for text in (cell.source, *outputs(cell))
        for line in text.splitlines()
    }
    heads = {line for line in hidden if line.startswith("def ")}  # the exercises' texts give these
    short = {line for line in hidden if len(line) < 12}  # brackets, "else:", ":::"
    assert len(hidden) > 20
    assert (hidden - own - heads - short) & left == set()


def outputs(cell) -> list[str]:
    """What the cell printed."""
    return [output.text for output in cell.get("outputs", []) if output.output_type == "stream"]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_there_are_three_stubs_that_say_what_to_write(path: Path) -> None:
    stubs = [cell for cell in pairs(path)[1].cells if "raise NotImplementedError" in cell.source]
    assert len(stubs) == checks.EXERCISES
    for number, cell in enumerate(stubs, start=1):
        wanted = checks.find(f"{int(path.name[:2])}.{number}")
        space: dict = {}
        exec(cell.source, space)
        with pytest.raises(NotImplementedError, match=re.escape(wanted.wants)):
            space[wanted.name](*[None] * space[wanted.name].__code__.co_argcount)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_with_the_solutions_pasted_back_it_is_the_chapter(path: Path) -> None:
    """And the chapter runs to its end, each check printing "passed": that is nbval's to see."""
    chapter, edition = pairs(path)
    solved = iter([cell.source for cell in chapter.cells if is_solution(cell) and cell.cell_type == "code"])
    code = [cell for cell in edition.cells if cell.cell_type == "code"]
    pasted = [next(solved) if "raise NotImplementedError" in cell.source else cell.source for cell in code]
    assert pasted == [cell.source for cell in chapter.cells if cell.cell_type == "code"]
    for cell in chapter.cells:
        if cell.cell_type == "code" and cell.source.startswith("_ = check("):
            label = re.match(r'_ = check\("(\d+\.\d)"', cell.source)[1]
            assert outputs(cell)[0].startswith(f"{label} passed.")
            assert "nbval-check-output" in cell.metadata.tags


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_nothing_else_needs_a_solution(path: Path) -> None:
    """Every name that a cell reads is made by a cell that students have."""
    made = set(dir(builtins))
    for cell in pairs(path)[1].cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(solutions.plain(cell.source))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        made |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        made |= {name for statement in tree.body for name in solutions.names(statement)}
        made |= {
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler)
        }
        missing = {node.id for node in names if isinstance(node.ctx, ast.Load)} - made - {"get_ipython"}
        assert missing == set(), cell.source[:200]


def test_a_solution_without_a_check_is_refused() -> None:
    chapter = nbformat.read(CHAPTERS[4], as_version=4)
    chapter.cells = [cell for cell in chapter.cells if 'check("5.2"' not in cell.source]
    with pytest.raises(ValueError, match="no check follows"):
        for_students(chapter)


def test_a_solution_without_the_function_is_refused() -> None:
    chapter = nbformat.read(CHAPTERS[4], as_version=4)
    for cell in chapter.cells:
        cell.source = cell.source.replace("def rise(", "def risen(")
    with pytest.raises(ValueError, match="defines no function rise"):
        for_students(chapter)


def test_the_edition_installs_the_code_from_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOOK_REPOSITORY", "owner/name")
    monkeypatch.setattr(sys, "argv", ["student_edition.py", str(tmp_path)])
    student_edition.main()
    paths = sorted(tmp_path.glob("*.ipynb"))
    assert len(paths) == 10
    for path in paths:
        cells = nbformat.read(path, as_version=4).cells
        assert any("git+https://github.com/owner/name@" in cell.source for cell in cells), path.name
        assert not any(":::" in cell.source for cell in cells), path.name
