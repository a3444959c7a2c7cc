"""Every block of commands and code on the pages that tell how to run the book: run here, or listed with the reason.

A block is known by its page and its first words.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import solutions
from clones import ROOT, copy_to
from torchvision.utils import save_image

from helpers import photos

PAGES = ("README.md", "CONTRIBUTING.md", *(f"book/{name}.md" for name in ("index", "setup", "teaching")))
PAGES += ("book/beyond_one_machine.md",)
NOT_RUN = {
    ("README.md", "make book"): "this test is a part of `make test`, and that begins with what `make book` does",
    ("book/index.md", "make book"): "likewise",
    ("book/setup.md", "make book"): "likewise",
    ("README.md", "python3 -m venv"): "slow: a point of `make release-check`",
    ("book/setup.md", "python3 -m venv"): "the same commands as in README",
    (
        "book/setup.md",
        "conda env create",
    ): "another host, conda-forge: see `make lowest`",
    ("book/setup.md", 'classifier = models.load("resnet50")'): "another host, that of torchvision's weights",
    (
        "book/setup.md",
        'classifier = models.load("resnet50", weights',
    ): "likewise: see tests/test_models.py",
    ("book/teaching.md", "make slides pdf"): "this test is a part of `make test`, which makes both",
    ("CONTRIBUTING.md", '{"slide_type"'): "metadata of cells: see tests/test_site_slides.py",
    ("book/teaching.md", "OK_FORMAT"): "otter-grader, which the book does not need",
    ("book/beyond_one_machine.md", "torchrun --nnodes"): "several machines",
    ("CONTRIBUTING.md", ".venv/bin/python tools/data/make_atlas"): "minutes: test_make_atlas.py makes a part",
    ("CONTRIBUTING.md", "make colab"): "slow, and another host: the release check itself",
    ("CONTRIBUTING.md", "figures.show(figure"): "a call from the middle of a cell",
}
DROP = ast.unparse(solutions.definition(5, "drop"))
PREPARED = f"""
import torch
from torch import nn
from helpers import models, occlusion, runtime
from helpers.checks import check

network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
{DROP}
"""


def blocks() -> list[tuple[str, str, str]]:
    """Page, language and text of each fenced block."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        fenced = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", text)
        assert len(fenced) * 2 == len(re.findall(r"(?m)^```", text)), f"{page}: a block without a language"
        found += [(page, language, block) for language, block in fenced]
    return found


def is_run(page: str, block: str) -> bool:
    return not any(page == other and block.startswith(start) for other, start in NOT_RUN)


BLOCKS = blocks()
TO_RUN = [(page, language, block) for page, language, block in BLOCKS if is_run(page, block)]


def test_what_is_not_run_is_there() -> None:
    for page, start in NOT_RUN:
        assert [block for other, _, block in BLOCKS if other == page and block.startswith(start)], (page, start)
    assert {language for _, language, _ in BLOCKS} <= {"bash", "python"}
    assert len(TO_RUN) >= 7


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the installed packages, and with what the blocks take for granted."""
    place = copy_to(tmp_path_factory.mktemp("clone"))
    for folder in ("submissions", "PHOTOGRAPHS"):
        (place / folder).mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in (PREPARED, 'check("5.1", drop)')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), place / "submissions/05_occlusion.ipynb")
    for name in ("chelsea", "coffee"):
        save_image(photos.load(name), place / f"PHOTOGRAPHS/{name}.png")
    return place


@pytest.mark.parametrize(
    ("language", "block"),
    [block[1:] for block in TO_RUN],
    ids=[f"{Path(page).stem}: {block.splitlines()[0][:50]}" for page, _, block in TO_RUN],
)
def test_block_runs(clone: Path, language: str, block: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c", block]
    if language == "python":
        command = [sys.executable, "-c", PREPARED + block]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(command, cwd=clone, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
