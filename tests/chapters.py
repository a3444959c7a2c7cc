"""The chapters, and nbval on a notebook of one's own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKED = "nbval-check-output"


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess:
    """Run it as `make nbval` does."""
    command = [sys.executable, "-m", "pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["-p", "tools.release.compare_numbers", *options, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HELPERS_DARK_FIGURES": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, env=environment)
