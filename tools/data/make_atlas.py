"""Make ``book/atlas.tar``: for each stage of both embedded networks, images made for its channels, with numbers.

``python tools/data/make_atlas.py`` takes minutes on one core. It keeps what is done below ``_build/atlas`` and goes on
there when it is run again; another recipe, other weights, another PyTorch or another `feature_visualization` begin
anew. On one machine the same bytes come out each time.

The archive holds ``card.json`` and for each channel ``NETWORK/STAGE/CHANNEL.jpg`` and ``….json``. All numbers are about
activations *before* the rectifier, if the layer has one: a unit whose ReLU is shut gives no gradient, and a ReLU6 makes
the nine best photographs equal. A channel's *value* for an image is the largest in its map. ``reached`` is that of the
image as it was made, ``shown`` that of the picture as it is stored, with its contrast raised, ``best`` that of the best
photograph. ``rank`` counts the channels of the layer whose value for the made image is at least as large.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from tqdm import tqdm

from helpers import activations, datasets, layers, models
from helpers import feature_visualization as visualization
from helpers.reading import shards

ROOT = Path(__file__).resolve().parents[2]
ATLAS = ROOT / "book" / "atlas.tar"
WORK = ROOT / "_build" / "atlas"
CHANNELS = 24  # of each layer, drawn by lot; all where it has no more
BATCH = 8  # images made together
QUALITY = 85  # of the JPEG files
NINE = 9  # photographs for each channel


@dataclass(frozen=True)
class Recipe:
    """How the images of a layer are made.

    Attributes
    ----------
    network, stage
        ``"lecturenet"``, ``"relu5"``: what readers call it.
    layer
        The path of the module whose output is made large: what the rectifier gets, where there is one.
    objective
        ``"unit"`` for the unit in the middle, ``"channel"`` for the mean of the map.
    size, steps, rate
        As for `feature_visualization.maximize`; the seed of an image is the number of its channel.
    shift, degrees, scale
        As for `feature_visualization.affine`.
    inside
        Whether only units that see nothing beyond the photograph's edge compete for the nine.
    named
        Channels that a chapter names: they are shown whatever the lot says.
    """

    network: str
    stage: str
    layer: str
    objective: str
    size: int
    steps: int
    shift: float = 8
    degrees: float = 10
    scale: float = 0.1
    rate: float = 0.025
    inside: bool = False
    named: tuple[int, ...] = ()


# Found by looking at eight channels of each. In a first stage the mean of a map is a plain colour, so there it is one
# unit, in an image that is little larger than what it sees; in EfficientNet's last two stages, too, one unit gives the
# clearer pictures, and half the usual rate calmer ones. Where units see little, those at the edge, which see padding,
# do not compete: most of the best nine of stage 3 lay there.
_FIRST = {"degrees": 5, "scale": 0.05, "rate": 0.05, "inside": True}
RECIPES = (
    Recipe("efficientnet_lite0", "stage 1", "blocks.0", "unit", 8, 32, shift=0, **_FIRST),
    Recipe("efficientnet_lite0", "stage 2", "blocks.1", "channel", 64, 96, inside=True),
    Recipe("efficientnet_lite0", "stage 3", "blocks.2", "channel", 96, 96, inside=True),
    Recipe("efficientnet_lite0", "stage 4", "blocks.4", "unit", 96, 128),
    Recipe("efficientnet_lite0", "stage 5", "bn2.drop", "unit", 160, 160),  # between batch norm and ReLU6, in timm's
    Recipe("lecturenet", "relu1", "conv1", "unit", 16, 24, shift=1, **_FIRST, named=(44, 46)),
    Recipe("lecturenet", "relu2", "conv2", "channel", 80, 96, inside=True, named=(44, 46)),
    Recipe("lecturenet", "relu3", "conv3", "channel", 96, 96, inside=True, named=(44, 46, 184)),
    Recipe("lecturenet", "relu4", "conv4", "channel", 128, 96),
    Recipe("lecturenet", "relu5", "conv5", "channel", 160, 96, named=(12, 44, 69, 74, 88, 125, 212, 232, 247)),
)


def width(model: nn.Module, recipe: Recipe) -> int:
    """The number of the layer's channels."""
    with torch.no_grad():
        return layers.run_to(model, recipe.layer, torch.zeros(1, 3, recipe.size, recipe.size)).shape[1]


def choose(count: int, named: tuple[int, ...] = (), most: int = CHANNELS) -> list[int]:
    """``most`` of ``count`` channels by lot, and the named ones, in order."""
    return sorted({*torch.randperm(count, generator=torch.Generator().manual_seed(0))[:most].tolist(), *named})


def batches(channels: list[int]) -> list[list[int]]:
    """The channels whose images are made together: another batch would give other bits."""
    return [channels[first : first + BATCH] for first in range(0, len(channels), BATCH)]


def make(model: nn.Module, recipe: Recipe, channels: list[int]) -> Tensor:
    """An image for each channel, (N, 3, size, size)."""
    objective = getattr(visualization, recipe.objective)(recipe.layer, channels)
    transform = partial(visualization.affine, shift=recipe.shift, degrees=recipe.degrees, scale=recipe.scale)
    options = {"size": recipe.size, "steps": recipe.steps, "rate": recipe.rate}
    return visualization.maximize(model, objective, transform=transform, seed=channels, **options)


def jpeg(image: Tensor) -> bytes:
    """The image (3, H, W), its contrast raised for the eye, as the bytes of a JPEG file."""
    sheet = io.BytesIO()
    picture: Image.Image = to_pil_image(visualization.stretch(image[None].cpu())[0])
    picture.save(sheet, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return sheet.getvalue()


def decode(picture: bytes) -> Tensor:
    """The pixels (3, H, W) of a JPEG file, in [0, 1]."""
    return pil_to_tensor(Image.open(io.BytesIO(picture)).convert("RGB")).float() / 255


def values(model: nn.Module, recipe: Recipe, images: Tensor) -> Tensor:
    """The largest value in each channel's map, (N, C)."""
    with torch.no_grad():
        return layers.run_to(model, recipe.layer, images).amax((2, 3)).cpu()


def photographs() -> tuple[Tensor, list[str], list[str]]:
    """The embedded groceries, training set first, (N, 3, 160, 160); their names; their coarse classes."""
    parts = [datasets.groceries(split) for split in ("train", "test")]
    names = [name for part in parts for name in part.names]
    classes = [part.classes[label] for part in parts for label in part.labels]
    return torch.cat([part.images for part in parts]), names, classes


def about(
    recipe: Recipe, channel: int, reached: Tensor, shown: Tensor, top: activations.TopPatches, names: list[str]
) -> dict:
    """What is known of a channel; ``reached`` and ``shown`` are the values of all channels, (C,).

    A photograph's ``box`` is what the unit sees, (top, left, bottom, right) in pixels; it may reach over the edges, but
    for a recipe with ``inside``.
    """
    (field,) = top.fields.values()
    nine = []
    for index, unit, value in zip(
        top.index[channel].tolist(), top.units[channel].tolist(), top.values[channel].tolist()
    ):
        nine.append({"name": names[index], "box": field.whole(*unit), "value": round(value, 4)})
    value, best = reached[channel].item(), top.values[channel, 0].item()
    return {
        "network": recipe.network,
        "stage": recipe.stage,
        "layer": recipe.layer,
        "channel": channel,
        "reached": round(value, 4),
        "shown": round(shown[channel].item(), 4),
        "best": round(best, 4),
        "ratio": round(value / best, 3),
        "rank": int((reached >= value).sum()),
        "photographs": nine,
    }


def _kept(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """The tensor in the file, or what is computed and put there; a run that is killed leaves no half of one."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part")
        torch.save(compute(), half)
        half.replace(path)
    return torch.load(path, weights_only=True)


def images_of(model: nn.Module, recipe: Recipe, channels: list[int], work: Path, bar: tqdm) -> Tensor:
    """The image of each channel, (N, 3, size, size); a batch that is below ``work`` is not made again."""
    code = hashlib.sha256(Path(visualization.__file__).read_bytes()).hexdigest()
    key = json.dumps([asdict(recipe), models.EMBEDDED[recipe.network], torch.__version__, code])
    made = []
    for group in batches(channels):
        name = hashlib.sha256(f"{key} {group}".encode()).hexdigest()[:16]
        made.append(_kept(work / f"{name}.pt", partial(make, model, recipe, group)))
        bar.update(len(group))
    return torch.cat(made)


def atlas(
    recipes: tuple[Recipe, ...] = RECIPES, work: Path = WORK, most: int = CHANNELS
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each member of the archive."""
    networks = {name: models.load(name, device="cpu") for name in dict.fromkeys(one.network for one in recipes)}
    widths = [width(networks[one.network], one) for one in recipes]
    chosen = [choose(count, one.named, most) for count, one in zip(widths, recipes)]
    card = {
        "recipes": [asdict(one) | {"channels": count} for count, one in zip(widths, recipes)],
        "weights": {name: models.EMBEDDED[name] for name in networks},
        "photographs": shards.GROCERIES,
        "torch": torch.__version__.split("+")[0],
        "seed": "of an image: the number of its channel",
        "values": "the largest in the channel's map before the rectifier: for the image as made (reached), for the "
        "picture as stored, with its contrast raised (shown), for the photograph with the largest (best)",
        "ratio": "reached over best",
        "rank": "how many channels of the layer have at least the channel's value for the image as made",
    }
    yield "card.json", json.dumps(card, indent=1).encode()
    images, names, _ = photographs()
    tops = {}
    for name, inside in product(networks, (True, False)):
        paths = [one.layer for one in recipes if (one.network, one.inside) == (name, inside)]
        if paths:
            found = activations.top_patches(networks[name], paths, images, NINE, inside=inside)
            tops |= {(name, path): top for path, top in found.items()}
    with tqdm(total=sum(map(len, chosen)), desc="atlas", unit="image") as bar:
        for recipe, channels in zip(recipes, chosen):
            network = networks[recipe.network]
            made = images_of(network, recipe, channels, work, bar)
            pictures = list(map(jpeg, made))
            reached, shown = (values(network, recipe, part) for part in (made, torch.stack([*map(decode, pictures)])))
            for number, (channel, picture) in enumerate(zip(channels, pictures)):
                place = f"{recipe.network}/{recipe.stage.replace(' ', '')}/{channel:04}"
                top = tops[recipe.network, recipe.layer]
                facts = about(recipe, channel, reached[number], shown[number], top, names)
                yield f"{place}.jpg", picture
                yield f"{place}.json", json.dumps(facts, separators=(",", ":")).encode()


def pack(members: Iterator[tuple[str, bytes]]) -> bytes:
    """The bytes of a tar file; owner, mode and time are always the same."""
    sheet = io.BytesIO()
    with tarfile.open(fileobj=sheet, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return sheet.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ATLAS, help="where to write it (book/atlas.tar)")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the test that makes some of them again
    data = pack(atlas())
    options.out.write_bytes(data)
    print(f"{options.out}: {len(data) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
