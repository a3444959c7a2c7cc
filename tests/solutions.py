"""The worked solutions of the notebooks as functions, and mutants of them."""

from __future__ import annotations

import ast
import builtins
import copy
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def plain(source: str) -> str:
    """A cell's code as Python: `%pip` and the like become calls."""
    return TransformerManager().transform_cell(source)


@functools.cache
def statements(chapter: int) -> tuple[ast.stmt, ...]:
    """Every statement at the top level of a chapter's code, in order."""
    (path,) = NOTEBOOKS.glob(f"{chapter:02}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    sources = [plain(cell.source) for cell in cells if cell.cell_type == "code"]
    return tuple(statement for source in sources for statement in ast.parse(source).body)


def names(statement: ast.stmt) -> set[str]:
    """The names that a statement defines."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}


def _uses(statement: ast.stmt) -> set[str]:
    """The names that a statement reads and does not make itself: parameters, local variables and builtins left out."""
    nodes = list(ast.walk(statement))
    read = [node for node in nodes if isinstance(node, ast.Name)]
    local = {node.arg for node in nodes if isinstance(node, ast.arg)}
    if isinstance(statement, ast.FunctionDef):
        local |= {node.id for node in read if isinstance(node.ctx, ast.Store)}
    return {node.id for node in read if isinstance(node.ctx, ast.Load)} - local - set(dir(builtins))


def definition(chapter: int, name: str) -> ast.FunctionDef:
    """The function of this name in the chapter; the last one, if it is written twice."""
    found = [one for one in statements(chapter) if isinstance(one, ast.FunctionDef) and one.name == name]
    if not found:
        raise LookupError(f"chapter {chapter} defines no function {name}")
    return found[-1]


def _needs(chapter: int, function: ast.stmt) -> list[ast.stmt]:
    """The statements of the chapter that define what ``function`` uses, and what these use, in order."""
    wanted, kept = [function], set()
    while wanted:
        used = _uses(wanted.pop())
        for index, statement in enumerate(statements(chapter)):
            if index not in kept and names(statement) & used:
                kept.add(index)
                wanted.append(statement)
    return [statements(chapter)[index] for index in sorted(kept)]


def compiled(chapter: int, function: ast.FunctionDef) -> Callable:
    """The function, alive, in a namespace that holds what it needs of its chapter and nothing else."""
    space: dict[str, Any] = {}
    module = ast.Module([*_needs(chapter, function), function], [])
    exec(compile(ast.fix_missing_locations(module), f"chapter {chapter}", "exec"), space)
    return space[function.name]


def solution(label: str, name: str) -> Callable:
    """The worked solution of an exercise."""
    chapter = int(label.partition(".")[0])
    return compiled(chapter, definition(chapter, name))


_SWAPS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_CALLS = {
    "argmax": "argmin",
    "argmin": "argmax",
    "mean": "sum",
    "sum": "mean",
    "amax": "amin",
    "max": "min",
    "min": "max",
}
_DROPPED = {"abs", "clamp", "relu", "softmax", "sqrt", "square", "clone", "sign", "double"}


def mutants(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The function with one thing changed: what was changed, and the changed function."""
    for index, node in enumerate(ast.walk(function)):
        changes: list[tuple[str, Callable[[ast.AST], None]]] = []
        for field in ("op", "ops"):
            operators = getattr(node, field, None)
            for place, operator in enumerate(operators if isinstance(operators, list) else [operators]):
                other = _SWAPS.get(type(operator))
                if other and field == "op":
                    changes.append(
                        (f"{type(operator).__name__} to {other.__name__}", lambda n, o=other: setattr(n, "op", o()))
                    )
                elif other:
                    changes.append(
                        (
                            f"{type(operator).__name__} to {other.__name__}",
                            lambda n, o=other, p=place: n.ops.__setitem__(p, o()),
                        )
                    )
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            changes.append((f"{node.value} plus 1", lambda n: setattr(n, "value", n.value + 1)))
            if node.value:
                changes.append((f"{node.value} to 0", lambda n: setattr(n, "value", 0)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _CALLS:
                changes.append((f"{node.func.attr} swapped", lambda n: setattr(n.func, "attr", _CALLS[n.func.attr])))
            if node.func.attr in _DROPPED:
                changes.append((f"{node.func.attr} dropped", _drop))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            changes.append(("minus dropped", lambda n: setattr(n, "op", ast.UAdd())))
        for name, change in changes:
            mutant = copy.deepcopy(function)
            change(next(other for place, other in enumerate(ast.walk(mutant)) if place == index))
            yield f"line {getattr(node, 'lineno', 0)}: {name}", mutant


def _drop(node: ast.AST) -> None:
    """Turn the call ``x.method(…)`` into ``x.view_as(x)``, which changes nothing (and is no copy)."""
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    node.args, node.keywords = [node.func.value], []
    node.func = ast.Attribute(node.func.value, "view_as", ast.Load())
