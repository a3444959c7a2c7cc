"""A plugin for nbval: in the cells that it checks, words are compared as words and numbers as numbers.

    python -m pytest --nbval-lax -p tools.release.compare_numbers notebooks/NAME.ipynb

The words must be the same, in the same lines. A number with decimals may differ by one unit of its last committed
digit, since on another CPU a value near the edge of its rounding falls to the other side. Counts must be equal, and a
number that is not zero keeps its sign. A cell may allow more in its metadata: ``{"nbval": {"units": 3, "counts": 2}}``
lets its decimals differ by three units and its counts by two.

``--numbers FILE`` appends a line of JSON for each number that moved; ``tools/release/portable.py`` reads them.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbCell, NbCellError

# Not what belongs to a name (conv1, blocks.2) or to a version (2.14.1); thousands may be grouped (1,280).
NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w|\.\d|,\d{3})"
)  # fmt: skip
UNITS, COUNTS = 1, 0  # what may differ where the metadata says nothing
NOT_COMPARED = (  # drawings for dark pages: of a run alone; a page: its table stands in the text, too
    "application/vnd.helpers.dark+json",
    "text/html",
)


@dataclass(frozen=True)
class Moved:
    """A number that is not the committed one: by how much, in units of its last digit, and how much is allowed."""

    committed: str
    found: str
    units: float
    allowed: float
    line: str

    @property
    def too_far(self) -> bool:
        return self.units > self.allowed

    def __str__(self) -> str:
        return (
            f"{self.committed} is committed, {self.found} was printed: "
            f"{self.units:g} units of the last digit apart, {self.allowed:g} allowed. In the line: {self.line!r}"
        )


def value(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("\u2212", "-"))


def unit(text: str) -> Decimal | None:
    """One unit of the last printed digit; None for a count."""
    exponent = value(text).as_tuple().exponent
    return Decimal(1).scaleb(exponent) if "." in text or "e" in text.lower() else None


def moved(committed: str, found: str, units: float, counts: float, line: str) -> Moved | None:
    """How far ``found`` is from ``committed``; None where they are equal as numbers."""
    first, second = value(committed), value(found)
    if first == second:
        return None
    step = unit(committed) or unit(found)  # of 1 and 0.99, both of two significant digits, the second tells
    distance, allowed = (abs(first - second) / (step or 1)), (counts if step is None else units)
    if first * second < 0:  # whatever the tolerance
        allowed = min(allowed, 0)
    return Moved(committed, found, float(distance), allowed, line)


def words(text: str) -> list[str]:
    """What stands between the numbers; the width of blanks depends on the numbers, so they count as one."""
    lines = [re.sub(r"[ \t]+", " ", NUMBER.sub(" \0 ", line)).strip() for line in text.splitlines()]
    return "\n".join(lines).strip().split("\0")


def compare(committed: str, found: str, units: float = UNITS, counts: float = COUNTS) -> list[Moved] | None:
    """The numbers of ``found`` that moved; None where the words or the number of numbers differ."""
    if words(committed) != words(found):
        return None
    lines = [(number, line.strip()) for line in found.splitlines() for number in NUMBER.findall(line)]
    pairs = [moved(ours, theirs, units, counts, line) for ours, (theirs, line) in zip(NUMBER.findall(committed), lines)]
    return [one for one in pairs if one]


def _texts(outputs: list[NotebookNode]) -> list[tuple[dict, str]]:
    """Where the texts of the outputs stand: a dictionary and the key in it."""
    streams = [(output, "text") for output in outputs if output.output_type == "stream"]
    return streams + [(output.data, "text/plain") for output in outputs if "text/plain" in output.get("data", {})]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--numbers", metavar="FILE", type=Path, help="append each number that moved to this file")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if isinstance(item, IPyNbCell):
        item.compare_outputs = Comparison(item)


class Comparison:
    """In place of a cell's own comparison: numbers near enough are taken for equal, then nbval compares the rest."""

    def __init__(self, cell: IPyNbCell) -> None:
        self.cell, self.exact = cell, cell.compare_outputs

    def __call__(self, found: list[NotebookNode], committed: list[NotebookNode]) -> bool:
        options = self.cell.cell.metadata.get("nbval", {})
        if unknown := set(options) - {"units", "counts"}:
            raise NbCellError(
                self.cell.cell_num, f"unknown in the metadata: nbval.{unknown.pop()}", self.cell.cell.source
            )
        tolerant, far = _copies(found), []
        for (ours, key), (theirs, other) in zip(_texts(committed), _texts(tolerant)):
            numbers = compare(ours[key], theirs[other], **options)
            self._record(numbers or [])
            far += [one for one in numbers or [] if one.too_far]
            if numbers is not None and not any(one.too_far for one in numbers):
                theirs[other] = ours[key]
        same = self.exact(tolerant, committed, (*self.cell.parent.skip_compare, *NOT_COMPARED))
        if far:
            self.cell.comparison_traceback[:0] = ["Numbers moved further than allowed:", *map(str, far)]
        return same

    def _record(self, numbers: list[Moved]) -> None:
        path = self.cell.config.getoption("numbers")
        if path and numbers:
            where = {"notebook": Path(self.cell.parent.path).stem, "cell": self.cell.cell_num}
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(where | asdict(one)) + "\n" for one in numbers)


def _copies(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs whose texts can be replaced: the run itself is kept for the site as it is."""
    copies = [NotebookNode(output) for output in outputs]
    for output in copies:
        if "data" in output:
            output.data = NotebookNode(output.data)
    return copies
