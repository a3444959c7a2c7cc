"""Make the front page's demo: one picture, three classes, the methods of chapters 5 to 8 side by side.

``front_demo.py FILE.json`` computes it for the site (some ten seconds) and build_site.py puts it on the page;
``front_demo.py --still`` draws what it shows first into ``book/assets/methods.webp``, for README.
"""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from helpers import cam, guided, layers, models, occlusion, photos, runtime, saliency, scoring
from helpers.demos.widget import Control, Frame, Row, Scene, for_page, heat, photo
from helpers.figures import DARK
from helpers.inputs import Box

STILL = Path(__file__).resolve().parents[2] / "book/assets/methods.webp"
THINGS = {"cup": "coffee", "cat": "chelsea"}  # from left to right: what is seen, and its photograph's name
CLASSES = ("tiger cat", "espresso", "flamingo")  # the last one is not there
CELL = 160  # pixels; as in the scoreboard's grids
REGIONS = ("occlusion", "CAM", "Grad-CAM")  # smooth maps, which are drawn over the photograph
WIDTH, LABEL, GAP = 248, 26, 6  # of a panel of the overview, of its label and between panels, in pixels
SIZE = (2 * WIDTH + GAP, 4 * (WIDTH // 2 + LABEL) + 3 * GAP)  # of every picture: eight panels
LARGE = (SIZE[0], SIZE[0] // 2)  # of one method's map
FONT = ImageFont.truetype(Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), 17)


def picture() -> Tensor:
    """The two photographs beside each other, (3, CELL, 2·CELL)."""
    return torch.cat([photos.load(name, CELL) for name in THINGS.values()], dim=2).to(runtime.device())


def explain(model: models.Classifier, image: Tensor, targets: Sequence[int]) -> dict[str, list[Tensor]]:
    """From each method to its map for each target: (H, W), or signed and in colours (3, H, W)."""
    fast = layers.fold_batch_norm(model, image[None])
    covered = occlusion.sensitivity(fast, image, targets[0], window=CELL // 4, stride=CELL // 8, score="logit")
    methods = {
        "gradient": saliency.gradient,
        "SmoothGrad": saliency.smoothgrad,
        "CAM": cam.cam,
        "Grad-CAM": cam.gradcam,
        "guided backpropagation": guided.backprop,
        "Guided Grad-CAM": guided.gradcam,
    }
    maps = {name: [method(fast, image, target) for target in targets] for name, method in methods.items()}
    return {"occlusion": [covered.of(target).heatmap for target in targets]} | maps


def flat(map_: Tensor) -> Tensor:
    """A map's strength at each pixel (H, W), as the scoreboard takes it."""
    return map_.abs().amax(0) if map_.ndim == 3 else map_


def likeness(maps: Sequence[Tensor]) -> list[float]:
    """Of each class's map the mean rank correlation with the same method's maps of the other classes."""
    pairs = [[scoring.rank_correlation(flat(one), flat(other)) for other in maps if other is not one] for one in maps]
    return [sum(values) / len(values) for values in pairs]


def scene(image: Tensor, maps: dict[str, list[Tensor]], probabilities: Sequence[float]) -> Scene:
    """What the demo shows: class × (all methods, or one large)."""
    alike = {method: likeness(of_class) for method, of_class in maps.items()}
    mean = {method: sum(values) / len(values) for method, values in alike.items()}
    still, moving = max(mean, key=mean.get), min(mean, key=mean.get)
    overview, alone = _ground(image, list(maps)), _ground(image)
    frames = []
    for number, (name, probability) in enumerate(zip(CLASSES, probabilities)):
        rows = [Row(method, _signed(values[number]), max(values[number], 0)) for method, values in alike.items()]
        sure = f"{name} (probability {_chance(probability)})"
        drawn = {method: of_class[number] for method, of_class in maps.items()}
        where = {method: _shares(map_) for method, map_ in drawn.items()}
        most, least = (
            f"{method}, {_signed(alike[method][number])}"
            for method in (end(alike, key=lambda method: alike[method][number]) for end in (max, min))
        )
        says = f"All methods for {sure}. Most like its maps for the other classes: {most}; least: {least}."
        largest = "; ".join(f"on the {thing}: {_mostly(where, thing)}" for thing in THINGS)
        alt = f"A cup beside a cat, and seven maps of them for {name}. Most of the map lies {largest}."
        frames.append(Frame(_overview(drawn), rows, says, alt, overview))
        for method, map_ in drawn.items():
            shares = ", ".join(f"{100 * share:.0f} % on the {thing}" for thing, share in where[method].items())
            says = f"{_capital(method)} for {sure}: {shares}; rank correlation with its maps for the other classes "
            says += f"{_signed(alike[method][number])}."
            alt = f"A cup beside a cat; below it the map of {method} for {name}: {shares}."
            frames.append(Frame(_alone(map_, method, f"for {sure}"), rows, says, alt, alone))
    return Scene(
        title="one answer, seven explanations",
        caption=f"Change the class: which maps follow? Over all pairs of classes those of {still} least (mean rank "
        f"correlation {_signed(mean[still])}; 1: the same order of pixels), those of {moving} most "
        f"({_signed(mean[moving])}). Ask for {CLASSES[-1]}, too, which is not there: each method draws something all "
        "the same.",
        heading="Rank correlation with the maps for the other classes",
        controls=[
            Control("Explain the answer", CLASSES, "buttons"),
            Control("Show", ["all methods", *maps], "buttons"),
        ],
        frames=frames,
        start=(0, 0),
        quality=60,
    )


def _shares(map_: Tensor) -> dict[str, float]:
    """How much of the map's positive mass lies on each thing."""
    boxes = [Box(0, place * CELL, CELL, (place + 1) * CELL) for place in range(len(THINGS))]
    return {thing: scoring.localisation(flat(map_), box) for thing, box in zip(THINGS, boxes)}


def _mostly(where: dict[str, dict[str, float]], thing: str) -> str:
    """The methods with more than half of their map on the thing."""
    return ", ".join(method for method, shares in where.items() if shares[thing] > 0.5) or "none"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _chance(probability: float) -> str:
    return f"{probability:.2f}" if probability >= 0.005 else "below 0.01"


def _panel(map_: Tensor, method: str, width: int) -> Image.Image:
    """A map as its chapter draws it: over the photograph, alone in the colours of heat, or signed on grey."""
    if method in REGIONS:
        return heat(map_.clamp(min=0), (0, max(map_.max().item(), 1e-12)), width)
    small = F.avg_pool2d(map_.reshape(1, -1, *map_.shape[-2:]), 2)[0]  # 2×2 pixels averaged: less grain
    top = small.abs().flatten().quantile(0.99).clamp(min=1e-12)
    if map_.ndim == 3:
        return photo(0.5 + 0.5 * small / top, width).convert("RGBA")
    return heat(small[0], (0, top.item()), width, over=False)


def _write(canvas: Image.Image, middle: float, y: float, text: str) -> None:
    ImageDraw.Draw(canvas).text((middle, y), text, DARK["ink"], FONT, anchor="mm")


def _place(number: int) -> tuple[int, int]:
    """Where the panel of the overview begins: x, y."""
    return number % 2 * (WIDTH + GAP), number // 2 * (WIDTH // 2 + LABEL + GAP)


def _ground(image: Tensor, methods: Sequence[str] = ()) -> Image.Image:
    """What lies under the maps: the photograph in colours, then pale, with labels; without methods for a large map."""
    canvas = Image.new("RGB", SIZE, DARK["paper"])
    if not methods:
        canvas.paste(photo(image, LARGE[0]), (0, 0))
        canvas.paste(photo(image, LARGE[0], pale=True), (0, SIZE[1] // 2))
        _write(canvas, SIZE[0] / 2, (LARGE[1] + SIZE[1] // 2) / 2, "photograph")
        return canvas
    for number, label in enumerate(["photograph", *methods]):
        x, y = _place(number)
        canvas.paste(photo(image, WIDTH, pale=number > 0), (x, y))
        _write(canvas, x + WIDTH / 2, y + WIDTH // 2 + LABEL / 2, label)
    return canvas


def _overview(maps: dict[str, Tensor]) -> Image.Image:
    """All maps, transparent where the ground is to be seen."""
    canvas = Image.new("RGBA", SIZE)
    for number, (method, map_) in enumerate(maps.items(), start=1):
        canvas.paste(_panel(map_, method, WIDTH), _place(number))
    return canvas


def _alone(map_: Tensor, method: str, about: str) -> Image.Image:
    """One map, large, below the photograph."""
    canvas, top = Image.new("RGBA", SIZE), SIZE[1] // 2
    canvas.paste(_panel(map_, method, LARGE[0]), (0, top))
    for line, y in ((method, 0.3), (about, 0.74)):
        _write(canvas, SIZE[0] / 2, top + LARGE[1] + y * (SIZE[1] - top - LARGE[1]), line)
    return canvas


def compute() -> Scene:
    runtime.seed(0)
    model, image = models.load(), picture()
    targets = [model.index(name) for name in CLASSES]
    with torch.no_grad():
        probabilities = model(image[None])[0].softmax(0)[targets].tolist()
    return scene(image, explain(model, image, targets), probabilities)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    found = compute()
    if arguments == ["--still"]:
        STILL.write_bytes(still(found))
        return
    path = Path(arguments[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(for_page(found), ensure_ascii=False), encoding="utf-8")
    unfinished.replace(path)  # in one step, as execute.py


def still(found: Scene) -> bytes:
    """What the demo shows first, as the bytes of a WebP file."""
    frame, file = found.frames[found.first], io.BytesIO()
    Image.alpha_composite(frame.under.convert("RGBA"), frame.picture).convert("RGB").save(
        file, "WEBP", quality=found.quality
    )
    return file.getvalue()


if __name__ == "__main__":
    main(sys.argv[1:])
