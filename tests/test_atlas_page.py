"""tools/site/atlas_page.py: what the page shows is what the archive says."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import atlas_page as page
import numpy as np
import pytest
import raw_anchors
from docutils import nodes
from PIL import Image

PHOTOGRAPH = Image.fromarray(np.random.default_rng(0).integers(0, 255, (160, 160, 3), dtype=np.uint8))


def test_a_patch_is_what_the_unit_sees() -> None:
    inside = page.patch(PHOTOGRAPH, [10, 20, 10 + page.SIDE, 20 + page.SIDE])
    assert inside.tobytes() == PHOTOGRAPH.crop((20, 10, 20 + page.SIDE, 10 + page.SIDE)).tobytes()


def test_beyond_the_photograph_it_is_grey() -> None:
    patch = np.asarray(page.patch(PHOTOGRAPH, [-30, 100, page.SIDE - 30, 100 + page.SIDE]))
    photograph = np.asarray(PHOTOGRAPH)
    assert (patch[:30] == page.GREY).all() and (patch[:, 60:] == page.GREY).all()
    np.testing.assert_array_equal(patch[30:, :60], photograph[: page.SIDE - 30, 100:])


def test_where_the_field_is_larger_the_whole_photograph_is_shown_with_a_ring() -> None:
    plain = np.asarray(PHOTOGRAPH.resize((page.SIDE, page.SIDE), Image.Resampling.BICUBIC))
    patch = np.asarray(page.patch(PHOTOGRAPH, [-100, -140, 240, 200]))  # around row 70, col 30
    rows, cols = np.nonzero((patch != plain).any(2))
    middle = 70 * page.SIDE / 160, 30 * page.SIDE / 160
    assert abs((rows.min() + rows.max()) / 2 - middle[0]) <= 1 and abs((cols.min() + cols.max()) / 2 - middle[1]) <= 1
    assert 0 < len(rows) < 200


def test_a_sheet_has_nine() -> None:
    colours = [(25 * number, 255 - 25 * number, 128) for number in range(9)]
    patches = [Image.new("RGB", (page.SIDE, page.SIDE), colour) for colour in colours]
    sheet = np.asarray(Image.open(io.BytesIO(page.sheet(patches)))).astype(int)
    for number, colour in enumerate(colours):
        row, col = ((place * (page.SIDE + page.GAP)) + page.SIDE // 2 for place in divmod(number, 3))
        assert abs(sheet[row, col] - colour).max() < 12


def test_the_page_has_every_layer_and_says_what_the_archive_says(tmp_path: Path) -> None:
    source = tmp_path / "atlas.md"
    source.write_text((page.ROOT / "book/atlas.md").read_text("utf-8"), "utf-8")
    page.place_atlas(source, tmp_path / "atlas")
    text = source.read_text("utf-8")
    card, channels = page.read()
    assert text.count('<div class="atlas">') == len(card["recipes"]) and "% atlas" not in text
    assert re.findall(r'<section class="atlas-channel" id="([^"]+)"', text) == [page.anchor(one) for one, _ in channels]
    photographs = page.groceries()
    assert f"among {len(photographs):,} photographs" in text
    for channel, picture in channels[::9]:
        here = page.anchor(channel)
        assert (tmp_path / "atlas" / f"{here}.jpg").read_bytes() == picture
        cell = re.search(rf'<section class="atlas-channel" id="{here}".*?</section>', text, re.S)[0]
        classes = [photographs[one["name"]][1] for one in channel["photographs"]]
        counts = re.search(r"most: ([^<]+)\.\">", cell)[1]
        assert sorted(counts.split(", ")) == sorted(f"{classes.count(one)} {one}" for one in set(classes))
        for number in ("reached", "shown", "best"):
            assert f"{channel[number]:.2f}".replace("-", "−") in cell
    weight = sum(file.stat().st_size for file in (tmp_path / "atlas").iterdir())
    assert weight < 6e6


@pytest.mark.parametrize("line", ["", "% atlas: lecturenet relu1", "% atlas: lecturenet relu9"])
def test_a_layer_without_a_place_or_with_two_is_refused(tmp_path: Path, line: str) -> None:
    text = (page.ROOT / "book/atlas.md").read_text("utf-8")
    source = tmp_path / "atlas.md"
    source.write_text(f"{text}\n{line}\n" if line else text.replace("% atlas: lecturenet relu2", ""), "utf-8")
    with pytest.raises(ValueError, match="one place for each of efficientnet_lite0 stage 1, "):
        page.place_atlas(source, tmp_path / "atlas")


def test_what_raw_html_names_can_be_linked_to() -> None:
    document, app = nodes.document(None, None), SimpleNamespace()
    document += nodes.raw("", '<a id="at-x"></a> <p class="y" id="x-1">', format="html")
    document += nodes.raw("", '<a id="no"></a>', format="latex")
    app.env = SimpleNamespace(docname="page", metadata=defaultdict(dict))
    raw_anchors.note_anchors(app, document)
    assert app.env.metadata["page"]["myst_slugs"] == {name: (None, name, name) for name in ("at-x", "x-1")}


def test_ordinals() -> None:
    assert [page._ordinal(rank) for rank in (1, 2, 3, 4, 11, 12, 13, 21, 112, 122)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th", "122nd")
    ]


def test_the_middle_of_a_box() -> None:
    assert page.middle([10, 20, 30, 60]) == [15, 30, 25, 50]
    top, left, bottom, right = page.middle([0, 0, 19, 19])  # an odd side keeps its middle
    assert top + bottom == left + right == 19 and bottom - top == 11
