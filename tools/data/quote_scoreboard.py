"""Write what the committed scoreboard found into ``helpers/data/scoreboard.json``, for the chapters to quote.

    python tools/data/quote_scoreboard.py

``helpers.scoring.board()`` reads it. Nothing is run: the numbers are those in the outputs of ``book/scoreboard.ipynb``.
"""

import json
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "book" / "scoreboard.ipynb"
QUOTED = ROOT / "helpers" / "data" / "scoreboard.json"
KEY = "scoreboard"  # in the metadata of an output, which neither pages nor Jupyter show


def quote(notebook: nbformat.NotebookNode) -> str:
    """The file's text, a line for each method, five decimals."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.metadata[KEY] for output in outputs if KEY in output.get("metadata", {})]
    if len(found) != 1:
        raise ValueError(f"expected one output with {KEY!r} in its metadata, got {len(found)}: run the notebook first.")
    methods = found[0].pop("methods")
    rows = {name: {key: [round(x, 5) for x in score] for key, score in row.items()} for name, row in methods.items()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    return json.dumps(found[0])[:-1] + ', "methods": {\n' + lines + "\n}}\n"


if __name__ == "__main__":
    QUOTED.write_text(quote(nbformat.read(NOTEBOOK, as_version=4)), encoding="utf-8")
    print(f"{QUOTED.relative_to(ROOT)} is that of {NOTEBOOK.relative_to(ROOT)}.")
