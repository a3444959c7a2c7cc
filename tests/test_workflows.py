"""What runs on GitHub: valid workflows that call the same targets as everybody, and the scripts that they call."""

import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
SCHEMA = json.loads(
    (resources.files("check_jsonschema") / "builtin_schemas/vendor/github-workflows.json").read_text(encoding="utf-8")
)


def _load(path: Path) -> dict:
    """BaseLoader, since `on` would be a boolean."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def _steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} == {"check", "weekly"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_is_valid(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_the_schema_refuses_a_wrong_workflow() -> None:
    wrong = {"on": "push", "jobs": {"check": {"steps": [{"run": "true"}]}}}  # on no machine
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_asks_for_little_and_ends(path: Path) -> None:
    workflow = _load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert int(job["timeout-minutes"]) <= 90, name
    for step in _steps(workflow):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v1")), "GitHub's own actions only"
        for variable in re.findall(r"\$\{\{\s*(github\.[\w.]+)", step.get("run", "")):
            raise AssertionError(f"{variable} is pasted into a shell")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_calls_what_is_there(path: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    commands = " ".join(step.get("run", "") for step in _steps(_load(path)))
    for target in re.findall(r"make ([a-z-]+)", commands):
        assert target in targets
    called = re.findall(r"(\.ci/\w+|tools/[\w/]+\.py)", commands)
    assert called
    for name in called:
        assert (ROOT / name).exists(), name
        assert name.startswith("tools/") or os.access(ROOT / name, os.X_OK), f"{name} can't be started"


def test_every_weekly_job_reports_its_failure() -> None:
    for name, job in _load(ROOT / ".github/workflows/weekly.yml")["jobs"].items():
        last = job["steps"][-1]
        assert last["if"] == "failure()" and last["run"].startswith(".ci/open_issue "), name
        assert job["permissions"]["issues"] == "write", name


def _git(folder: Path, *command: str) -> str:
    run = subprocess.run(["git", "-C", folder, *command], check=True, capture_output=True, text=True)
    return run.stdout.strip()


def test_copies_are_the_only_commit_of_their_branch(tmp_path: Path) -> None:
    remote, site = tmp_path / "remote.git", tmp_path / "si te"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    for number in range(2):  # also over what is there
        for name in ("notebooks/05.ipynb", "book/scoreboard.ipynb", "notebooks/05.html", "_static/x.ipynb"):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_text(f"{number}")
        run = subprocess.run([ROOT / ".ci/push_copies", site, remote], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert _git(remote, "ls-tree", "-r", "--name-only", "colab").split() == [
            "book/scoreboard.ipynb",
            "notebooks/05.ipynb",
        ]
        assert _git(remote, "show", "colab:notebooks/05.ipynb") == f"{number}"
        assert _git(remote, "rev-list", "--count", "colab") == "1"


@pytest.mark.parametrize(("open_issues", "expected"), [("", "issue create"), ("7", "issue comment 7")])
def test_one_issue_for_one_fault(tmp_path: Path, open_issues: str, expected: str) -> None:
    said, program = tmp_path / "said", tmp_path / "gh"
    program.write_text(f'#!/bin/sh\ncase "$2" in list) echo "{open_issues}";; *) echo "$@" > "{said}";; esac\n')
    program.chmod(0o755)
    github = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "owner/name", "GITHUB_RUN_ID": "12"}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([ROOT / ".ci/open_issue", "It broke"], env=os.environ | github | {"PATH": path}, check=True)
    assert said.read_text().startswith(expected)
    assert "https://github.com/owner/name/actions/runs/12" in said.read_text()
