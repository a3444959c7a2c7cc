"""Run one notebook from top to bottom for the site: ``execute.py SOURCE DESTINATION``.

Prints a line for each cell while it runs. Fails, and writes nothing, if a cell fails. Figures come with a drawing for
dark pages; progress bars stay off, since a page cannot show them move.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

LIMIT = 600  # seconds for one cell


def execute(source: Path, destination: Path) -> None:
    """Run ``source`` in its own folder and write it, with outputs, to ``destination``."""
    notebook = nbformat.read(source, as_version=4)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    started, done = time.perf_counter(), 0

    def report(cell, cell_index, **_) -> None:
        nonlocal done
        done += 1
        seconds = time.perf_counter() - started
        end = "\r" if sys.stdout.isatty() and done < cells else "\n"
        if end == "\r" or done in (1, cells) or done % 5 == 0:
            print(f"{source.name}: cell {done} of {cells}, {seconds:.0f} s", end=end, flush=True)

    os.environ |= {"HELPERS_DARK_FIGURES": "1", "TQDM_DISABLE": "1"}
    # Large tensors stay with the process: glibc would return each to the system, and fetch it again at the next layer.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
    client = NotebookClient(
        notebook,
        timeout=LIMIT,
        kernel_name="python3",
        resources={"metadata": {"path": str(source.parent)}},
        on_cell_executed=report,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],  # each kernel would warn that it listens on a local port
        store_widget_state=False,  # demos put what their page needs into their output
    )
    try:
        client.execute()
    except CellExecutionError as error:
        sys.exit(f"\n{source} failed:\n{error}")
    notebook.metadata["execution_seconds"] = round(time.perf_counter() - started, 1)
    destination.parent.mkdir(parents=True, exist_ok=True)
    unfinished = destination.with_suffix(f".{os.getpid()}.part")
    nbformat.write(notebook, unfinished)
    unfinished.replace(destination)  # in one step: another build may read or write it


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    execute(Path(sys.argv[1]), Path(sys.argv[2]))
