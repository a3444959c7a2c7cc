"""What the demos are made of: `Scene` says what a demo shows, `Demo` shows it, the rest draws its pictures.

A demo shows pictures that were computed beforehand, one for each combination of one to three controls, with numbers and
a sentence for each. So it answers at once, also on a page without a kernel. Where there is one, it computes itself anew
for the reader's own picture.
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import anywidget
import matplotlib as mpl
import numpy as np
import torch.nn.functional as F
import traitlets
from PIL import Image, ImageDraw
from torch import Tensor

from .. import photos
from ..figures import HEAT, SIGNED

SIDE = 360  # of a square picture, in CSS pixels: leaves room for the numbers beside it
PAGE = "application/vnd.helpers.demo+json"  # a demo for the book's pages
Report = Callable[[str], None]


class Row(NamedTuple):
    """A number beside the picture; ``share`` in [0, 1] gives it a bar, ``mark`` a line across the bar."""

    label: str
    text: str
    share: float | None = None
    mark: float | None = None


class Frame(NamedTuple):
    """What one combination of choices shows.

    ``says`` is the state in a sentence; ``alt`` describes the picture. A ``picture`` that is transparent in parts lies
    on the picture ``under``. Frames may share pictures: each is kept once.
    """

    picture: Image.Image
    rows: Sequence[Row]
    says: str
    alt: str
    under: Image.Image | None = None


class Control(NamedTuple):
    """Choices, shown as a ``"slider"``, ``"buttons"`` or a ``"list"``, or moved by the ``"pad"`` alone."""

    label: str
    choices: Sequence[str]
    kind: str = "slider"


class Pad(NamedTuple):
    """Spots on the picture, reached with the pointer and the arrow keys: (x, y) in [0, 1], then values of ``controls``.

    The first ``given`` of these controls are not set by a spot: the spot is there when they have its values.
    """

    label: str
    controls: Sequence[int]
    spots: Sequence[tuple]
    given: int = 0


@dataclass(frozen=True)
class Scene:
    """All that a demo shows.

    Attributes
    ----------
    title, caption
        What it is, and what to look for.
    heading
        What the numbers are.
    controls
        One to three.
    frames
        One for each combination of choices, in the order of `itertools.product`.
    start
        The choices that are shown first.
    quality
        Of the pictures' files, 0 to 100: less for grain, which weighs most and is looked at least.
    """

    title: str
    caption: str
    heading: str
    controls: Sequence[Control]
    frames: Sequence[Frame]
    start: Sequence[int]
    pad: Pad | None = None
    quality: int = 80

    def __post_init__(self) -> None:
        sizes = [len(control.choices) for control in self.controls]
        if not 1 <= len(sizes) <= 3 or len(self.frames) != math.prod(sizes):
            raise ValueError(f"{sizes} choices need one frame each, got {len(self.frames)} frames.")
        if len(self.start) != len(sizes) or not all(0 <= choice < size for choice, size in zip(self.start, sizes)):
            raise ValueError(f"start must be one of {sizes} choices, got {self.start}.")
        if len({(frame.picture.size, len(frame.rows)) for frame in self.frames}) > 1:
            raise ValueError("all frames must have pictures of one size and the same number of rows.")

    @property
    def first(self) -> int:
        """Where the frame of ``start`` is."""
        return int(np.ravel_multi_index(tuple(self.start), [len(control.choices) for control in self.controls]))


class Demo(anywidget.AnyWidget):
    """A scene to play with; ``compute(image, report)`` makes it, also for an ``image`` of the reader's own.

    Runs on ipywidgets 7 (Colab) and 8. The book's pages have no kernel: ``tools/site/demos.py`` puts the same front
    end, ``widget.js``, on them, and says how.

    Parameters
    ----------
    compute
        From (3, size, size) in [0, 1] to a `Scene`; what it passes to ``report`` is shown to the waiting reader.
    image
        What it is given first.
    """

    _esm = Path(__file__).with_name("widget.js").read_text(encoding="utf-8")
    _css = Path(__file__).with_name("widget.css").read_text(encoding="utf-8")
    scene = traitlets.Dict().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    busy = traitlets.Bool().tag(sync=True)

    def __init__(
        self, compute: Callable[[Tensor, Report], Scene], image: Tensor | None = None, *, size: int = 224
    ) -> None:
        super().__init__()
        self._compute, self._size = compute, size
        self.scene = _message(compute(image, lambda text: None))
        self.on_msg(self._receive)

    def _receive(self, _, content: dict, buffers: list) -> None:
        """A picture from the reader: ``{"name", "data"}`` with a file in base64, or ``{"address"}``."""
        if self.busy:
            return
        self.busy, self.status = True, "Reading the picture …"
        try:
            if "address" in content:
                image = photos.load_image(content["address"], self._size)
            else:
                image = photos.decode(base64.b64decode(content["data"]), self._size, content["name"])
            self.scene = _message(self._compute(image, lambda text: setattr(self, "status", text)))
            self.status = "Done: the demo shows your picture."
        except Exception as error:  # the reader sees nothing of the kernel but this line
            self.status = f"That did not work: {error}"
        finally:
            self.busy = False

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        """As every widget; while the site is built, also the scene."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = self.scene["text"]
        if os.environ.get("HELPERS_DARK_FIGURES") == "1":
            data[PAGE] = _as_text(self.scene)
        return data, metadata


def for_page(scene: Scene) -> dict:
    """What a page of the site needs of a scene, where no cell shows it."""
    return _as_text(_message(scene))


def _as_text(message: dict) -> dict:
    """The message with its pictures in base64."""
    return message | {"pictures": [base64.b64encode(picture).decode("ascii") for picture in message["pictures"]]}


def _message(scene: Scene) -> dict:
    """The scene as it goes to the front end, each picture once."""
    pictures = {id(picture): picture for frame in scene.frames for picture in (frame.picture, frame.under) if picture}
    numbers = {key: number for number, key in enumerate(pictures)}
    with ThreadPoolExecutor() as workers:
        files = list(workers.map(lambda picture: _webp(picture, scene.quality), pictures.values()))
    frames = [
        {
            "picture": numbers[id(frame.picture)],
            "under": frame.under and numbers[id(frame.under)],
            "rows": [(row.label, row.text, _bar(row)) for row in frame.rows],
            "says": frame.says,
            "alt": frame.alt,
        }
        for frame in scene.frames
    ]
    return {
        "text": f"Demo: {scene.title}. {scene.frames[scene.first].says}",
        "html": _markup(scene, frames[scene.first]),
        "controls": [list(control.choices) for control in scene.controls],
        "start": list(scene.start),
        "frames": frames,
        "pictures": files,
        "pad": scene.pad and scene.pad._asdict(),
    }


def _webp(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _bar(row: Row) -> str:
    """The style of a row's bar."""
    return ";".join(
        f"--{name}:{getattr(row, name):.3f}" for name in ("share", "mark") if getattr(row, name) is not None
    )


def _markup(scene: Scene, first: dict) -> str:
    """The demo as HTML with its first frame, the controls not yet alive; ``picture:7`` stands for an address."""
    say, (width, height) = html.escape, scene.frames[0].picture.size
    under = "" if first["under"] is None else f";background-image:url(picture:{first['under']})"
    controls = "".join(
        _control(number, control, choice)
        for number, (control, choice) in enumerate(zip(scene.controls, scene.start))
        if control.kind != "pad"
    )
    rows = "".join(
        f'<tr><th scope="row">{say(label)}</th><td class="demo-bar" style="{bar}"></td><td>{say(text)}</td></tr>'
        for label, text, bar in first["rows"]
    )
    pad = scene.pad and (
        f'<div class="demo-pad" role="slider" aria-label="{say(scene.pad.label)}" aria-valuemin="1" '
        f'aria-valuemax="{len(scene.pad.spots)}" aria-valuenow="1"></div>'
    )
    return f"""<figure class="demo" aria-label="Demo: {say(scene.title)}" data-lm-suppress-shortcuts="true">
<div class="demo-picture" style="max-width:{width}px{under}">
<img src="picture:{first["picture"]}" alt="{say(first["alt"])}" width="{width}" height="{height}" decoding="sync">
{pad or ""}</div>
<div class="demo-side">{controls}
<table class="demo-numbers"><caption>{say(scene.heading)}</caption><tbody>{rows}</tbody></table>
<p class="demo-says" role="status">{say(first["says"])}</p>
</div>
<figcaption class="demo-caption">{say(scene.caption)}</figcaption>
</figure>"""


def _control(number: int, control: Control, choice: int) -> str:
    label, names = html.escape(control.label), [html.escape(name) for name in control.choices]
    common = f'data-control="{number}" autocomplete="off" disabled'
    if control.kind == "buttons":
        buttons = "".join(
            f'<label><input type="radio" name="demo-{number}" value="{value}"{" checked" * (value == choice)} {common}>'
            f"{name}</label>"
            for value, name in enumerate(names)
        )
        choices = f'<div class="demo-choices">{buttons}</div>'
        return f'<fieldset class="demo-control"><legend>{label}</legend>{choices}</fieldset>'
    if control.kind == "list":
        options = "".join(
            f'<option value="{value}"{" selected" * (value == choice)}>{name}</option>'
            for value, name in enumerate(names)
        )
        field = f"<select {common}>{options}</select>"
    else:
        field = (
            f'<input type="range" min="0" max="{len(names) - 1}" value="{choice}" aria-valuetext="{names[choice]}" '
            f"{common}><output>{names[choice]}</output>"
        )
    return f'<label class="demo-control"><span>{label}</span>{field}</label>'


def photo(image: Tensor, side: int = SIDE, *, pale: bool = False, sharp: bool = False) -> Image.Image:
    """(3, H, W) in [0, 1] as a picture ``side`` pixels wide.

    ``pale``: nearly grey, to lie under a map; ``sharp``: pixels stay squares.
    """
    pixels = image.detach().cpu().float().clamp(0, 1)
    if pale:
        pixels = 0.75 * pixels.mean(0, keepdim=True) + 0.25 * pixels
    pixels = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize(
        (side, round(side * pixels.shape[0] / pixels.shape[1])),
        Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC,
    )


def heat(
    heatmap: Tensor, limits: tuple[float, float], side: int = SIDE, *, signed: bool = False, over: bool = True
) -> Image.Image:
    """(H, W) in the colours of `figures.draw`; ``over``: the nearer to zero, the more transparent."""
    low, high = limits
    values = heatmap.detach().cpu().float()
    size = (round(side * values.shape[0] / values.shape[1]), side)
    values = F.interpolate(values[None, None], size, mode="bilinear")[0, 0].numpy()
    colours = mpl.colormaps[SIGNED if signed else HEAT]((values - low) / max(high - low, 1e-12))
    if over:
        colours[..., 3] = 0.15 + 0.6 * np.clip(np.abs(values) / max(abs(low), abs(high), 1e-12), 0, 1)
    return Image.fromarray((colours * 255).round().astype(np.uint8))


def sheet(pictures: Sequence[Image.Image], columns: int, gap: int = 6) -> Image.Image:
    """Pictures of one size in rows of ``columns``, with nothing between them."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGBA", (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number % columns * (width + gap), number // columns * (height + gap)))
    return whole


def cutout(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """What of ``picture`` is in the box (top, left, bottom, right, in its pixels), framed; nothing around it."""
    top, left, bottom, right = (round(side) for side in box)
    layer = Image.new("RGBA", picture.size)
    layer.paste(picture.crop((left, top, right, bottom)), (left, top))
    draw = ImageDraw.Draw(layer)
    for inset, colour in enumerate(("black", "white")):  # seen on any photograph
        draw.rectangle((left + inset, top + inset, right - 1 - inset, bottom - 1 - inset), outline=colour)
    return layer
