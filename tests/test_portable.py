"""The runs as on other CPUs: which ones, what counts as a failure, and the order of the closest calls."""

import json
import os
import subprocess
import sys
from pathlib import Path

import portable
import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", portable.configurations())
def test_each_configuration_starts(name: str) -> None:
    """NumPy refuses unknown features, PyTorch prints what it was held to."""
    code = "import numpy, torch; print(torch.backends.cpu.get_cpu_capability(), (numpy.ones(4) @ numpy.ones(4)).item())"
    variables = portable.configurations()[name]
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | variables, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    capability, product = run.stdout.split()
    asked = variables.get("ATEN_CPU_CAPABILITY")
    assert product == "4.0" and (asked is None or capability.lower() == asked)


def test_failures_are_read_from_the_report(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_right(): pass\ndef test_wrong(): assert 0\n")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", "test_some.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 1
    assert portable.failures(report) == ["test_some test_wrong"]
    assert portable.failures(tmp_path / "none.xml") == []


def _moved(line: str, committed: str, found: str, units: float, allowed: float, cell: int = 1) -> dict:
    return dict(notebook="05", cell=cell, line=line, committed=committed, found=found, units=units, allowed=allowed)


def test_the_closest_calls_come_first_and_once() -> None:
    results = {
        "SSE4": {"moved": [_moved("a 0.3 b", "0.2", "0.3", 1, 2), _moved("n 5", "4", "5", 1, 0, cell=2)], "failed": []},
        "AVX2": {"moved": [_moved("a 0.4 b", "0.2", "0.4", 2, 2), _moved("c 0.3", "0.2", "0.3", 1, 3)], "failed": []},
    }
    rows = portable.closest(results)
    assert [share for share, _ in rows] == [float("inf"), 1.0, pytest.approx(1 / 3)]
    assert "4 → 5 (SSE4)" in rows[0][1]
    assert "0.2 → 0.3 (SSE4); 0.4 (AVX2)" in rows[1][1]
    many = {"one": {"moved": [_moved(f"{n} 0.3", "0.2", "0.3", 1, n + 1, cell=n) for n in range(30)], "failed": []}}
    assert len(portable.closest(many)) == portable.CLOSEST


def test_what_failed_stands_in_the_table() -> None:
    results = {"SSE4": {"failed": ["test_x test_y"], "moved": [], "seconds": 120}}
    assert "| SSE4 | test_x test_y | 0 | 2 |" in portable.table(results)


def test_a_failure_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The status, the file with the result, the variables that the make targets get; no run is kept for the site."""
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)  # these tests, too, run as on other CPUs
    monkeypatch.setattr(portable, "ROOT", tmp_path)
    monkeypatch.setattr(portable, "PLACE", tmp_path / "_build/portable")
    unit, nbval = "$(ONE) sh -c 'test -z \"$$ATEN_CPU_CAPABILITY\"'", 'test -z "$(KEEP)"'
    (tmp_path / "Makefile").write_text(f"KEEP := it\nunit:\n\t@{unit}\nnbval:\n\t@{nbval}\n")
    for name, code in (("as it is", 0), ("SSE4", 1)):
        monkeypatch.setattr(sys, "argv", ["portable.py", name])
        assert portable.main() == code
        (result,) = json.loads((tmp_path / "_build/portable.json").read_text())["configurations"].values()
        assert bool(result["failed"]) == bool(code)
    assert "make unit ended with 2" in capsys.readouterr().out
