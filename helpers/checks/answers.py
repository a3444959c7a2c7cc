"""A student's answer, called with care; and what differs between a value of theirs and the truth."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from . import Exercise


class Wrong(Exception):
    """What is wrong with an answer: one or two sentences for the student, with a hint and without the solution."""


class Answer:
    """The function that a student wrote, so wrapped that its errors are shown as theirs.

    Every call gets its own copies of the arguments. An answer that changes a tensor that it was given is wrong, and
    is told so.
    """

    def __init__(self, function: Any, asked: Exercise) -> None:
        if not callable(function):
            given = "None" if function is None else f"a {type(function).__name__}"
            raise Wrong(f"The answer is {given}. Give the function itself: {asked.name}, without calling it.")
        self.function, self.asked = function, asked

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What the function returns for copies of these arguments; ``Wrong`` where it raises or changes them."""
        return call(self.function, self.asked.call, arguments, options)


def call(function: Callable, form: str, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """``function(*arguments, **options)`` on copies; every error of it becomes a ``Wrong`` that quotes its line."""
    try:
        inspect.signature(function).bind(*arguments, **options)
    except TypeError:
        raise Wrong(f"It must be callable as {form}.") from None
    except ValueError:
        pass  # some functions written in C have no signature to be looked at
    given = copy.deepcopy((list(arguments), dict(options)))
    try:
        found = function(*given[0], **given[1])
    except NotImplementedError:
        raise Wrong(f"It is not written yet: {form}.") from None
    except (Exception, SystemExit) as error:
        raise Wrong(_quote(error, function)) from error
    for before, after in zip((*arguments, *options.values()), (*given[0], *given[1].values())):
        if isinstance(before, Tensor) and not torch.equal(before, after.detach()):
            raise Wrong("It changes a tensor that it was given. Work on a copy: tensor.clone().")
    return found


def _quote(error: BaseException, function: Callable) -> str:
    """The error, with the last line of the student's own code that led to it."""
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    place = f" (your line {lines[-1].lineno}: {lines[-1].line})" if lines and lines[-1].line else ""
    return f"Your code raised {describe(error)}{place}."


def printable(text: object, length: int = 2000) -> str:
    """The text, not endless; what no terminal and no file should get, such as half a surrogate pair, is escaped."""
    text = str(text)[:length]
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def describe(error: BaseException) -> str:
    """The error's type and message, if it has one that can be shown."""
    try:
        return f"{type(error).__name__}: {printable(error)}"
    except Exception:  # its own __str__ fails
        return type(error).__name__


def tensor(found: Any, what: str = "the result") -> Tensor:
    """A number, array, tensor, or a list of such, as a float64 tensor on the CPU; ``Wrong`` for anything else."""
    if found is None:
        raise Wrong(f"{what.capitalize()} is None. Is a return missing?")
    try:
        if isinstance(found, list | tuple):
            value = _numbers(found, what)
        else:
            value = found.detach().cpu() if isinstance(found, Tensor) else torch.from_numpy(np.array(found))
        value = value.resolve_conj().resolve_neg().to(torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what.capitalize()} is a {type(found).__name__}; numbers are expected.") from None
    if value.isnan().any():
        raise Wrong(f"{what.capitalize()} holds NaN. Is something divided by zero?")
    return value


def _numbers(found: Sequence[Any], what: str) -> Tensor:
    """A list of numbers, arrays, tensors or lists, however deep."""
    try:
        return torch.tensor(found, dtype=torch.float64)  # numbers only: fast
    except (TypeError, ValueError, RuntimeError):
        return torch.stack([tensor(part, what) for part in found])


def compare(
    found: Any,
    truth: Any,
    *,
    hints: Mapping[str, Any] | None = None,
    what: str = "the result",
    tolerance: float = 1e-3,
) -> None:
    """Raise ``Wrong`` unless ``found`` equals ``truth``; say what differs, if that can be told.

    Parameters
    ----------
    found
        What the student's function returned: number, tensor, array or list, of any dtype, layout and device.
    truth
        What is right.
    hints
        From a hint to the value that shows the mistake: ``{"The ReLU is missing.": without_relu}``. Tried first. Then
        come the mistakes that any value can have: shape, order of dimensions, sign, lost signs, scale, offset,
        mirrored, shifted by one.
    what
        What to call the value.
    tolerance
        Largest difference allowed, relative to the largest absolute value of ``truth``, or to 1 where that is 0.
    """
    found, truth = tensor(found, what), tensor(truth)
    scale = (truth.abs().max().item() if truth.numel() else 0.0) or 1.0

    def equal(first: Tensor, second: Tensor) -> bool:
        return first.shape == second.shape and bool(((first - second).abs() <= tolerance * scale).all())

    if equal(found, truth):
        return
    for hint, value in (hints or {}).items():
        if equal(found, tensor(value)):
            raise Wrong(hint)
    if found.shape != truth.shape:
        raise Wrong(f"{what.capitalize()} {_shape(found, truth)}")
    raise Wrong(f"{what.capitalize()} {_difference(found, truth, equal)}")


def _shape(found: Tensor, truth: Tensor) -> str:
    expected = f"has shape {tuple(found.shape)}, "
    expected += f"expected {tuple(truth.shape)}" if truth.ndim else "one number is expected"
    if found.squeeze().shape == truth.squeeze().shape:
        return f"{expected}: only dimensions of size 1 differ. Index with [0], or use squeeze."
    if sorted(found.shape) == sorted(truth.shape):
        return f"{expected}: are the dimensions in another order?"
    return f"{expected}."


def _difference(found: Tensor, truth: Tensor, equal: Callable[[Tensor, Tensor], bool]) -> str:
    if equal(found, -truth):
        return "has the opposite sign everywhere. Which way round is the difference?"
    if equal(found, truth.abs()):
        return "has lost its signs. Is there an abs too many?"
    if equal(found.abs(), truth):
        return "has signs that it should not have. Is an abs missing?"
    if equal(found, truth.clamp(min=0)):
        return "has lost its negative values. Is there a ReLU (clamp) too many?"
    if equal(found.clamp(min=0), truth):
        return "has negative values that it should not have. Is a ReLU (clamp) missing?"
    factor = (found * truth).sum() / truth.square().sum().clamp(min=1e-300)
    if truth.numel() > 1 and factor.abs() > 1e-9 and equal(found / factor, truth):
        return f"is right up to a factor of {factor:.3g}. A sum for a mean, or a scale left out?"
    offset = (found - truth).mean()
    if truth.numel() > 1 and equal(found - offset, truth):
        return f"is right up to a constant: {offset:+.3g} everywhere."
    if truth.ndim >= 2 and truth.shape[-1] == truth.shape[-2] and equal(found.mT, truth):
        return "has rows and columns exchanged."
    for dim in range(truth.ndim):
        if equal(found.flip(dim), truth):
            return f"runs the wrong way round along dimension {dim}."
        for step in (1, -1):
            rolled = found.roll(step, dim)
            inside = [slice(None)] * truth.ndim
            inside[dim] = slice(1, -1)
            if truth.shape[dim] > 3 and equal(rolled[tuple(inside)], truth[tuple(inside)]):
                return f"is shifted by one along dimension {dim}."
    if truth.numel() == 1:
        return f"is {found.item():.4g}, which is not right for these inputs."
    worst = (found - truth).abs().max() / (truth.abs().max() or 1)
    return f"differs by up to {worst:.2g} times the largest value."


def require(condition: Any, hint: str) -> None:
    """Raise ``Wrong(hint)`` unless ``condition`` holds."""
    if not bool(condition):
        raise Wrong(hint)
