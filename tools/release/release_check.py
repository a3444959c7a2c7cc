"""Is this commit fit for a release? ``make release-check`` runs the tests and the stand-ins, and then this.

Prints a line for each point. A point that can't be looked at here is named as such, and is no success: the last line
counts them. The exit status is 1 if a point fails.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import yaml
from packaging.version import Version
from PIL import Image
from pybtex.database import parse_file

import helpers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "site"))
from address import ROOT, find  # noqa: E402
from normalise import faults  # noqa: E402

SHADE = 3.0  # mean difference of two drawings of one figure, of 255, that two machines may make
NOTEBOOKS = [*sorted(ROOT.glob("notebooks/*.ipynb")), *sorted(ROOT.glob("book/*.ipynb"))]
SLOW = {"colab": "environments/colab.json", "lowest": "environments/lowest.json", "portable": "portable.json"}
CHECKED = ("helpers", "notebooks", "pyproject.toml", "environment.yml", "tools/release/colab.txt")  # what these try out


class NotHere(Exception):
    """What this point needs can't be had on this machine."""


def run(*command: str | Path, **options) -> str:
    """What the command prints; AssertionError with the end of it where it fails."""
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def clean_tree() -> str:
    """Nothing is changed or missing in the working tree."""
    changes = run("git", "-C", ROOT, "status", "--porcelain")
    assert not changes, f"not committed:\n{changes}"
    return run("git", "-C", ROOT, "rev-parse", "--short", "HEAD").strip()


def version() -> str:
    """The version stands in one place, heads the release notes, and is above every tag."""
    here = Version(helpers.__version__)
    notes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = re.search(r"(?m)^## (?:Unreleased: )?([\d.]+)", notes)
    assert latest and Version(latest[1]) == here, f"the first heading of CHANGELOG.md must be of version {here}"
    tags = run("git", "-C", ROOT, "tag", "--list", "v*").split()
    assert all(Version(tag) < here for tag in tags), f"version {here} is not above {tags}"
    return str(here)


def slow_checks() -> str:
    """The release notes hold the date of the last result of each slow target, and it was a run of this code."""
    notes, found = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), []
    for name, file in SLOW.items():
        path = ROOT / "_build" / file
        assert path.exists(), f"`make {name}` has not run here"
        result = json.loads(path.read_text())
        changed = run("git", "-C", ROOT, "diff", "--name-only", result["commit"], "HEAD", "--", *CHECKED)
        assert not changed, f"`make {name}` ran before these changed:\n{changed}"
        assert re.search(rf"\| `make {name}` \| {result['date']} \|", notes), f"no row of {result['date']} for {name}"
        found.append(f"{name} {result['date']}")
    return ", ".join(found)


def notebooks() -> str:
    """Each notebook's committed outputs are those of the last run: text, and figures up to how machines draw them."""
    for path in NOTEBOOKS:
        committed = nbformat.read(path, as_version=4)
        ran = nbformat.read(ROOT / "_build" / path.relative_to(ROOT), as_version=4)
        assert not faults(committed), f"{path.name}: {faults(committed)}"
        code = [[cell for cell in one.cells if cell.cell_type == "code"] for one in (committed, ran)]
        assert [cell.source for cell in code[0]] == [cell.source for cell in code[1]], f"{path.name} was changed"
        for number, (ours, theirs) in enumerate(zip(*code)):
            assert len(pictures(ours)) == len(pictures(theirs)), (
                f"{path.name}, cell {number}: another number of figures"
            )
            for one, other in zip(pictures(ours), pictures(theirs)):
                assert one.shape == other.shape and np.abs(one - other).mean() < SHADE, (
                    f"{path.name}: a figure of code cell {number} is not that of the last run: `make refresh`"
                )
    return f"{len(NOTEBOOKS)} notebooks"


def pictures(cell: nbformat.NotebookNode) -> list[np.ndarray]:
    """The figures among a cell's outputs, as pixels."""
    bundles = [output.get("data", {}) for output in cell.outputs]
    data = [bundle[kind] for bundle in bundles for kind in bundle if kind.startswith("image/")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB"), dtype=float) for one in data]


def citations() -> str:
    """CITATION.cff fits its schema and names this repository; every work has authors, a title and a year."""
    schema = ["--builtin-schema", "vendor.citation-file-format"]
    run(sys.executable, "-m", "check_jsonschema", *schema, ROOT / "CITATION.cff")
    works = parse_file(ROOT / "book/references.bib").entries
    for key, work in works.items():
        assert work.fields.get("year") and work.fields.get("title") and work.persons.get("author"), key
    address, named = find(), yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8")).get("repository-code")
    if address is None:
        raise NotHere(f"{len(works)} works and the schema are right; no git remote to compare repository-code with")
    assert named == address.url, f"CITATION.cff must have `repository-code: {address.url}`, it has {named}"
    return f"{len(works)} works, {named}"


def wheel() -> str:
    """The wheel of `helpers` builds, installs alone, and passes the package's tests away from the repository."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
        run("git", "clone", "--quiet", ROOT, place / "source")  # setuptools leaves a folder behind
        run(sys.executable, *pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", place, place / "source")
        (built,) = place.glob("*.whl")
        run(sys.executable, "-m", "venv", place / "venv")
        inside = place / "venv/bin/python"
        site = run(inside, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        installed = run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # The other packages of .venv, without what makes this repository importable there.
        (Path(site) / "others.pth").write_text(installed + "\n")
        run(inside, *pip, "install", "--no-deps", "--force-reinstall", built)
        where = run(inside, "-c", "import helpers; print(helpers.__file__)", cwd=place)
        assert where.startswith(site), f"helpers came from {where}"
        modules = {path.stem for path in (ROOT / "helpers").glob("*.py")} - {"__init__"} | {"figures"}
        tests = [path for path in ROOT.glob("tests/test_*.py") if path.stem.removeprefix("test_") in modules]
        for name in ("tests", "tools", "notebooks"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        names = [f"tests/{path.name}" for path in tests]
        output = run(inside, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", *names, cwd=place)
        return f"{built.name}: {output.strip().splitlines()[-1]}"


def commands() -> str:
    """README's way into the notebooks, in a fresh clone: pip installs everything, and JupyterLab starts."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"(?ms)^```bash\n(.*?)^```$", text) if "-m venv" in block)
    server = "jupyter lab notebooks/"
    assert block.rstrip().endswith(server), block
    started = (
        f"({server} --no-browser --allow-root --port 0 > log 2>&1 &)\nsleep 20; cat log; jupyter server stop 0 || true"
    )
    with tempfile.TemporaryDirectory() as folder:
        run("git", "clone", "--quiet", ROOT, Path(folder) / "book")
        output = run("bash", "-ec", block.replace(server, started), cwd=Path(folder) / "book")
    assert re.search(r"http://(localhost|127\.0\.0\.1):\d+/lab", output), output[-3000:]
    return "JupyterLab started"


def advisories() -> str:
    """No known vulnerability in what is pinned (pip-audit)."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", folder)
        inside = Path(folder) / "bin/python"
        run(inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pip-audit")
        options = ["--no-deps", "--disable-pip", "--format", "json"]
        command = [inside, "-m", "pip_audit", "--requirement", ROOT / "requirements.txt", *options]
        result = subprocess.run(command, capture_output=True, text=True)
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        raise NotHere(f"the advisories can't be reached: {result.stderr.strip().splitlines()[-1:]}") from None
    # pip-audit calls it a success when it could look up nothing at all.
    if skipped := [one["name"] for one in packages if "skip_reason" in one]:
        raise NotHere(f"{len(skipped)} of {len(packages)} packages could not be looked up")
    known = {one["name"]: [fault["id"] for fault in one["vulns"]] for one in packages if one.get("vulns")}
    assert not known, f"known vulnerabilities: {known}"
    return f"{len(packages)} packages"


def outside_links() -> str:
    """Every link that leads out of the book was followed, and leads somewhere."""
    assert (ROOT / "tools/release/links.py").exists()
    result = subprocess.run(
        [sys.executable, ROOT / "tools/release/links.py", "--check"], capture_output=True, text=True
    )
    if result.returncode == 2:
        raise NotHere("no outside link can be followed: there is no network")
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout.strip().splitlines()[-1]


POINTS: tuple[Callable[[], str], ...] = (
    clean_tree,
    version,
    notebooks,
    citations,
    slow_checks,
    wheel,
    commands,
    advisories,
    outside_links,
)


def main() -> int:
    os.chdir(ROOT)
    failed = missing = 0
    for point in POINTS:
        name = point.__name__.replace("_", " ")
        try:
            print(f"ok          {name}: {point()}", flush=True)
        except NotHere as reason:
            missing += 1
            print(f"NOT CHECKED {name}: {reason}", flush=True)
        except AssertionError as reason:
            failed += 1
            print(f"FAILED      {name}: {reason}", flush=True)
    print(f"{len(POINTS) - failed - missing} points are right, {failed} failed, {missing} could not be checked here.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
