"""The chapters, and nbval on a notebook of one's own."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import solutions

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKED = "nbval-check-output"


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess:
    """Run it as `make nbval` does."""
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-p", "tools.release.compare_numbers", *options, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HELPERS_DARK_FIGURES": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=environment)


def from_chapter(name, *functions):
    """The functions as they stand in the chapter's cells, with all that the chapter imports."""
    space = {}
    for cell in json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            source = solutions.plain("".join(cell["source"]))
            wanted = [
                node
                for node in ast.parse(source).body
                if isinstance(node, ast.Import | ast.ImportFrom)
                or (isinstance(node, ast.FunctionDef) and node.name in functions)
            ]
            exec(compile(ast.Module(wanted, []), name, "exec"), space)  # noqa: S102
    assert set(functions) <= space.keys()
    return space
