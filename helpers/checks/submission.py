"""The process in which a submitted notebook runs: its cells once, then its functions, as often as the grader calls.

Started by ``grading`` as ``python -m helpers.checks.submission DESCRIPTOR CELLS``. What comes in is the grader's and is
unpickled; what goes out is the submission's, and therefore only numbers, text and containers of them.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from IPython.core.interactiveshell import InteractiveShell

from .answers import Wrong, call


def plain(value: Any) -> Any:
    """The value with tensors on the CPU and arrays as tensors; ``Wrong`` for what is neither number, text nor these."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous()
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value))
    if isinstance(value, list | tuple):
        return type(value)([plain(part) for part in value]) if type(value) in (list, tuple) else list(map(plain, value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise Wrong(f"It returns a {type(value).__name__}; numbers are expected.")


def main(descriptor: int, cells: Path) -> None:
    """Run the cells, whatever they raise, and answer calls until the grader hangs up."""
    shell = InteractiveShell.instance()
    for source in json.loads(cells.read_text(encoding="utf-8")):
        shell.run_cell(source)
    with Connection(descriptor) as grader:
        grader.send_bytes(b"ready")
        while True:
            try:
                name, form, arguments, options = pickle.loads(grader.recv_bytes())
            except EOFError:
                return
            try:
                if name not in shell.user_ns:
                    raise Wrong(f"The notebook defines no {name}.")
                if not callable(shell.user_ns[name]):
                    raise Wrong(f"{name} is a {type(shell.user_ns[name]).__name__}, not a function.")
                reply = {"value": plain(call(shell.user_ns[name], form, arguments, options))}
            except Wrong as wrong:
                reply = {"wrong": str(wrong)}
            buffer = io.BytesIO()
            torch.save(reply, buffer)
            grader.send_bytes(buffer.getvalue())


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
