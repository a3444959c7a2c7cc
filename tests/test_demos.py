"""The demos without a browser: what a scene refuses, what a demo sends, the reader's own picture, the build's part."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import build_site
import ipywidgets
import nbformat
import normalise
import pytest
import torch
from networks import tiny, unchanged
from PIL import Image

from helpers import activations, demos, embedding, models, photos, shortcut
from helpers.demos.widget import PAGE, Control, Demo, Frame, Pad, Row, Scene, cutout, heat, photo, sheet
from helpers.occlusion import sensitivity

ROOT = Path(__file__).resolve().parent.parent

VIEW = "application/vnd.jupyter.widget-view+json"


def frame(colour: str, size: int = 20, rows: int = 1, **more) -> Frame:
    numbers = [Row("red", "0.25", 0.25, 0.5), Row("blue", "7")][:rows]
    return Frame(Image.new("RGB", (size, size), colour), numbers, f"It is {colour}.", f"A {colour} square.", **more)


def scene(frames: list[Frame] | None = None, **changes) -> Scene:
    """Two controls, 2 × 3 choices."""
    colours = ["red", "green", "blue", "white", "black", "grey"]
    facts = {
        "title": "squares & <more>",
        "caption": "Look.",
        "heading": "Numbers",
        "controls": [Control("First", ["a", "b"], "buttons"), Control("Second", ["x", "y", "<z>"])],
        "frames": frames or [frame(colour) for colour in colours],
        "start": (1, 2),
    }
    return Scene(**(facts | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"frames": [frame("red")] * 5}, r"\[2, 3\] choices need one frame each, got 5"),
        ({"frames": [frame("red")] * 7}, "got 7"),
        ({"controls": []}, "got 6"),
        ({"start": (1,)}, "start must be one of"),
        ({"start": (2, 0)}, "start must be one of"),
        ({"start": (0, -1)}, "start must be one of"),
        ({"frames": [frame("red")] * 5 + [frame("red", size=21)]}, "one size"),
        ({"frames": [frame("red")] * 5 + [frame("red", rows=2)]}, "same number of rows"),
    ],
)
def test_a_scene_that_is_not_whole_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scene(**changes)


def decoded(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def test_frames_are_in_the_order_of_product_and_pictures_are_kept_once() -> None:
    under, top = Image.new("RGB", (20, 20), "white"), [frame(colour) for colour in ("red", "green", "blue")]
    over = [one._replace(under=under) for one in top]
    sent = Demo(lambda image, report: scene(over + over)).scene
    assert len(sent["pictures"]) == 4
    for place, (_, second) in enumerate(product(range(2), range(3))):
        one = sent["frames"][place]
        assert decoded(sent["pictures"][one["under"]]).convert("RGB").getpixel((9, 9)) == (255, 255, 255)
        seen = decoded(sent["pictures"][one["picture"]]).convert("RGB").getpixel((9, 9))
        wanted = top[second].picture.getpixel((9, 9))
        assert all(abs(a - b) <= 4 for a, b in zip(seen, wanted))
        assert one["says"] == top[second].says and one["alt"] == top[second].alt


def test_markup_holds_the_first_frame_and_names_everything() -> None:
    pad = Pad("Where <it> is", (0, 1), [(0.5, 0.5, 0, 0)])
    sent = Demo(lambda image, report: scene(pad=pad)).scene
    markup = sent["html"]
    assert f'src="picture:{sent["frames"][5]["picture"]}"' in markup and 'alt="A grey square."' in markup
    assert "It is grey." in markup and "--share:0.250;--mark:0.500" in markup
    assert "squares &amp; &lt;more&gt;" in markup and "<more>" not in markup and "<z>" not in markup
    assert re.search(r"<legend>First</legend>.*checked", markup) and 'aria-valuetext="&lt;z&gt;"' in markup
    assert 'role="slider" aria-label="Where &lt;it&gt; is"' in markup
    assert markup.count("disabled") == 3  # until the front end lives: two buttons, one slider


def test_a_row_without_share_has_no_bar() -> None:
    sent = Demo(lambda image, report: scene([frame("red", rows=2)] * 6)).scene
    assert sent["frames"][0]["rows"] == [("red", "0.25", "--share:0.250;--mark:0.500"), ("blue", "7", "")]


def test_what_is_sent_needs_nothing_beyond_ipywidgets_7() -> None:
    """The one widget is our own; its traits are numbers, texts, bytes, and lists and dicts of them."""
    sources = "".join(path.read_text() for path in (ROOT / "helpers/demos").glob("*.py"))
    assert "anywidget" in sources and "ipywidgets" not in re.sub(r'"""(.|\n)*?"""', "", sources)
    demo = Demo(lambda image, report: scene())
    assert {key for key in demo.keys if not key.startswith("_")} <= {
        *("scene", "status", "busy", "layout", "tabbable", "tooltip")
    }
    plain = (str, int, float, bytes, type(None))

    def check(value: object) -> None:
        if isinstance(value, dict | list | tuple):
            for part in value.values() if isinstance(value, dict) else value:
                check(part)
        else:
            assert isinstance(value, plain), type(value)

    check(demo.scene)
    assert isinstance(demo, ipywidgets.DOMWidget)


@pytest.fixture
def network() -> models.Classifier:
    return models.Classifier(tiny().float(), name="tiny", categories=list("abcdefg"), input_size=32).eval()


def send(demo: Demo, **content) -> list[tuple[bool, str]]:
    """What a front end would send; return (busy, status) after every change of them."""
    seen = []
    demo.observe(lambda change: seen.append((demo.busy, demo.status)), ["busy", "status"])
    demo._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})
    return seen


def file_of(image: torch.Tensor) -> str:
    file = io.BytesIO()
    photo(image, 64).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_own_picture_comes_in_and_a_new_scene_goes_out(network: models.Classifier, tmp_path: Path) -> None:
    demo = demos.occlusion.show(network, photos.load("coffee", 32), window=16, stride=16)
    before = demo.scene
    with unchanged(network):
        seen = send(demo, name="cat.png", data=file_of(photos.load("chelsea", 64)))
    assert demo.scene["pictures"] != before["pictures"]
    assert [len(names) for names in demo.scene["controls"]] == [2, 2, 4]
    assert (True, "Reading the picture …") in seen
    assert (True, "Covering the picture with white, 3 of 4 …") in seen
    assert seen[-1] == (False, "Done: the demo shows your picture.")
    after = demo.scene
    path = tmp_path / "cup.png"
    path.write_bytes(base64.b64decode(file_of(photos.load("coffee", 64))))
    send(demo, address=str(path))
    assert demo.scene["pictures"] not in (before["pictures"], after["pictures"])


@pytest.mark.parametrize(
    "content, part",
    [
        ({"name": "notes.txt", "data": base64.b64encode(b"no picture").decode()}, "notes.txt is no picture"),
        ({"name": "empty.png", "data": ""}, "empty.png is no picture"),
        ({"address": "/no/such/file.png"}, "no file at"),
        ({"address": "http://127.0.0.1:1/cat.png"}, "can't be reached"),
        ({}, "That did not work"),
    ],
)
def test_what_is_no_picture_gives_a_text_and_leaves_the_scene(content: dict, part: str) -> None:
    demo = Demo(lambda image, report: scene())
    before = demo.scene
    seen = send(demo, **content)
    assert part in demo.status and demo.status.startswith("That did not work: ")
    assert seen[-1][0] is False and demo.scene is before


def test_a_failure_while_it_computes_is_told(network: models.Classifier) -> None:
    def compute(image: torch.Tensor | None, report) -> Scene:
        if image is not None:
            raise RuntimeError("out of memory")
        return scene()

    demo = Demo(compute)
    send(demo, name="cat.png", data=file_of(photos.load("chelsea", 64)))
    assert demo.status == "That did not work: out of memory" and not demo.busy


def test_a_second_picture_waits_for_the_first() -> None:
    calls = []

    def compute(image: torch.Tensor | None, report) -> Scene:
        calls.append(image)
        if image is not None and len(calls) < 4:
            send(demo, name="b.png", data=data)
        return scene()

    demo, data = Demo(compute), file_of(photos.load("chelsea", 64))
    send(demo, name="a.png", data=data)
    assert len(calls) == 2


def test_occlusion_shows_the_runs_numbers(network: models.Classifier) -> None:
    image = photos.load("coffee", 32)
    covers = {"grey": 0.5, "black": 0.0, "white": 1.0}
    runs = {name: sensitivity(network, image, window=16, stride=16, baseline=value) for name, value in covers.items()}
    with unchanged(network):
        sent = demos.occlusion.show(network, image, runs=runs, window=16, stride=16).scene
    target = int(runs["grey"].target)
    shape = [len(names) for names in sent["controls"]]
    assert shape == [2, 2, 4] and len(sent["pad"]["spots"]) == 4
    for row, col, fill in product(range(2), range(2), range(3)):
        shown = sent["frames"][(row * 2 + col) * 4 + fill]
        expected = list(runs.values())[fill].outputs[row, col].softmax(-1)
        assert shown["rows"][0][:2] == (network.label(target), f"{expected[target]:.2f}")
        labels = [label for label, _, _ in shown["rows"]]
        assert len(set(labels)) == 5
        for label, text, _ in shown["rows"]:
            assert text == f"{expected[network.index(label)]:.2f}"
        picture = decoded(sent["pictures"][shown["picture"]]).convert("RGBA")
        x, y = sent["pad"]["spots"][row * 2 + col][:2]
        red, _, _, alpha = picture.getpixel((round(x * picture.width), round(y * picture.height)))
        assert alpha == 255 and abs(red - [128, 0, 255][fill]) <= 6
        assert picture.getpixel((round((1 - x) * picture.width), round((1 - y) * picture.height)))[3] == 0


def test_drawing() -> None:
    image = torch.zeros(3, 10, 20)
    image[0] = 1
    assert photo(image, 40).size == (40, 20) and photo(image, 40).getpixel((5, 5)) == (255, 0, 0)
    red, green, blue = photo(image, 40, pale=True).getpixel((5, 5))
    assert red > green == blue > 50
    map_ = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
    over, alone = heat(map_, (-1, 1), 40, signed=True), heat(map_, (-1, 1), 40, signed=True, over=False)
    assert over.size == (40, 40)
    assert over.getpixel((2, 2))[3] < over.getpixel((2, 38))[3] == over.getpixel((38, 2))[3]  # by the size of the value
    assert (
        over.getpixel((38, 2))[0] > over.getpixel((38, 2))[2] and over.getpixel((2, 38))[2] > over.getpixel((2, 38))[0]
    )
    assert alone.getpixel((2, 2))[3] == 255
    whole = sheet([photo(image, 40)] * 3, columns=2, gap=4)
    assert whole.size == (84, 44)
    assert [whole.getpixel(place)[3] for place in ((10, 10), (41, 10), (50, 10), (10, 30), (50, 30))] == [
        255,
        0,
        255,
        255,
        0,
    ]
    piece = cutout(photo(image, 40), (5, 10, 15, 30))
    assert piece.getpixel((20, 10)) == (255, 0, 0, 255) and piece.getpixel((5, 10))[3] == 0
    assert piece.getpixel((10, 5)) == (0, 0, 0, 255) and piece.getpixel((11, 6)) == (255, 255, 255, 255)


def notebook_of(demo: Demo) -> nbformat.NotebookNode:
    data, metadata = demo._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", data=data, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("demo", execution_count=1, outputs=[output])
    return nbformat.v4.new_notebook(cells=[cell])


def test_a_committed_notebook_keeps_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPERS_DARK_FIGURES", "1")
    notebook = notebook_of(Demo(lambda image, report: scene()))
    assert {PAGE, VIEW} <= set(notebook.cells[0].outputs[0].data)
    assert len(normalise.faults(notebook)) == 2
    normalise.clean(notebook)
    assert normalise.faults(notebook) == []
    assert notebook.cells[0].outputs[0].data == {"text/plain": "Demo: squares & <more>. It is grey."}


def test_only_the_build_writes_the_scene_into_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HELPERS_DARK_FIGURES", raising=False)
    assert set(notebook_of(Demo(lambda image, report: scene())).cells[0].outputs[0].data) == {"text/plain", VIEW}


def test_the_build_puts_markup_scene_and_front_end_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HELPERS_DARK_FIGURES", "1")
    demo = Demo(lambda image, report: scene([frame("red", under=Image.new("RGB", (20, 20)))] * 6))
    notebook, saved = notebook_of(demo), []

    def save(mime: str, data: str, chapter: str) -> str:
        saved.append(base64.b64decode(data))
        return f"{chapter}/{len(saved)}.webp"

    front = build_site.write_front_end(tmp_path)
    build_site.place_demos(notebook, "05_x", tmp_path, front, save)
    output = notebook.cells[0].outputs[0]
    assert set(output.data) == {"text/html"}
    page = output.data["text/html"]
    assert sorted(saved) == sorted(demo.scene["pictures"])
    assert "picture:" not in page and "05_x/1.webp" in page and "05_x/2.webp" in page
    assert front in page and re.search(r'data-scene="../_static/demos/05_x-1.js\?\w{10}"', page)
    text = (tmp_path / "05_x-1.js").read_text(encoding="utf-8")
    sent = json.loads(re.fullmatch(r'bookDemo\("05_x-1",(.*)\);\n', text)[1])
    assert [base64.b64decode(picture) for picture in sent["pictures"]] == demo.scene["pictures"]
    assert set(sent) == {"controls", "start", "frames", "pictures", "pad"}
    script = (tmp_path / "demos.js").read_text(encoding="utf-8")
    assert "export" not in script and "bookDemo" in script
    assert (tmp_path / "demos.css").read_text() == (ROOT / "helpers/demos/widget.css").read_text()


def test_the_build_refuses_a_widget_that_would_be_dead(tmp_path: Path) -> None:
    output = nbformat.v4.new_output("display_data", data={VIEW: {"model_id": "x"}})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("slider", outputs=[output])])
    with pytest.raises(SystemExit, match="dead on a page"):
        build_site.place_demos(notebook, "05_x", tmp_path, "", lambda *arguments: "")


def lecturenet() -> models.Classifier:
    return models.load("lecturenet", device="cpu")


def of_shortcut() -> tuple[Demo, list]:
    images, labels = torch.rand(8, 3, 48, 48), torch.arange(2).repeat(4)
    networks = {name: shortcut.train(images, labels, steps=1, seed=seed) for seed, name in enumerate(("one", "two"))}
    return demos.shortcut.show(networks, {"gravel": images[0], "grass": images[1]}), list(networks.values())


def of_filters() -> tuple[Demo, list]:
    model = lecturenet()
    return demos.filters.show(model, {name: photos.load(name, 64) for name in ("coffee", "chelsea")}, count=3), [model]


def of_activations() -> tuple[Demo, list]:
    model, images = lecturenet(), torch.stack([photos.load(name, 64) for name in photos.names()[:10]])
    tops = {layer: activations.top_patches(model, layer, images, channels=[3, 7]) for layer in ("relu1", "relu5")}
    return demos.activations.show(
        model,
        images[0],
        tops,
        torch.arange(10) % 3,
        "abc",
        channels=[3, 7],
        control={"relu1": 0.3, "relu5": 0.4},
    ), [model]


def of_deconvnet() -> tuple[Demo, list]:
    model, images = lecturenet(), torch.stack([photos.load(name, 64) for name in ("chelsea", "coffee")])
    tops = {layer: activations.top_patches(model, layer, images, 1) for layer in ("relu1", "relu3")}
    channels = {"cats": {"relu1": 1, "relu3": 3}, "cups": {"relu1": 2, "relu3": 2}}
    return demos.deconvnet.show(model, tops, channels), [model]


def of_saliency() -> tuple[Demo, list]:
    model = lecturenet()
    return demos.saliency.show(model, photos.load("coffee", 64)), [model]


def of_cam() -> tuple[Demo, list]:
    model = lecturenet()
    return demos.cam.show(model, photos.load("coffee", 64), absent=model.categories[5]), [model]


def of_guided() -> tuple[Demo, list]:
    model, grid = lecturenet(), photos.grid(["chelsea", "coffee", "camera", "rocket"], size=48)
    return demos.guided.show(model, grid.image, [0, 1, 2, 3], grid.boxes, absent=model.categories[5]), [model]


def of_embedding() -> tuple[Demo, list]:
    model, images, labels = lecturenet(), torch.rand(24, 3, 64, 64), torch.arange(3).repeat(8)
    maps = {perplexity: torch.rand(24, 2) for perplexity in (2, 5)}
    return demos.embedding.show(model, images, embedding.features(model, images), labels, "abc", maps, "ac"), [model]


def of_transfer() -> tuple[Demo, list]:
    def describe(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixels": images.flatten(1), "colour": images.mean((2, 3))}

    parts = [torch.rand(count, 3, 32, 32) for count in (12, 4)]
    gallery, queries = (demos.transfer.Pictures(part, torch.arange(len(part)) % 3, describe(part)) for part in parts)
    return demos.transfer.show("abc", gallery, queries, describe, {"pixels": 0.4, "colour": 0.5}), []


MADE = [of_shortcut, of_filters, of_activations, of_deconvnet, of_saliency, of_cam, of_guided, of_embedding]
MADE += [of_transfer]


@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__[3:])
def test_every_demo_changes_with_each_control_and_takes_another_picture(make: Callable) -> None:
    demo, networks = make()
    sent, sizes = demo.scene, [len(names) for names in demo.scene["controls"]]
    shown = {choice: sent["frames"][place] for place, choice in enumerate(product(*map(range, sizes)))}
    for control, size in enumerate(sizes):
        for choice in shown:
            if choice[control] + 1 < size:
                after = shown[(*choice[:control], choice[control] + 1, *choice[control + 1 :])]
                before = shown[choice]
                changed = [before[part] != after[part] for part in ("rows", "says", "picture")]
                changed[2] = changed[2] and sent["pictures"][before["picture"]] != sent["pictures"][after["picture"]]
                if any(changed):
                    break
        else:
            pytest.fail(f"control {control} changes nothing")
    assert len({frame_["says"] for frame_ in sent["frames"]}) == len(shown)  # the sentence names every choice
    for frame_ in sent["frames"]:
        assert frame_["says"].endswith(".") and len(frame_["alt"].split()) >= 3
        assert all("nan" not in text for _, text, _ in frame_["rows"])
    with contextlib.ExitStack() as stack:
        for network in networks:
            stack.enter_context(unchanged(network))
        send(demo, name="cat.png", data=file_of(photos.load("chelsea", 64)))
    assert demo.status == "Done: the demo shows your picture." and demo.scene["pictures"] != sent["pictures"]


@pytest.mark.parametrize("make", [of_shortcut, of_filters], ids=lambda make: make.__name__[3:])
def test_the_sentence_of_a_demo_names_every_choice(make: Callable) -> None:
    frames = make()[0].scene["frames"]
    assert len({frame_["says"] for frame_ in frames}) == len(frames)
