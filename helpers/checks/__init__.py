"""Checks of the book's exercises: ``check("5.1", drop)`` says whether an answer is right and, if not, what differs.

Every exercise asks for a function. Its checker, in the module that is named as the chapter's, calls the function on
inputs that it draws itself and compares what comes back with the truth, which it finds in another way than the worked
solution where there is one. No server, no network, no stored answers.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from helpers import CHAPTERS

from .answers import Answer, Wrong, describe, printable

EXERCISES = 3  # in each of the ten chapters


class Exercise(NamedTuple):
    """One exercise: what it asks for, and the function that raises ``Wrong`` unless it gets that."""

    wants: str  # "drop(model, image, target, box): the drop of the probability, a float"
    checker: Callable[[Answer], None]

    @property
    def name(self) -> str:
        """The function's name."""
        return self.wants.partition("(")[0]

    @property
    def call(self) -> str:
        """The call without what it returns."""
        return self.wants.partition(")")[0] + ")"


class Result(NamedTuple):
    """What a check found."""

    label: str
    passed: bool
    message: str


_exercises: dict[str, Exercise] = {}
_passed: dict[str, bool] = {}  # the last result of each exercise that was checked in this session


def exercise(label: str, wants: str) -> Callable[[Callable[[Answer], None]], Callable[[Answer], None]]:
    """Register the checker of exercise ``label``; ``wants`` is the call and what it returns, as in `Exercise`."""

    def register(checker: Callable[[Answer], None]) -> Callable[[Answer], None]:
        _exercises[label] = Exercise(wants, checker)
        return checker

    return register


def find(label: str) -> Exercise:
    """The exercise with this label, as in "5.1".

    Raises
    ------
    LookupError
        There is none.
    """
    known = [f"{chapter}.{number}" for chapter in range(1, 11) for number in range(1, EXERCISES + 1)]
    if not isinstance(label, str) or label not in known:
        near = ", ".join(difflib.get_close_matches(str(label), known, n=3, cutoff=0)) or "1.1 to 10.3"
        raise LookupError(f"There is no exercise {label!r}; near matches: {near}.")
    importlib.import_module(f"{__name__}.{CHAPTERS[int(label.partition('.')[0]) - 1]}")
    return _exercises[label]


def judge(label: str, answer: Any) -> Result:
    """Whether ``answer`` solves exercise ``label``; if not, what is wrong with it, in a sentence or two.

    ``answer`` is a function, or an `Answer` that knows how to call one elsewhere. No error in it gets out of here, and
    PyTorch's random numbers go on as if nothing had happened.

    Raises
    ------
    LookupError
        There is no such exercise.
    """
    asked = find(label)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            asked.checker(answer if isinstance(answer, Answer) else Answer(answer, asked))
        except Wrong as wrong:
            return Result(label, False, printable(wrong))
        except (Exception, SystemExit) as error:  # something came back that the checker did not expect
            return Result(label, False, f"What it returns can't be compared ({describe(error)}).")
    return Result(label, True, "passed")


def check(label: str, answer: Any) -> bool:
    """Check the answer to an exercise, print what was found, and return whether it passed.

    Parameters
    ----------
    label
        The exercise, as in "5.1".
    answer
        The function that the exercise asks for: ``check("5.1", drop)``, without calling it.

    Raises
    ------
    LookupError
        There is no such exercise.
    """
    result = judge(label, answer)
    _passed[label] = result.passed
    chapter = label.partition(".")[0]
    done = sum(passed for other, passed in _passed.items() if other.partition(".")[0] == chapter)
    print(f"{label} passed." if result.passed else f"{label} not yet: {result.message}", end=" ")
    print(f"Chapter {chapter}: {done} of {EXERCISES}.")
    return result.passed
