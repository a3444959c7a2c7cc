"""Put ``book/atlas.tar`` on the page ``book/atlas.md``: its pictures, and a grid of them for each layer.

A line ``% atlas: NETWORK STAGE`` of the page becomes the grid. A picture in it is a link to its channel, which lies
beside it, unseen until it is the address's target: so the page needs no script to open one, and a link from a chapter
is ``atlas.md#lecturenet-relu5-12``. ``_static/atlas.js`` adds the arrow keys and Escape.
"""

import hashlib
import html
import io
import json
import re
import statistics
import tarfile
from collections import Counter
from pathlib import Path

from PIL import Image, ImageDraw
from torchvision.transforms.v2.functional import to_pil_image

from helpers import datasets

ROOT = Path(__file__).resolve().parents[2]
ATLAS = ROOT / "book" / "atlas.tar"
SCRIPT = ROOT / "book" / "assets" / "atlas.js"
PLACE = re.compile(r"(?m)^% atlas: (.+)$")
GREY = (128, 128, 128)
SIDE, GAP = 96, 2  # of a patch on its sheet of nine, and between two, in pixels

Channel = dict  # what make_atlas.about returns


def read(path: Path = ATLAS) -> tuple[dict, list[tuple[Channel, bytes]]]:
    """The card, and for each channel its numbers and the bytes of its picture."""
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    card = json.loads(files.pop("card.json"))
    places = [name.removesuffix(".json") for name in files if name.endswith(".json")]
    return card, [(json.loads(files[f"{place}.json"]), files[f"{place}.jpg"]) for place in places]


def groceries() -> dict[str, tuple[Image.Image, str]]:
    """From the name of each embedded photograph to the photograph and its coarse class."""
    found = {}
    for part in (datasets.groceries("train"), datasets.groceries("test")):
        for name, image, label in zip(part.names, part.images, part.labels):
            found[name] = to_pil_image(image), part.classes[label]
    return found


def anchor(channel: Channel) -> str:
    """Such as ``lecturenet-relu5-12``."""
    return f"{channel['network']}-{channel['stage'].replace(' ', '')}-{channel['channel']}"


def patch(photograph: Image.Image, box: list[int]) -> Image.Image:
    """What a unit sees, SIDE pixels, grey beyond the photograph; all of it with a ring, where it sees more than all."""
    top, left, bottom, right = box
    if bottom - top <= photograph.height and right - left <= photograph.width:
        canvas = Image.new("RGB", (right - left, bottom - top), GREY)
        canvas.paste(photograph, (-left, -top))
        return canvas.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    whole = photograph.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    x, y = ((low + high) / 2 * SIDE / photograph.width for low, high in ((left, right), (top, bottom)))
    draw = ImageDraw.Draw(whole)
    for radius, colour, line in ((9, "black", 3), (8, "white", 1)):
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], outline=colour, width=line)
    return whole


def halved(recipe: dict) -> bool:
    """Whether the patches of a layer show the middle of what its units see: where that is no longer a spot."""
    return recipe["inside"] and recipe["objective"] == "channel"


def middle(box: list[int]) -> list[int]:
    """Half the height and width of a box, about its middle: most of a unit's gradient lies there (chapter 3)."""
    top, left, bottom, right = box
    down, across = (bottom - top) // 4, (right - left) // 4
    return [top + down, left + across, bottom - down, right - across]


def sheet(patches: list[Image.Image]) -> bytes:
    """Nine patches in three rows, as the bytes of a WebP file."""
    picture = Image.new("RGB", (3 * SIDE + 2 * GAP,) * 2, GREY)
    for number, one in enumerate(patches):
        picture.paste(one, (number % 3 * (SIDE + GAP), number // 3 * (SIDE + GAP)))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=72, method=2)
    return file.getvalue()


def counted(classes: list[str]) -> str:
    """Such as ``5 Leek, 4 Asparagus``, the commonest first."""
    return ", ".join(f"{count} {name}" for name, count in Counter(classes).most_common())


def place_atlas(page: Path, folder: Path, archive: Path = ATLAS) -> None:
    """Replace the lines ``% atlas: …`` of the page; write the pictures into ``folder``, the site's _static/atlas."""
    card, channels = read(archive)
    text = page.read_text(encoding="utf-8")
    layers = {f"{one['network']} {one['stage']}": one for one in card["recipes"]}
    places = re.findall(PLACE, text)
    if sorted(places) != sorted(layers):
        raise ValueError(f"{page} must have one place for each of {', '.join(layers)}; it has {', '.join(places)}.")
    photographs = groceries()
    folder.mkdir(parents=True)
    classes = {}
    for channel, picture in channels:
        nine = [photographs[one["name"]] for one in channel["photographs"]]
        classes[anchor(channel)] = [name for _, name in nine]
        (folder / f"{anchor(channel)}.jpg").write_bytes(picture)
        boxes = [one["box"] for one in channel["photographs"]]
        if halved(layers[f"{channel['network']} {channel['stage']}"]):
            boxes = [middle(box) for box in boxes]
        patches = [patch(photograph, box) for (photograph, _), box in zip(nine, boxes)]
        (folder / f"{anchor(channel)}.webp").write_bytes(sheet(patches))

    def replace(match: re.Match) -> str:
        recipe = layers[match[1]]
        chosen = [one for one, _ in channels if (one["network"], one["stage"]) == (recipe["network"], recipe["stage"])]
        summary, grid = _summary(recipe, chosen), _grid(chosen, recipe, classes)
        return f"{{.figure-caption}}\n{summary}\n\n```{{raw}} html\n{grid}\n```\n"

    text = re.sub(PLACE, replace, text)
    version = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:10]
    script = f'```{{raw}} html\n<script src="../_static/{SCRIPT.name}?{version}" defer></script>\n```\n'
    page.write_text(f"{text}\n{script}", encoding="utf-8")


def _summary(recipe: dict, channels: list[Channel]) -> str:
    """What is shown of a layer, how it was made and how often the image beats the photographs, in a few sentences."""
    count, named = len(channels), len(recipe["named"])
    if count == recipe["channels"]:
        shown = f"All {count} channels."
    else:
        shown = f"{count} of {recipe['channels']} channels, drawn by lot"
        shown += f"; {named} of them because chapters name them." if named else "."
    top, left, bottom, right = channels[0]["photographs"][0]["box"]
    size = f"{recipe['size']} × {recipe['size']} pixels in {recipe['steps']} steps"
    made = f"Images for {'one unit' if recipe['objective'] == 'unit' else 'the mean of the map'}, {size}."
    ratio = statistics.median(one["ratio"] for one in channels)
    more, first = sum(one["ratio"] > 1 for one in channels), sum(one["rank"] == 1 for one in channels)
    reached = f"The made image reaches {ratio:.1f} times what the best photograph does (median), and more in {more} of "
    reached += f"{count}; in {first} it fires its own channel more than any other."
    edge = "; only those that see nothing beyond the photograph compete" if recipe["inside"] else ""
    edge += ", and the patches show their middle half" if halved(recipe) else ""
    return f"{shown} A unit sees {bottom - top} × {right - left} pixels{edge}. {made} {reached}"


def _grid(channels: list[Channel], recipe: dict, classes: dict[str, list[str]]) -> str:
    cells = []
    for number, channel in enumerate(channels):
        before = channels[number - 1] if number else None
        after = channels[number + 1] if number + 1 < len(channels) else None
        cells.append(_cell(channel, recipe, classes[anchor(channel)], before, after))
    return f'<div class="atlas">\n{"".join(cells)}</div>'


def _cell(channel: Channel, recipe: dict, classes: list[str], before: Channel | None, after: Channel | None) -> str:
    """The picture in the grid, and what it opens."""
    here, number, stage = anchor(channel), channel["channel"], channel["stage"]
    commonest = " and ".join(name for name, _ in Counter(classes).most_common(2))
    nine = html.escape(counted(classes))
    picture = f'src="../_static/atlas/{here}.jpg" width="{recipe["size"]}" height="{recipe["size"]}" loading="lazy"'
    sheet_side = 3 * SIDE + 2 * GAP
    sheet = f'src="../_static/atlas/{here}.webp" width="{sheet_side}" height="{sheet_side}" loading="lazy"'
    steps = "".join(
        f'<a class="{name}" href="#{anchor(one)}">{text.format(one["channel"])}</a>'
        for name, one, text in (("atlas-before", before, "← channel {}"), ("atlas-after", after, "channel {} →"))
        if one
    )
    return f"""\
<a class="atlas-tile" id="at-{here}" href="#{here}"><img {picture} \
alt="Channel {number} of {stage}, {channel["network"]}; fires for {html.escape(commonest)}."></a>
<section class="atlas-channel" id="{here}" tabindex="-1" aria-labelledby="name-{here}">
<p class="atlas-name"><strong id="name-{here}">Channel {number} of {stage}</strong>\
<a class="atlas-close" href="#at-{here}">Close</a></p>
<figure><img {picture} alt="The image made for channel {number} of {stage}.">\
<figcaption>Made for it</figcaption></figure>
<figure><img {sheet} alt="Nine patches that fire channel {number} of {stage} most: {nine}.">\
<figcaption>The nine photographs that fire it most: {nine}</figcaption></figure>
<p>The image reaches {_number(channel["reached"])} (as shown, with its contrast raised, \
{_number(channel["shown"])}), the best photograph {_number(channel["best"])}: {channel["ratio"]:.1f} times as much. \
Among the layer’s {recipe["channels"]} channels, this one comes {_ordinal(channel["rank"])} for the image.</p>
<p class="atlas-steps">{steps}</p>
</section>
"""


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _ordinal(rank: int) -> str:
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"
