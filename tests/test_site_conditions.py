"""Builds under hard conditions, each in a copy of the repository: they work, or stop with a clear message."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from clones import ROOT, copy_to, tracked

TINY = """import matplotlib.pyplot as plt
from helpers import figures, models, photos

classifier = models.load()
image = photos.load("coffee")
print(f"{classifier.predict(image, k=1)[0][1]:.1f}")
figures.show(plt.figure(figsize=(2, 2)), alt="A figure that is empty.")"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The repository in a folder with a space and an umlaut; with the installed packages and all that was executed."""
    place = copy_to(tmp_path / "a cöpy of it")
    (place / "node_modules").symlink_to(ROOT / "node_modules")
    for folder in ("notebooks", "book"):
        (place / "_build" / folder).mkdir(parents=True)
        for path in (ROOT / "_build" / folder).glob("*.ipynb"):
            shutil.copy(path, place / "_build" / folder)  # with a new time: nothing is to be executed again
    shutil.copy(ROOT / "_build/front_demo.json", place / "_build")
    shutil.copytree(ROOT / "_build/playground", place / "_build/playground", copy_function=shutil.copy)
    return place


@pytest.fixture(autouse=True)
def nothing_committed_changes(clone: Path):
    before = _digests(clone)
    yield
    assert _digests(clone) == before


def _digests(place: Path) -> dict[str, str]:
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in tracked()}


def _surroundings(**changes: str | None) -> dict[str, str]:
    """The environment of this process with some variables changed, or without them where the value is None."""
    kept = os.environ | {"BOOK_REPOSITORY": ""} | changes
    return {name: value for name, value in kept.items() if value is not None}


def _make(clone: Path, *words: str, before: tuple[str, ...] = (), **changes: str | None) -> subprocess.Popen:
    command = [*before, "make", *words, f"PYTHON={sys.executable}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, cwd=clone, env=_surroundings(**changes), **pipes)


def _pages(clone: Path) -> dict[str, str]:
    folder = clone / "_build/html"
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}


NO_UTF8 = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None}


def test_no_network_path_with_spaces_plain_ascii_locale_no_home_and_an_address(clone: Path) -> None:
    """The ten chapters run with the network cut, too: in `make nbval`."""
    cut, address = (
        (sys.executable, "tools/release/offline.py"),
        {"BOOK_REPOSITORY": "owner/name", "BOOK_BRANCH": "main"},
    )
    build = _make(clone, "book", before=cut, HOME=None, **address, **NO_UTF8)
    output = build.communicate(timeout=300)[0]
    assert build.returncode == 0, output
    assert output.startswith("The network is cut")
    pages = _pages(clone)
    assert "Öztireli" in pages["book/references.html"]
    for path in (clone / "notebooks").glob("*.ipynb"):
        page = pages[f"notebooks/{path.stem}.html"]
        colab = f"https://colab.research.google.com/github/owner/name/blob/colab/notebooks/{path.name}"
        binder = f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/{path.name}"
        assert page.count(f'href="{colab}"') == page.count(f'href="{binder}"') == 2  # in the head and under the title
        assert f'href="https://github.com/owner/name/edit/main/notebooks/{path.name}"' in page
        copied = nbformat.read(clone / "_build/html/notebooks" / path.name, as_version=4)
        assert any("git+https://github.com/owner/name@" in cell.source for cell in copied.cells)
    assert not [name for name, page in pages.items() if "blob/main/notebooks" in page]


def test_two_builds_at_once_with_no_address_and_a_read_only_home(clone: Path) -> None:
    home = clone.parent / "home"
    home.mkdir(mode=0o500)
    place = str(home) if os.geteuid() else "/proc/1"  # root may write anywhere but here
    builds = [_make(clone, "site", HOME=place) for _ in range(2)]
    outputs = [build.communicate(timeout=300)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], outputs
    assert sum("waiting until it is done" in output for output in outputs) == 1
    pages = _pages(clone)
    assert len(pages) > 20
    for name, page in pages.items():
        assert not re.search(r"colab\.research|mybinder|github\.com/[\w.-]+/[\w.-]+/(edit|issues)", page), name


def test_a_killed_build_can_be_run_again(clone: Path) -> None:
    build = _make(clone, "site")
    deadline = time.monotonic() + 120
    while not (clone / "_build/jupyter-book/_build").exists():
        assert build.poll() is None and time.monotonic() < deadline, "the build ended before it could be killed"
        time.sleep(0.05)
    os.killpg(build.pid, signal.SIGKILL)
    build.communicate()
    assert not (clone / "_build/html").exists()
    again = _make(clone, "site")
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert len(_pages(clone)) > 20


@pytest.mark.parametrize(
    "changes",
    [NO_UTF8 | {"HOME": None}, {"HOME": "/proc/1"}, {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8"}],
    ids=["ascii, no home", "read-only home", "decimal comma"],
)
def test_a_notebook_runs(clone: Path, changes: dict[str, str | None]) -> None:
    """Without a network, too. Its numbers have a point, and nothing is written beside it."""
    if changes.get("LC_ALL", "").startswith("de"):
        changes = changes | _german(clone.parent)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TINY)])
    folder = clone.parent / "söme where"
    folder.mkdir()
    nbformat.write(notebook, folder / "tiny.ipynb")
    tools = [sys.executable, clone / "tools/release/offline.py", sys.executable, clone / "tools/site/execute.py"]
    command = [*tools, folder / "tiny.ipynb", folder / "done.ipynb"]
    run = subprocess.run(command, env=_surroundings(**changes), cwd=clone, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    outputs = nbformat.read(folder / "done.ipynb", as_version=4).cells[0].outputs
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert re.fullmatch(r"0\.\d\n", printed)
    assert "image/png" in str(outputs)
    assert sorted(path.name for path in folder.iterdir()) == ["done.ipynb", "tiny.ipynb"]


def _german(folder: Path) -> dict[str, str]:
    """Where the system has no German locale, one of our own; a skip where it has no sources for that."""
    if "de_DE.utf8" in subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout:
        return {}
    command = ["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "de_DE.UTF-8"]
    if shutil.which("localedef") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this system has no German locale, and nothing to make one from (Debian: locales)")
    return {"LOCPATH": str(folder)}


def test_a_python_that_is_too_old_is_named(clone: Path) -> None:
    (clone / ".venv").unlink()
    old = clone.parent / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(["make", "book", f"PYTHON={old}"], cwd=clone, capture_output=True, text=True)
    assert run.returncode != 0
    assert "Python 3.11 or newer is needed" in run.stdout
