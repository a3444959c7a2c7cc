"""Marks for submitted notebooks, which nobody has to trust.

A submission runs in a process of its own (``submission``), in a temporary folder, with limits on time, memory and the
size of files, beside a copy of ``helpers`` without the checkers. The checks run here. They call the submission's
functions through a pipe, and take back numbers and text, nothing else: what it prints, patches or deletes is lost.
It is no prison, though: the process has the rights of the user who grades, and could read any file or use the network.
Grade strangers in a container.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from helpers import CHAPTERS

from . import EXERCISES, Exercise, Result, find, judge
from .answers import Answer, Wrong

REPLY = 2**28  # bytes, the longest reply that is read
ELEMENTS = 2**26  # numbers and letters, the largest answer; a few bytes can stand for more than any memory holds
NOTEBOOK = 10**8  # bytes, the longest notebook
PACKAGE = Path(__file__).parent.parent


class Limits(NamedTuple):
    """What a submission may use."""

    cells: float = 600  # seconds for all cells together
    call: float = 60  # seconds for one call of a function
    memory: float = 8  # GiB


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What of a folder of the package a submission doesn't get: the checkers and this module."""
    checkers = {f"{name}.py" for name in CHAPTERS} | {"grading.py"}
    return {"__pycache__"} | (checkers if Path(folder) == Path(__file__).parent else set())


class Process:
    """A submission's process, from its start to the moment that it is killed, with all that it has started."""

    def __init__(self, sources: list[str], folder: Path, limits: Limits) -> None:
        self.limits = limits
        package = folder / "packages" / "helpers"
        shutil.copytree(PACKAGE, package, ignore=_left_out)
        (folder / "work").mkdir()
        cells = folder / "cells.json"
        cells.write_text(json.dumps(sources), encoding="utf-8")
        ours, theirs = socket.socketpair()
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
        places = {"HOME": str(folder / "work"), "TMPDIR": str(folder / "work"), "PYTHONPATH": str(package.parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "helpers.checks.submission", str(theirs.fileno()), str(cells)],
            cwd=folder / "work",
            env=kept | threads | places,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            preexec_fn=self._restrict,
        )
        theirs.close()
        self.socket, self.pipe = ours, Connection(os.dup(ours.fileno()))

    def _restrict(self) -> None:
        size = int(self.limits.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (size, size))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def ask(self, message: bytes | None, seconds: float) -> bytes:
        """Send a message, if there is one, and return the next one that comes.

        ``Wrong``, and the end of the process, where none comes in time. The clock shuts the socket, so that nothing
        that a submission writes, leaves half written or does not read can hold the grader up.
        """
        late = threading.Event()
        clock = threading.Timer(seconds, lambda: (late.set(), self.socket.shutdown(socket.SHUT_RDWR)))
        clock.start()
        try:
            if message is not None:
                self.pipe.send_bytes(message)
            return self.pipe.recv_bytes(REPLY)
        except (EOFError, OSError):
            self.stop()
            if late.is_set():
                raise Wrong(f"The submission took longer than {seconds:g} s.") from None
            raise Wrong("The submission ended before it answered (out of memory, or an exit).") from None
        finally:
            clock.cancel()

    def stop(self) -> None:
        """Kill the process and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.pipe.close()
        self.socket.close()


class Remote(Answer):
    """A function of the submission, called in its process."""

    def __init__(self, process: Process, asked: Exercise) -> None:
        self.process, self.asked = process, asked

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """What the function returns; ``Wrong`` where it raises, is missing, returns no numbers, or takes too long."""
        message = pickle.dumps((self.asked.name, self.asked.call, arguments, options))
        reply = self.process.ask(message, self.process.limits.call)
        try:
            found = torch.load(io.BytesIO(reply), weights_only=True)
            wrong, value = found.get("wrong"), found.get("value")
        except Exception as error:  # somebody wrote something else into the pipe
            raise Wrong("The submission's answer can't be read.") from error
        if _is_huge([wrong, value]):
            raise Wrong("The submission's answer is too large.")
        if wrong is not None:
            raise Wrong(str(wrong))
        return value


def _is_huge(value: Any) -> bool:
    """Whether it unfolds to more than `ELEMENTS`: a repeated tensor, or a list of lists of the same list."""
    left, waiting = ELEMENTS, [value]
    while waiting and left >= 0:
        part = waiting.pop()
        if isinstance(part, torch.Tensor):
            left -= part.numel()
        elif isinstance(part, str | bytes):
            left -= len(part)
        elif isinstance(part, list | tuple | set | dict):
            left -= 100 + len(part)  # a container costs something itself, so that the search ends soon
            inner = part.values() if isinstance(part, dict) else part
            waiting.extend(one for one in inner if not isinstance(one, bool | int | float))
    return left < 0


@contextmanager
def running(sources: list[str], limits: Limits) -> Iterator[Process]:
    """A submission whose cells have run; ``Wrong`` where they take too long or end the process."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = Process(sources, Path(folder), limits)
        try:
            process.ask(None, limits.cells)
            yield process
        finally:
            process.stop()


def grade(path: Path, *, chapter: int | None = None, limits: Limits | None = None) -> list[Result]:
    """Run a submitted notebook and check the three exercises of its chapter.

    Parameters
    ----------
    path
        The notebook.
    chapter
        Its chapter; by default that of the exercises that it checks itself, else the number its name begins with.
    limits
        Seconds and GiB that it may use. An exercise that ends the process, or outlasts the limit, gets no marks; the
        next one has a fresh process.

    Raises
    ------
    ValueError
        The file is no notebook, or its chapter can't be told.
    """
    limits = limits or Limits()
    sources = _sources(path)
    chapter = chapter or _chapter(path, sources)
    waiting, results = [f"{chapter}.{number}" for number in range(1, EXERCISES + 1)], []
    while waiting:
        try:
            with running(sources, limits) as process:
                while waiting and process.process.poll() is None:
                    label = waiting.pop(0)
                    results.append(judge(label, Remote(process, find(label))))
        except Wrong as wrong:  # the cells themselves
            return results + [Result(label, False, str(wrong)) for label in waiting]
    return results


def _sources(path: Path) -> list[str]:
    try:
        if not path.is_file() or path.stat().st_size > NOTEBOOK:  # a pipe or a device might have no end
            raise ValueError("it is not there, no file, or too long")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no notebook that can be read: {error!r}.") from error


def _chapter(path: Path, sources: list[str]) -> int:
    labels = Counter(re.findall(r"""check\(\s*["'](\d+)\.\d""", "\n".join(sources)))
    name = re.match(r"\d+", path.name)
    found = labels.most_common(1)[0][0] if labels else name.group() if name else ""
    if found.lstrip("0") not in map(str, range(1, 11)):
        raise ValueError(f"{path} does not tell its chapter: give it with --chapter.")
    return int(found)
