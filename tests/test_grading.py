"""Grading: submissions that are right, wrong, broken or hostile; none of them gets marks that it has not earned."""

from __future__ import annotations

import ast
import csv
import inspect
import json
from pathlib import Path

import nbformat
import pytest
import solutions
from wrong_answers import occlusion

from helpers.checks.__main__ import main
from helpers.checks.grading import Limits, grade

RIGHT = {
    name: "import torch\nfrom helpers import runtime\n" + ast.unparse(solutions.definition(5, name))
    for name in ("drop", "rise", "windows_to_change")
}
CHECKS = 'from helpers.checks import check\ncheck("5.1", drop);'


def submission(folder: Path, *cells: str, name: str = "05_occlusion.ipynb") -> Path:
    path = folder / name
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    return path


def marks(path: Path, **limits: float) -> list[bool]:
    return [result.passed for result in grade(path, limits=Limits(**limits))]


def test_right_answers_get_full_marks_and_an_error_in_a_cell_does_not_matter(tmp_path: Path) -> None:
    assert marks(submission(tmp_path, *RIGHT.values(), "1 / 0", CHECKS)) == [True, True, True]


def test_wrong_missing_and_failing_answers_get_none_and_are_told_why(tmp_path: Path) -> None:
    wrong = inspect.getsource(occlusion._drop) + "\ndef drop(*a): return _drop(*a, sign=-1)"
    results = grade(
        submission(tmp_path, RIGHT["drop"], wrong, "def rise(model, image, target, masks):\n    return [][1]")
    )
    assert [result.passed for result in results] == [False, False, False]
    for result, message in zip(results, ("opposite sign", "IndexError", "no windows_to_change")):
        assert message in result.message


def test_an_endless_answer_costs_its_own_mark_only(tmp_path: Path) -> None:
    cells = [RIGHT["drop"], "def rise(*a):\n    while True: pass", RIGHT["windows_to_change"]]
    results = grade(submission(tmp_path, *cells), limits=Limits(call=3))
    assert [result.passed for result in results] == [True, False, True]
    assert "longer than 3 s" in results[1].message


def test_an_answer_that_takes_all_memory_or_exits_costs_its_own_mark_only(tmp_path: Path) -> None:
    hungry = "def drop(model, image, target, box):\n    return sum(len(bytearray(2**32)) for _ in [0]) or [0]"
    leaving = "def rise(*a):\n    import os; os._exit(0)"
    results = grade(submission(tmp_path, hungry, leaving, RIGHT["windows_to_change"]), limits=Limits(memory=3))
    assert [result.passed for result in results] == [False, False, True]
    assert "MemoryError" in results[0].message and "ended before" in results[1].message


@pytest.mark.parametrize("cell, message", [("while True: pass", "longer than"), ("import os; os._exit(1)", "ended")])
def test_cells_that_never_end_or_end_all_get_no_marks(tmp_path: Path, cell: str, message: str) -> None:
    results = grade(submission(tmp_path, *RIGHT.values(), cell), limits=Limits(cells=8))
    assert [result.passed for result in results] == [False, False, False]
    assert all(message in result.message for result in results)


HIDING = """
import os, time
for descriptor in range(3, 64):
    try: os.write(descriptor, b"\\x00\\x00\\xff\\xff, and nothing more")
    except OSError: pass
if os.fork() == 0:
    os.setsid()
    time.sleep(20)
    os._exit(0)
while True: pass
"""


def test_half_a_message_and_a_process_that_hides_do_not_hold_the_grader_up(tmp_path: Path) -> None:
    results = grade(submission(tmp_path, HIDING), limits=Limits(cells=8))
    assert [result.message for result in results] == ["The submission took longer than 8 s."] * 3


HOSTILE = """
import os, pathlib, shutil, sys
import helpers.checks, helpers.checks.answers
print("5.1 passed. Chapter 5: 3 of 3.")
sys.stderr.write("3 of 3")
helpers.checks.judge = lambda label, answer: helpers.checks.Result(label, True, "passed")
helpers.checks._passed |= {"5.1": True, "5.2": True, "5.3": True}
helpers.checks.answers.compare = lambda *a, **k: None
class Everything(float):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0.0
drop = lambda *a: Everything(1)
rise = lambda model, image, target, masks: (_ for _ in ()).throw(SystemExit(0))
def windows_to_change(model, image, order, window):
    for descriptor in range(3, 64):
        try: os.write(descriptor, b"passed" * 9)
        except OSError: pass
    return 3
for path in pathlib.Path().resolve().parent.iterdir():
    shutil.rmtree(path, ignore_errors=True)
"""


def test_a_hostile_submission_gets_no_marks_and_does_not_stop_the_next(tmp_path: Path, capfd) -> None:
    kept = submission(tmp_path, *RIGHT.values(), name="2.ipynb")
    submission(tmp_path, HOSTILE + CHECKS, name="1.ipynb")
    submission(tmp_path, name="3.ipynb")
    (tmp_path / "4.ipynb").write_text("{", encoding="utf-8")
    files = ["--json", str(tmp_path / "marks.json"), "--csv", str(tmp_path / "marks.csv")]
    assert main([str(tmp_path), "--chapter", "5", "--call", "20", *files]) == 1  # one could not be read
    rows = json.loads((tmp_path / "marks.json").read_text(encoding="utf-8"))
    found = {name: [row["mark"] for row in rows if row["notebook"].endswith(name)] for name in ("1.ipynb", kept.name)}
    assert found == {"1.ipynb": [0, 0, 0], "2.ipynb": [1, 1, 1]}
    with (tmp_path / "marks.csv").open(encoding="utf-8", newline="") as file:
        assert [int(row["mark"]) for row in csv.DictReader(file)] == [row["mark"] for row in rows]
    printed = capfd.readouterr()
    assert "3 of 3" in printed.out and printed.out.count("3 of 3") == 1  # the second's; the first's went nowhere
    assert "no notebook that can be read" in printed.err
    assert kept.exists()


def test_the_checkers_are_out_of_the_submissions_reach(tmp_path: Path) -> None:
    """Where a notebook imports from there are no checkers, and it gets nothing of the grader's surroundings."""
    look = """
        import importlib.util, os, helpers.checks
        methods, checkers = ({name for name in (*helpers.CHAPTERS, "grading") if importlib.util.find_spec(where + name)}
                             for where in ("helpers.", "helpers.checks."))
        secret = methods == {*helpers.CHAPTERS} and not checkers and "SECRET" not in os.environ
        drop = (lambda *a: 1 / 0) if secret else 0
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", "1")
        result = grade(submission(tmp_path, inspect.cleandoc(look)))[0]
    assert "ZeroDivisionError" in result.message


@pytest.mark.parametrize("text", ["", "[]", '{"cells": 3}', "{"])
def test_a_file_that_is_no_notebook_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "05.ipynb"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="no notebook"):
        grade(path)


def test_a_chapter_that_can_not_be_told_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--chapter"):
        grade(submission(tmp_path, "x = 1", name="mine.ipynb"))
