"""Run every chapter in an environment like another one: ``run_in_environment.py colab`` or ``… lowest``.

``colab``   Colab's packages (colab.txt) and nothing of this book: the set-up cell must install it from a git remote,
            here a clone on this disk, and leave torch, torchvision and numpy as they are.
``lowest``  environment.yml at its lowest allowed versions, each conda name replaced by that of PyPI: what Binder could
            get in the worst case.

Needs a network for pip, 8 GB of disk and half an hour. The environments stay in _build/environments for the next time.
The result, with the date and the versions, is written beside them; the release notes quote it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import yaml
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "site"))
from address import ROOT  # noqa: E402
from standalone_notebooks import name_source  # noqa: E402

PLACE = ROOT / "_build/environments"
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
KEPT = ("torch", "torchvision", "numpy")
LIMIT = 60  # seconds for the set-up cell


def environment() -> dict[str, Requirement]:
    """What environment.yml asks for, by the names of PyPI; without Python, pip and this book itself."""
    items = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(item["pip"] for item in items if isinstance(item, dict))
    texts = [item for item in [*items, *pip] if isinstance(item, str) and not item.startswith("-")]
    wanted = [Requirement(text) for text in texts]
    return {CONDA_NAMES.get(one.name, one.name): one for one in wanted if one.name not in ("python", "pip")}


def lowest() -> list[str]:
    """The lower bounds of environment.yml as exact versions."""
    return [
        f"{name}=={next(iter(wanted.specifier)).version}" if wanted.specifier else name
        for name, wanted in environment().items()
    ]


def works(python: str) -> str | None:
    """The path of this Python if it can be started, which a version manager's placeholder can't."""
    path = shutil.which(python)
    return path if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0 else None


def make(name: str, python: str, packages: list[str]) -> Path:
    """A virtual environment with these packages and nbclient; its Python."""
    place = PLACE / name
    if not (place / "made").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([python, "-m", "venv", place], check=True)
        print("Installing …", *packages, flush=True)
        pip = [place / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages, "nbclient"], check=True)
        (place / "made").touch()
    return place / "bin/python"


def versions(python: Path) -> dict[str, str]:
    command = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {one["name"].lower(): one["version"] for one in listed}


def run(python: Path, notebook: Path, work: Path, surroundings: dict[str, str]) -> float:
    """Seconds that the notebook took; not a number where a cell failed, whose error is printed."""
    begin = time.perf_counter()
    command = [python, ROOT / "tools/site/execute.py", notebook, work / "executed" / notebook.name]
    result = subprocess.run(command, env=os.environ | surroundings, capture_output=True, text=True)
    if result.returncode:
        print(f"{notebook.name} FAILED:\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}", flush=True)
        return math.nan
    seconds = time.perf_counter() - begin
    print(f"{notebook.name}: {seconds:.0f} s", flush=True)
    return round(seconds, 1)


def set_up(python: Path, notebook: Path, work: Path, surroundings: dict[str, str]) -> float:
    """Run the set-up cell alone, twice: it installs in time, says one line, and the second time does nothing."""
    short = nbformat.read(notebook, as_version=4)
    first = next(number for number, cell in enumerate(short.cells) if cell.cell_type == "code")
    del short.cells[first + 1 :]
    alone = work / "set_up.ipynb"
    nbformat.write(short, alone)
    times = [run(python, alone, work, surroundings) for _ in range(2)]
    outputs = nbformat.read(work / "executed/set_up.ipynb", as_version=4).cells[first].outputs
    lines = "".join(output.get("text", "") for output in outputs).splitlines()
    assert times[0] <= LIMIT, f"the set-up cell took {times[0]} s"
    assert len(lines) == 1, f"the set-up cell should say one line: {lines}"
    return times[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["colab", "lowest"])
    parser.add_argument("--python", help="default: python3.12 for colab, if there is one, else this one")
    parser.add_argument("--here", action="store_true", help="use the Python that runs this: inside Colab's own image")
    options = parser.parse_args()
    colab = options.name == "colab"
    python = options.python or (works("python3.12") if colab else None) or sys.executable
    listed = [line for line in (ROOT / "tools/release/colab.txt").read_text().splitlines() if not line.startswith("#")]
    inside = Path(sys.executable) if options.here else make(options.name, python, listed if colab else lowest())

    work = PLACE / f"{options.name}_work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "notebooks").mkdir(parents=True)
    clone = work / "remote.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, clone], check=True)
    commit = subprocess.run(["git", "-C", clone, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    package = f"git+file://{clone}@{commit}"
    subprocess.run([inside, "-m", "pip", "uninstall", "--quiet", "--yes", "visualizing-cnns"], check=True)
    surroundings = {"HOME": str(work / "home"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    if colab and not options.here:
        (work / "service/google/colab").mkdir(parents=True)  # how the book knows Colab
        (work / "service/google/colab/__init__.py").touch()
        surroundings["PYTHONPATH"] = str(work / "service")
    if not colab:
        subprocess.run([inside, "-m", "pip", "install", "--quiet", "--no-deps", package], check=True)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        name_source(notebook, package)
        nbformat.write(notebook, work / "notebooks" / path.name)

    before = versions(inside)
    notebooks = sorted((work / "notebooks").glob("*.ipynb"))
    result = {"date": datetime.date.today().isoformat(), "commit": commit}
    if colab:
        result["seconds of the set-up cell"] = set_up(inside, notebooks[0], work, surroundings)
    with ThreadPoolExecutor(2) as pool:
        seconds = list(pool.map(lambda path: run(inside, path, work, surroundings), notebooks))
    if failed := [path.name for path, one in zip(notebooks, seconds) if math.isnan(one)]:
        raise SystemExit(f"{len(failed)} of {len(notebooks)} failed: {', '.join(failed)}")
    after = versions(inside)
    changed = {name: (before[name], after.get(name)) for name in before if after.get(name) != before[name]}
    assert not set(changed) & set(KEPT), f"these should have been left alone: {changed}"
    result |= {"seconds": {path.stem: one for path, one in zip(notebooks, seconds)}, "changed": changed}
    result["versions"] = after
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / f"{options.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"All {len(notebooks)} notebooks ran. Versions changed by the set-up cell: {changed or 'none'}.")


if __name__ == "__main__":
    main()
