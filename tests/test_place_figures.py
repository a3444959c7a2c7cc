"""Figures on the site: one image, or strips that a narrow page puts below one another."""

import base64
import io

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from place_figures import DARK, gutters, place_figures

from helpers import figures
from helpers.figures import look

ALT = "Three pictures with a thin line around each."


@pytest.fixture
def drawn(monkeypatch):
    """A notebook with the output of what is called, as the site's build gets it."""

    def run(call) -> nbformat.NotebookNode:
        shown = []
        monkeypatch.setenv("HELPERS_DARK_FIGURES", "1")
        monkeypatch.setattr(look, "display", lambda data, raw, metadata: shown.append((data, metadata)))
        call()
        outputs = [nbformat.v4.new_output("display_data", data, metadata=metadata) for data, metadata in shown]
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=outputs)])

    return run


def place(notebook: nbformat.NotebookNode) -> tuple[str, list[Image.Image], list[Image.Image]]:
    """The HTML of its one figure, the pictures saved for it, and the two drawings, light and dark."""
    data, saved = notebook.cells[0].outputs[0].data, []
    kind = next(kind for kind in data if kind.startswith("image/"))
    whole = [read(data[kind]), read(data[DARK]["data"])]
    place_figures(
        notebook, "05_occlusion", lambda mime, content, chapter: saved.append(read(content)) or f"{len(saved)}.png"
    )
    return notebook.cells[0].outputs[0].data["text/html"], saved, whole


def read(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.mark.parametrize("kind", ["photograph", "map"])
@pytest.mark.parametrize("columns", [3, 4])
def test_panels_are_cut_between_their_columns(drawn, kind, columns) -> None:
    items = [figures.Panel(torch.rand(3, 40, 40)), figures.Panel(heatmap=torch.rand(9, 9))]
    panel = items[kind == "map"]
    page, strips, whole = place(drawn(lambda: figures.panels([panel] * (2 * columns), columns=columns, alt=ALT)))
    assert page.count("<img") == len(strips) == 2 * columns and page.count('alt=""') == len(strips)
    assert f'role="img" aria-label="{ALT}"' in page and page.count("only-dark") == columns
    for parts, picture in ((strips[:columns], whole[0]), (strips[columns:], whole[1])):
        joined = np.concatenate([np.asarray(part) for part in parts], axis=1).astype(int)
        assert joined.shape[1] == picture.width  # nothing lost, nothing twice
        assert np.abs(joined - np.asarray(picture)).mean() < 2
        for part in parts[:-1]:  # cut in the ground between two panels
            edge = np.asarray(part)[:, -1].astype(int)
            assert np.abs(edge - edge[0]).max() <= 14


def test_the_widest_gap_is_cut_not_that_before_a_colour_bar() -> None:
    """Panel, gap, bar, narrow gap, label; the first panel has no bar, so the gutters lie left of the thirds."""
    picture = np.full((50, 300, 3), 255, dtype=np.uint8)
    for first, last in ((2, 78), (88, 164), (168, 174), (177, 184), (194, 270), (274, 280), (283, 298)):
        picture[:, first:last] = 90
    assert gutters(Image.fromarray(picture), 3) == [0, 83, 189, 300]


def test_what_has_no_gutter_stays_whole(drawn) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 300, 3), dtype=np.uint8))
    assert gutters(noise, 3) is None
    page, pictures, _ = place(drawn(lambda: figures.bars({"a": 1.0, "b": 2.0}, y="height", alt=ALT)))
    assert len(pictures) == 2 and "strips" not in page
    nothing = figures.Panel(torch.zeros(3, 20, 300))  # titles so long that they meet
    titled = figures.Panel(nothing.image, title="m" * 60)
    page, pictures, _ = place(drawn(lambda: figures.panels([titled] * 3, alt=ALT)))
    assert len(pictures) == 2 and "strips" not in page


def test_a_chart_fits_a_phone_without_scrolling(drawn) -> None:
    page, pictures, _ = place(drawn(lambda: figures.curves({"a": ([1, 2], [3, 4])}, x="x", y="y", alt=ALT)))
    assert "wide" not in page and pictures[0].width / figures.SHARPNESS <= 600


def test_a_picture_without_labels_shrinks_with_the_page(drawn) -> None:
    sheet = figures.Panel(torch.rand(3, 60, 90))
    page, pictures, _ = place(drawn(lambda: figures.panels([sheet], height=5.0, alt=ALT)))
    assert pictures[0].width / figures.SHARPNESS > 600 and "wide" not in page
    rows = drawn(lambda: figures.panels([sheet] * 12, columns=6, height=5.0, alt=ALT))
    assert "wide" in place(rows)[0]  # what belongs together in rows stays so
