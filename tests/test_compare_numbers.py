"""Numbers of notebooks are compared as numbers, words as words: pair by pair, and in nbval itself."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from chapters import CHAPTERS, CHECKED, nbval
from compare_numbers import compare
from normalise import clean

ROOT = Path(__file__).resolve().parent.parent


def accepted(committed: str, found: str, **options: float) -> bool:
    numbers = compare(committed, found, **options)
    return numbers is not None and not any(one.too_far for one in numbers)


@pytest.mark.parametrize(
    ("committed", "found"),
    [
        ("0.99", "1.00"),
        ("1.00", "0.99"),
        ("-0.0", "0.0"),
        ("0.0", "-0.1"),
        ("share 0.72", "share 0.73"),
        ("share   9.99 of", "share  10.00 of"),
        ("-1.5 and 2.25", "-1.4 and 2.26"),
        ("\u22121.5", "-1.5"),
        ("1.2e-05", "1.3e-05"),
        ("1", "0.99"),  # as `.2g` prints them
        ("0.1", "0.099"),
        ("0.099", "0.1"),
        ("1,280.5 of it", "1,280.6 of it"),
        ("blocks.2 of v2.14.1", "blocks.2 of v2.14.1"),
        ("nan", "nan"),
    ],
)
def test_such_a_difference_is_none(committed: str, found: str) -> None:
    assert accepted(committed, found)


@pytest.mark.parametrize(
    ("committed", "found"),
    [
        ("0.72", "0.74"),
        ("0.72", "0.70"),
        ("0.72", "0.7"),  # two units of the committed number
        ("-0.1", "0.1"),
        ("+0.01", "-0.01"),
        ("1.2e-05", "1.2e-06"),
        ("5 of 12", "6 of 12"),
        ("1,280", "1,281"),
        ("37 %", "38 %"),
        ("share 0.72", "part 0.72"),
        ("share 0.72", "share 0.72 0.72"),
        ("share 0.72, 0.72", "share 0.72"),
        ("share 0.72\nand 0.5", "share 0.72"),
        ("share 0.72\nand 0.5", "share 0.72 and 0.5"),
        ("0.72", "nan"),
        ("blocks.2: 0.5", "blocks.3: 0.5"),
        ("conv1: 0.5", "conv2: 0.5"),
        ("version 2.14.1", "version 2.14.2"),
    ],
)
def test_such_a_difference_is_one(committed: str, found: str) -> None:
    assert not accepted(committed, found)


@pytest.mark.parametrize(
    ("committed", "found", "options"),
    [("0.72", "0.75", {"units": 3}), ("5 of 12", "7 of 12", {"counts": 2}), ("0.001", "0.004", {"units": 3})],
)
def test_a_cell_may_allow_more(committed: str, found: str, options: dict[str, int]) -> None:
    assert accepted(committed, found, **options)
    assert not accepted(committed, found, **{name: number - 1 for name, number in options.items()})


def test_no_tolerance_allows_another_sign() -> None:
    assert not accepted("gain +0.02", "gain -0.02", units=10)
    assert accepted("gain +0.02", "gain 0.00", units=10)


@pytest.mark.parametrize(("units", "code"), [(1, 0), (2, 1), (-1, 0), (-2, 1)])
def test_nbval_compares_so(small: tuple[nbformat.NotebookNode, Path], units: int, code: int) -> None:
    notebook, path = small
    notebook.cells[0].outputs[0].text = f"share: {0.72 + units / 100:.2f}\n"
    nbformat.write(notebook, path)
    log = path.parent / "numbers.jsonl"
    result = nbval(path, "--numbers", str(log))
    assert result.returncode == code, result.stdout
    (moved,) = map(json.loads, log.read_text().splitlines())
    assert moved["units"] == abs(units) and moved["allowed"] == 1 and moved["cell"] == 0
    if code:
        for said in (f"{0.72 + units / 100:.2f} is committed", "0.72 was printed", "2 units", "1 allowed"):
            assert said in result.stdout


@pytest.mark.parametrize(("units", "code"), [(1, 0), (2, 1)])
def test_a_table_is_compared_by_its_text(small: tuple[nbformat.NotebookNode, Path], units: int, code: int) -> None:
    notebook, path = small
    notebook.cells[
        0
    ].source = (
        'from helpers import figures\nfigures.table({"a": {"share": 0.72}, "b": {"share": 0.71}}, caption="Shares")'
    )
    page = '<table class="results"><caption>Shares</caption>…</table>'  # the text says the same
    text = f"Shares\n   share\na  {0.72 + units / 100:.2f}\nb  0.71"
    data = {"text/html": page, "text/plain": text}
    notebook.cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(notebook, path)
    assert nbval(path).returncode == code


def test_the_metadata_of_a_cell_is_read(small: tuple[nbformat.NotebookNode, Path]) -> None:
    notebook, path = small
    notebook.cells[0].outputs[0].text = "share: 0.75\n"
    notebook.cells[0].metadata["nbval"] = {"units": 3}
    nbformat.write(notebook, path)
    assert nbval(path).returncode == 0
    notebook.cells[0].metadata["nbval"] = {"unit": 3}
    nbformat.write(notebook, path)
    result = nbval(path)
    assert result.returncode == 1 and "nbval.unit" in result.stdout


@pytest.mark.parametrize("text", ["part: 0.72\n", "share: 0.72\nmore\n", "share: 0.72 and 1\n", "share: 0.72 0.72\n"])
def test_nbval_fails_when_anything_else_changed(small: tuple[nbformat.NotebookNode, Path], text: str) -> None:
    notebook, path = small
    notebook.cells[0].outputs[0].text = text
    nbformat.write(notebook, path)
    result = nbval(path)
    assert result.returncode == 1 and "share: 0.72" in result.stdout


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_changed_by_hand_fails(path: Path) -> None:
    """In any printed number with decimals by two units, or in a word: what nbval compares, without running it."""
    changed = 0
    for cell in nbformat.read(path, as_version=4).cells:
        if CHECKED not in cell.metadata.get("tags", []):
            continue
        options = cell.metadata.get("nbval", {})
        for output in cell.outputs:
            is_table = "text/html" in output.get("data", {})
            text = output.data["text/plain"] if is_table else output.get("text", "")
            for found in _decimals(text):
                digits = len(found[0].partition(".")[2])
                step = (options.get("units", 1) + 1) / 10**digits
                other = f"{text[: found.start()]}{float(found[0]) + step:.{digits}f}{text[found.end() :]}"
                assert not accepted(text, other, **options), found[0]
                changed += 1
            if text.strip():
                assert not accepted(text, text.replace(text.split()[0], "word", 1), **options)
    assert changed >= 5


def _decimals(text: str) -> Iterator[re.Match]:
    return re.finditer(r"(?<![\w.,+-])\d+\.\d+(?![\w.])", text)


def test_the_metadata_is_kept_when_a_notebook_is_cleaned() -> None:
    cell = nbformat.v4.new_code_cell("", metadata={"nbval": {"units": 2}, "tags": [CHECKED], "other": 1})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    clean(notebook)
    assert notebook.cells[0].metadata == {"nbval": {"units": 2}, "tags": [CHECKED]}
