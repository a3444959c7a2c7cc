"""What a figure sends to the page: its kind, its size, its alternative text, its dark variant."""

import base64
import io
import sys
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import figures, photos
from helpers.figures import look, tables
from helpers.inputs import Box

ALT = "A line that rises from left to right."
DARK = "application/vnd.helpers.dark+json"


@pytest.fixture(autouse=True)
def no_pyplot_figures():
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def shown(monkeypatch):
    """The outputs that `show` displays: (data, metadata)."""
    outputs = []

    def display(data, raw, metadata=None):
        assert raw is True
        outputs.append((data, metadata))

    for module in (look, tables):
        monkeypatch.setattr(module, "display", display)
    monkeypatch.delenv("HELPERS_DARK_FIGURES", raising=False)
    return outputs


def picture(data, kind):
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == {"image/png": "PNG", "image/jpeg": "JPEG"}[kind]
    return np.asarray(image.convert("RGB")).astype(int)


def kind_of(data):
    (kind,) = [key for key in data if key.startswith("image/")]
    return kind


def line():
    figure, axes = figures.new()
    axes[0, 0].plot([0, 1], [0, 1], label="rising")
    axes[0, 0].set_xlabel("time")
    axes[0, 0].legend()
    return figure


def test_one_output_with_alternative_text_and_its_size(shown):
    figures.show(line(), ALT)
    ((data, metadata),) = shown
    assert set(data) == {"image/png", "text/plain"} and data["text/plain"] == ALT
    assert set(metadata) == {"image/png"} and set(metadata["image/png"]) == {"alt", "width", "height", "columns"}
    assert metadata["image/png"]["alt"] == ALT
    height, width, _ = picture(data["image/png"], "image/png").shape
    assert metadata["image/png"]["width"] == round(width / figures.SHARPNESS)
    assert metadata["image/png"]["height"] == round(height / figures.SHARPNESS)
    assert 0.85 * 100 * figures.WIDTH < metadata["image/png"]["width"] <= 1.02 * 100 * figures.WIDTH


@pytest.mark.parametrize("alt", ["", "   ", "figure", "a heatmap", None, 3, ["a", "b", "c", "d"]])
def test_a_figure_without_alternative_text_is_refused(alt, shown):
    for draw in (
        lambda: figures.show(line(), alt),
        lambda: figures.panels([figures.Panel(photos.load("coffee", 32))], alt=alt),
        lambda: figures.curves({"a": ([0, 1], [0, 1])}, x="x", y="y", alt=alt),
        lambda: figures.bars({"a": 1.0}, y="y", alt=alt),
    ):
        with pytest.raises(ValueError, match="alt must say"):
            draw()
    for draw in (figures.panels, figures.curves, figures.bars):
        with pytest.raises(TypeError):
            draw([])
    assert shown == []


def test_a_photograph_is_a_jpeg_and_a_diagram_a_png(shown):
    figures.panels([figures.Panel(photos.load("china", 224))], alt="A palace among trees, seen from afar.")
    figures.show(line(), ALT)
    assert [kind_of(data) for data, _ in shown] == ["image/jpeg", "image/png"]
    for data, _ in shown:
        picture(data[kind_of(data)], kind_of(data))


@pytest.mark.parametrize("value", [None, "0", ""])
def test_no_dark_variant_without_the_variable(value, shown, monkeypatch):
    if value is not None:
        monkeypatch.setenv("HELPERS_DARK_FIGURES", value)
    figures.show(line(), ALT)
    assert DARK not in shown[0][0]


def test_the_dark_variant_is_the_same_figure_in_other_colours(shown, monkeypatch):
    figures.show(line(), ALT)
    monkeypatch.setenv("HELPERS_DARK_FIGURES", "1")
    figures.show(line(), ALT)
    (plain, _), (both, metadata) = shown
    assert both["image/png"] == plain["image/png"], "the light figure is the same"
    dark = both[DARK]
    assert set(dark) == {"mime", "data"} and dark["mime"] == "image/png"
    assert DARK not in metadata
    light, drawn = picture(both["image/png"], "image/png"), picture(dark["data"], dark["mime"])
    assert light.shape == drawn.shape

    def share(pixels, colour):
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        return (np.abs(pixels - rgb).max(2) <= 3).mean()

    assert share(light, figures.LIGHT["paper"]) > 0.8 and share(drawn, figures.DARK["paper"]) > 0.8
    assert share(drawn, figures.LIGHT["paper"]) < 0.001 and share(drawn, figures.LIGHT["ink"]) < 0.0005
    assert share(drawn, figures.DARK["ink"]) > 0.0005, "the text is light"
    assert share(light, figures.COLOURS[0]) > 0.001 and share(drawn, figures.COLOURS[0]) > 0.001


def test_showing_a_figure_twice_shows_the_same(shown, monkeypatch):
    monkeypatch.setenv("HELPERS_DARK_FIGURES", "1")
    figure = line()
    figures.show(figure, ALT)
    figures.show(figure, ALT)
    assert shown[0] == shown[1]


def test_a_figure_is_the_same_each_time(shown):
    for _ in range(2):
        figures.curves({"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, x="x", y="y", alt=ALT, level=(0.5, "chance"))
    assert shown[0] == shown[1]


def test_the_style_stays_inside():
    before = dict(plt.rcParams)
    line()
    figures.new(2, 3)
    assert dict(plt.rcParams) == before


def test_axes_are_an_array_of_the_asked_shape():
    for rows, columns in ((1, 1), (1, 3), (2, 2)):
        figure, axes = figures.new(rows, columns, height=2, width=4)
        assert axes.shape == (rows, columns) and tuple(figure.get_size_inches()) == (4, 2)


def test_panels_draw_photographs_maps_and_boxes(shown):
    photo = photos.load("coffee", 64)
    heatmap = torch.zeros(8, 8)
    heatmap[:4, :4] = 1
    items = [
        figures.Panel(photo, title="photo"),
        figures.Panel(photo, heatmap, boxes=[Box(0, 0, 32, 32)]),
        figures.Panel(heatmap=heatmap - 0.5, signed=True, unit="logits"),
        figures.Panel(heatmap=heatmap, limits=(0, 2)),
    ]
    figures.panels(items, alt="Four panels of a cup of coffee, plain and with maps.", columns=2)
    figures.panels(items[:1], alt="One panel with a cup of coffee in it.")
    four, one = (metadata[kind_of(data)] for data, metadata in shown)
    assert one["width"] < four["width"] and one["height"] < four["height"]


def drawn(panel, shown, side=200):
    figure, axes = figures.new(height=2, width=2)
    figures.draw(axes[0, 0], panel)
    figures.show(figure, ALT)
    data, _ = shown[-1]
    return picture(data[kind_of(data)], kind_of(data))


def test_a_map_over_a_photograph_is_where_it_belongs(shown):
    """A bright map in the upper left quarter leaves the rest of the photograph visible."""
    grey = torch.full((3, 64, 64), 0.5)
    heatmap = torch.zeros(4, 4)
    heatmap[:2, :2] = 1.0
    pixels = drawn(figures.Panel(grey, heatmap), shown)
    height, width, _ = pixels.shape
    quarter = [pixels[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    assert np.abs(quarter[0] - quarter[3]).max() > 60
    assert np.abs(quarter[1] - quarter[2]).max() <= 4 and np.abs(quarter[1] - quarter[3]).max() <= 4


def test_signed_maps_are_centred_on_zero(shown):
    heatmap = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    pixels = drawn(figures.Panel(heatmap=heatmap, signed=True), shown)
    height, width, _ = pixels.shape
    zero, positive = pixels[height // 4, width // 4], pixels[3 * height // 4, 3 * width // 4]
    assert zero.min() > 235, "zero is white"
    assert positive[0] > positive[2] + 50, "positive is red"


@pytest.mark.parametrize(
    "panel",
    [
        figures.Panel(),
        figures.Panel(torch.rand(1, 3, 8, 8)),
        figures.Panel(torch.rand(8, 8, 3)),
        figures.Panel(torch.rand(3, 8, 8) * 255),
        figures.Panel(torch.rand(3, 8, 8) - 0.5),
        figures.Panel(torch.full((3, 8, 8), float("nan"))),
        figures.Panel(torch.rand(3, 8, 8), torch.rand(3, 8, 8)),
        figures.Panel(heatmap=torch.full((8, 8), float("nan"))),
        figures.Panel(heatmap=torch.full((8, 8), float("inf"))),
        figures.Panel(heatmap=torch.rand(8)),
    ],
    ids=["nothing", "batch", "last", "255", "signed", "nan", "channels", "nan map", "inf map", "row"],
)
def test_no_wrong_picture_is_drawn(panel, shown):
    with pytest.raises(ValueError, match="panel"):
        figures.panels([panel], alt="A panel that must not be drawn.")
    assert shown == []


def test_no_panels_are_refused(shown):
    with pytest.raises(ValueError, match="no panels"):
        figures.panels([], alt="A row of no panels at all.")


def test_constant_maps_can_be_drawn(shown):
    for signed in (True, False):
        for value in (0.0, 3.0, -2.0):
            drawn(figures.Panel(heatmap=torch.full((4, 4), value), signed=signed), shown)
            drawn(figures.Panel(torch.rand(3, 8, 8), torch.full((4, 4), value), signed=signed), shown)


def test_curves_and_bars(shown):
    figures.curves({"a": ([0, 1], [0, 1])}, x="x", y="y", alt=ALT, markers=True)
    figures.bars({"a": 0.3, "b": 0.5}, y="share", alt="Two bars, the second one higher.", errors={"a": 0.1, "b": 0.1})
    assert len(shown) == 2


def test_half_precision_and_gradients_can_be_drawn(shown):
    panel = figures.Panel(torch.rand(3, 8, 8).half(), torch.rand(8, 8).bfloat16().requires_grad_())
    figures.panels([panel], alt="A panel of numbers in half precision.")
    assert len(shown) == 1


def test_pyplot_is_not_needed():
    """The figures are made without pyplot's global state."""
    modules = [module for name, module in sys.modules.items() if name.startswith(figures.__name__)]
    assert len(modules) == 5 and not any(hasattr(module, "plt") for module in modules)


@pytest.mark.parametrize("heatmap", [None, torch.rand(30, 20)], ids=["photograph", "map"])
def test_low_panels_stand_close_together(shown, heatmap):
    """A figure of three low pictures is hardly wider than they are, so that a narrow page shows them all."""
    image = torch.rand(3, 30, 20) if heatmap is None else None
    for height in (1.5, 5.0):
        figures.panels([figures.Panel(image, heatmap)] * 3, alt="Three pictures of nothing.", height=height)
    figures.panels(
        [figures.Panel(image, heatmap, "a title of some length")] * 3,
        alt="Three named pictures of nothing.",
        height=1.75,
    )
    low, high, named = (metadata[kind_of(data)]["width"] for data, metadata in shown)
    assert named > 1.5 * low  # for the titles
    assert 3 * 100 <= low <= 3 * (100 + 25)
    assert 100 * (figures.WIDTH - 0.5) <= high <= 100 * (figures.WIDTH + 0.1)


def test_a_table_has_headers_and_marks_the_best(shown):
    rows = {
        "a < b": {"mean": (0.5, 0.25, 0.75), "time": torch.tensor(3.0), "cost": 2},
        "c": {"time": 1.0, "mean": (0.75, 0.5, 1.0)},
    }
    figures.table(rows, caption="Two & a half", best={"mean": max, "time": min})
    data, _ = shown[0]
    lines = data["text/plain"].splitlines()
    assert lines[0] == "Two & a half" and lines[1].split() == ["mean", "time", "cost"]
    assert lines[2] == "a < b  0.50 [0.25, 0.75]  3.00  2" and lines[3] == "c      0.75 [0.50, 1.00]  1.00"
    table = ElementTree.fromstring(data["text/html"])
    assert table.findtext("caption") == "Two & a half"
    assert [head.text for head in table.iter("th") if head.get("scope") == "col"] == ["mean", "time", "cost"]
    assert [head.text for head in table.iter("th") if head.get("scope") == "row"] == ["a < b", "c"]
    assert [best.text for best in table.iter("strong")] == ["0.75", "1.00"]
    assert [ends.text for ends in table.iter("small")] == ["[0.25, 0.75]", "[0.50, 1.00]"]
    assert all(len(row) == 4 for row in table.iter("tr"))


def test_a_table_marks_all_that_are_equally_good(shown):
    figures.table({"a": {"x": 1.0}, "b": {"x": 1.0}, "c": {"x": 0.0}}, caption="Equal ones", best={"x": max})
    assert shown[0][0]["text/html"].count("<strong>") == 2


def test_points_of_groups_share_a_legend_and_no_scale(shown):
    maps = {"near": torch.rand(9, 2), "far": 100 * torch.rand(9, 2)}
    figures.scatters(maps, {"a": slice(3), "b": torch.arange(9) > 2}, alt="Two maps of nine points, in two colours.")
    data, metadata = shown[0]
    assert metadata[kind_of(data)]["columns"] == 2
    drawn = picture(data[kind_of(data)], kind_of(data)).reshape(-1, 3)
    for colour in figures.COLOURS[:2]:
        wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        assert (np.abs(drawn - wanted).max(1) < 40).sum() > 50
