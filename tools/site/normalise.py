"""Write the outputs of executed notebooks back into the committed ones: ``normalise.py notebooks/NAME.ipynb …``.

Takes ``_build/notebooks/NAME.ipynb``, drops what a commit must not hold (demos but for their sentence, the drawings for
dark pages, timings), and refuses a run that is not whole.
"""

import sys
from pathlib import Path

import nbformat

LIMIT = 1_500_000  # bytes
DARK = "application/vnd.helpers.dark+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
PAGE = "application/vnd.helpers.demo+json"
METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """What must not be committed: cells that never ran or ran in another order, errors, widgets, dark drawings."""
    found, expected = [], 1
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if cell.execution_count != expected:
            found.append(f"cell {number} has execution count {cell.execution_count}, expected {expected}")
        expected += 1
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {number} ended in {output.ename}")
            for kind in {DARK, WIDGET, PAGE} & set(output.get("data", {})):
                found.append(f"cell {number} holds an output of type {kind}")
            if output.get("name") == "stderr":
                found.append(f"cell {number} wrote to stderr: {output.text[:80]!r}")
    if "widgets" in notebook.metadata:
        found.append("the notebook holds widget state")
    return found


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what a commit must not hold, and join what a cell printed: where it is cut depends on the second."""
    language = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    notebook.metadata = nbformat.from_dict(METADATA | {"language_info": language})
    for cell in notebook.cells:
        keep = {key: cell.metadata[key] for key in ("tags", "nbval", "slideshow") if cell.metadata.get(key)}
        cell.metadata = nbformat.from_dict(keep)
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in cell.outputs:
            for kind in (DARK, WIDGET, PAGE):
                output.get("data", {}).pop(kind, None)
            if output.get("name") and outputs and outputs[-1].get("name") == output.name:
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        cell.outputs = outputs


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        notebook = nbformat.read(Path("_build") / path, as_version=4)
        clean(notebook)
        if found := faults(notebook):
            sys.exit(f"{path} is not written:\n  " + "\n  ".join(found))
        text = nbformat.writes(notebook) + "\n"
        if len(text.encode()) > LIMIT:
            sys.exit(f"{path} is not written: {len(text.encode()):,} bytes, at most {LIMIT:,}.")
        path.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
