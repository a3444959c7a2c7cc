"""The checks of the exercises: right answers pass, wrong ones are told what is wrong, mutants are noticed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import solutions
import torch

from helpers import CHAPTERS, checks

ROOT = Path(__file__).resolve().parent.parent
LABELS = [f"{chapter}.{number}" for chapter in range(1, 11) for number in range(1, 4)]


@pytest.mark.parametrize("folder", ["helpers", "helpers/checks", "helpers/demos", "tests/wrong_answers"])
def test_one_name_leads_everywhere(folder: str) -> None:
    assert set(CHAPTERS) <= {path.stem for path in (ROOT / folder).glob("*.py")}


@pytest.mark.parametrize("number, name", enumerate(CHAPTERS, start=1))
def test_a_chapter_is_named_as_its_module(number: int, name: str) -> None:
    (path,) = (ROOT / "notebooks").glob(f"{number:02}_*.ipynb")
    assert f"demos.{name}.show(" in path.read_text(encoding="utf-8")
    assert f'check(\\"{number}.1\\", {checks.find(f"{number}.1").name})' in path.read_text(encoding="utf-8")
    assert checks.find(f"{number}.1").checker.__module__ == f"helpers.checks.{name}"
    assert (ROOT / f"tests/test_{name}.py").is_file()


def answers(label: str):
    """The module with the wrong answers of the exercise's chapter."""
    return importlib.import_module(f"wrong_answers.{CHAPTERS[int(label.partition('.')[0]) - 1]}")


def reference(label: str) -> Callable:
    return solutions.solution(label, checks.find(label).name)


@pytest.mark.parametrize("label", LABELS)
def test_the_worked_solution_passes(label: str) -> None:
    assert checks.judge(label, reference(label)) == (label, True, "passed")


@pytest.mark.parametrize("label", LABELS)
def test_the_stub_does_not(label: str) -> None:
    def stub(*arguments, **options):
        raise NotImplementedError

    result = checks.judge(label, stub)
    assert not result.passed and "not written yet" in result.message


WRONG = [
    pytest.param(label, answer, hint, id=f"{label}-{answer.__name__}")
    for label in LABELS
    for answer, hint in answers(label).WRONG[label]
]


@pytest.mark.parametrize("label, answer, hint", WRONG)
def test_a_wrong_answer_gets_the_hint_meant_for_it(label: str, answer: Callable, hint: str) -> None:
    result = checks.judge(label, answer)
    assert not result.passed
    assert hint in result.message


@pytest.mark.parametrize("label", LABELS)
def test_there_are_at_least_three_wrong_answers(label: str) -> None:
    assert len(answers(label).WRONG[label]) >= 3


RIGHT = [
    pytest.param(label, answer, id=f"{label}-{answer.__name__}")
    for label in LABELS
    for answer in answers(label).RIGHT[label]
]


@pytest.mark.parametrize("label, answer", RIGHT)
def test_a_right_answer_written_in_another_way_passes(label: str, answer: Callable) -> None:
    assert checks.judge(label, answer).message == "passed"


def as_numpy(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def as_double(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def strided(value: Any) -> Any:
    """The same numbers, every second one in memory."""
    return torch.stack([value, value], -1)[..., 0] if isinstance(value, torch.Tensor) else value


def as_list(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("change", [as_numpy, as_double, strided, as_list])
@pytest.mark.parametrize("label", LABELS)
def test_another_kind_of_the_same_numbers_passes(label: str, change: Callable) -> None:
    solve = reference(label)

    def answer(*arguments, **options):
        found = solve(*arguments, **options)
        return tuple(map(change, found)) if isinstance(found, tuple) else change(found)

    assert checks.judge(label, answer).message == "passed"


@pytest.mark.parametrize("label", LABELS)
def test_the_result_may_lie_on_another_device(label: str, device: torch.device) -> None:
    solve = reference(label)

    def move(value: Any) -> Any:
        return value.to(device) if isinstance(value, torch.Tensor) else value

    def answer(*arguments, **options):
        found = solve(*arguments, **options)
        return tuple(map(move, found)) if isinstance(found, tuple) else move(found)

    assert checks.judge(label, answer).message == "passed"


ODD = {
    "nothing": None,
    "text": "0.5",
    "zero": 0,
    "infinity": float("inf"),
    "nan": float("nan"),
    "complex": 1j,
    "empty list": [],
    "ragged list": [[1.0, 2.0], [3.0]],
    "two of nothing": (None, None),
    "three things": (1, 2, 3),
    "dictionary": {"map": 1},
    "object": object(),
    "empty tensor": torch.zeros(0),
    "vector": torch.arange(7.0),
    "indices out of range": torch.full((5, 6), 10**6),
    "network": torch.nn.Linear(2, 2),
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("label", LABELS)
def test_an_odd_answer_is_told_what_is_odd(label: str, odd: str) -> None:
    """And no checker stumbles over it."""
    result = checks.judge(label, lambda *arguments, **options: ODD[odd])
    assert not result.passed
    assert "can't be compared" not in result.message


@pytest.mark.parametrize("answer, message", [(None, "is None"), (0.5, "is a float"), (lambda: 0, "callable as drop(")])
def test_something_else_than_the_function_is_told_so(answer: Any, message: str) -> None:
    assert message in checks.judge("5.1", answer).message


def test_an_error_is_shown_as_the_students_with_its_line() -> None:
    def drop(model, image, target, box):
        return image[:, box[4]]

    message = checks.judge("5.1", drop).message
    assert "Your code raised IndexError" in message and "image[:, box[4]]" in message


def test_a_chapters_score_adds_up(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_passed", {})
    assert checks.check("10.1", reference("10.1"))
    assert not checks.check("10.2", None)
    assert checks.check("10.2", reference("10.2"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "10.1 passed. Chapter 10: 1 of 3."
    assert lines[1].startswith("10.2 not yet: ") and lines[1].endswith("Chapter 10: 1 of 3.")
    assert lines[2] == "10.2 passed. Chapter 10: 2 of 3."


@pytest.mark.parametrize("label", ["5.4", "11.1", 5.1, None])
def test_an_unknown_exercise_is_refused(label: Any) -> None:
    with pytest.raises(LookupError, match="near matches"):
        checks.check(label, print)


def outcome(function: Callable, arguments: tuple) -> Any:
    """What the function returns, as tensors; the type of the error where it raises one."""
    torch.manual_seed(0)
    try:
        found = checks.answers.call(function, "", arguments, {})
        return [checks.answers.tensor(part) for part in (found if isinstance(found, tuple) else (found,))]
    except checks.Wrong as wrong:
        return str(type(wrong.__cause__)) + str(wrong)


def differs(first: Any, second: Any) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return isinstance(first, str) != isinstance(second, str)
    return len(first) != len(second) or any(
        a.shape != b.shape or not torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(first, second)
    )


def survivors(label: str) -> tuple[int, list[str]]:
    """How many mutants of the solution behave differently, and which of them pass the check."""
    chapter, name = int(label.partition(".")[0]), checks.find(label).name
    if not answers(label).samples(label, 0):  # a function without arguments has many right answers
        return 0, []
    inputs = [answers(label).samples(label, seed) for seed in range(3)]
    expected = [outcome(reference(label), arguments) for arguments in inputs]
    alive, changed = [], 0
    for what, mutant in solutions.mutants(solutions.definition(chapter, name)):
        function = solutions.compiled(chapter, mutant)
        if any(differs(outcome(function, arguments), truth) for arguments, truth in zip(inputs, expected)):
            changed += 1
            if checks.judge(label, function).passed:
                alive.append(f"{label} {what}")
    return changed, alive


@pytest.mark.parametrize("chapter", range(1, 11))
def test_nine_of_ten_mutants_are_noticed(chapter: int) -> None:
    """In each chapter: changes of an operator, a number or a call that change what the solution returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mutants do odd things
        found = [survivors(label) for label in LABELS if label.startswith(f"{chapter}.")]
    changed, alive = sum(count for count, _ in found), [name for _, names in found for name in names]
    assert changed >= 10
    assert len(alive) <= 0.1 * changed, alive
