"""Write the student edition: the chapters with a stub in the place of each solution.

A solution is what stands in cells tagged `solution`, from `{solution-start}` to `{solution-end}`. In its place comes
the head of the function that the exercise asks for, with a body that raises NotImplementedError. The checks stay.
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path

import nbformat
from address import find
from nbformat import NotebookNode
from standalone_notebooks import standalone

from helpers import checks

ROOT = Path(__file__).resolve().parents[2]


def is_solution(cell: NotebookNode) -> bool:
    """Whether students do not get this cell."""
    return "solution" in cell.metadata.get("tags", [])


def stub(label: str, cells: list[NotebookNode]) -> str:
    """The function that exercise ``label`` asks for, without its body, taken from the solution's cells."""
    wanted = checks.find(label)
    for cell in cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.FunctionDef) and node.name == wanted.name:
                    body = f"raise NotImplementedError({wanted.wants!r})"
                    return f"def {node.name}({ast.unparse(node.args)}):\n    {body}"
    raise ValueError(f"the solution of {label} defines no function {wanted.name}.")


def for_students(notebook: NotebookNode) -> NotebookNode:
    """A copy of a chapter, each solution replaced by a stub; without the outputs of the checks."""
    result = nbformat.from_dict(notebook)
    result.cells, solution = [], []
    for cell in notebook.cells:
        if is_solution(cell):
            solution.append(cell)
            continue
        check = re.match(r'_ = check\("(\d+\.\d)"', cell.source) if cell.cell_type == "code" else None
        if check:
            result.cells.append(nbformat.v4.new_code_cell(stub(check[1], solution)))
            cell, solution = nbformat.from_dict(cell), []
            cell.outputs, cell.execution_count = [], None
        elif solution:
            raise ValueError(f"no check follows the solution that ends before: {cell.source[:60]!r}")
        result.cells.append(cell)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path, nargs="?", default=ROOT / "student", help="folder (default: student)")
    target = parser.parse_args().target
    target.mkdir(parents=True, exist_ok=True)
    address = find()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        edition = for_students(nbformat.read(path, as_version=4))
        nbformat.write(standalone(edition, f"notebooks/{path.name}", address), target / path.name)
        print(target / path.name)


if __name__ == "__main__":
    main()
