"""Make the shards of helpers/data from the Grocery Store Dataset: ``make_groceries.py FOLDER``, or ``… --check``.

FOLDER is the ``dataset`` folder as its authors publish it, or a copy with smaller photographs: ``classes.csv``,
``train.txt``, ``test.txt`` and the photographs that they list. The shards have WebDataset's layout, and the same FOLDER
gives the same bytes with the same Pillow. ``--check`` writes nothing: it says whether the shards that are there are
what FOLDER gives; the exit status is 1 if not.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from helpers import photos

PER_CLASS = {"train": 17, "test": 18}  # photographs of each coarse class, where there are so many
SIZE = 160  # pixels
QUALITY = 80  # of the JPEG files
PER_SHARD = 256  # photographs
DATA = Path(__file__).resolve().parents[2] / "helpers" / "data"

# Photographs that are in no shard, and why: what same_place.py finds, and those with people, by looking at all others.
with Path(__file__).with_name("groceries_left_out.csv").open(encoding="utf-8", newline="") as _file:
    LEFT_OUT = {row["photograph"]: row["why"] for row in csv.DictReader(_file)}


class Photograph(NamedTuple):
    """A line of train.txt or test.txt: path below the folder, number of the fine and of the coarse class."""

    path: str
    label: int
    coarse: int


def listed(folder: Path, split: str) -> list[Photograph]:
    """The photographs of a split in the authors' order."""
    rows = csv.reader((folder / f"{split}.txt").read_text(encoding="utf-8").splitlines(), skipinitialspace=True)
    return [Photograph(path, int(label), int(coarse)) for path, label, coarse in rows]


def shares(available: list[int], total: int) -> list[int]:
    """How many to take of each class: ``total`` in all, as even as what is ``available`` of each allows."""
    taken = [0] * len(available)
    while sum(taken) < min(total, sum(available)):
        open_classes = [i for i, count in enumerate(available) if taken[i] < count]
        taken[min(open_classes, key=taken.__getitem__)] += 1
    return taken


def evenly(items: list, count: int) -> list:
    """``count`` of the items, evenly spaced: neighbours in a list often show the same heap."""
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def choose(photographs: list[Photograph], per_class: int) -> list[Photograph]:
    """``per_class`` photographs of each coarse class, spread over its fine classes, in the order of the list."""
    allowed = [one for one in photographs if one.path not in LEFT_OUT]
    chosen: list[Photograph] = []
    for coarse in sorted({one.coarse for one in allowed}):
        labels = sorted({one.label for one in allowed if one.coarse == coarse})
        groups = [[one for one in allowed if one.label == label] for label in labels]
        for group, count in zip(groups, shares([len(group) for group in groups], per_class)):
            chosen += evenly(group, count)
    return chosen


def jpeg(file: Path) -> bytes:
    """The photograph's central square, SIZE pixels, as the bytes of a JPEG file without any metadata."""
    sheet = io.BytesIO()
    picture: Image.Image = to_pil_image(photos.load_image(file, SIZE))
    picture.save(sheet, "JPEG", quality=QUALITY, optimize=True)
    return sheet.getvalue()


def shard(folder: Path, photographs: list[Photograph], names: dict[int, list[str]]) -> bytes:
    """The bytes of a tar file: key.jpg and key.json of each photograph; owner, mode and time are always the same."""
    sheet = io.BytesIO()
    with tarfile.open(fileobj=sheet, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for one in photographs:
            about = {"label": one.label, "coarse": one.coarse, "names": names[one.label], "path": one.path}
            files = {".jpg": jpeg(folder / one.path), ".json": json.dumps(about).encode()}
            for suffix, data in files.items():
                member = tarfile.TarInfo(Path(one.path).stem + suffix)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return sheet.getvalue()


def shards(folder: Path, per_class: dict[str, int] = PER_CLASS) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each shard that ``folder`` gives."""
    with (folder / "classes.csv").open(encoding="utf-8-sig", newline="") as file:
        names = {int(row[1]): [row[0], row[2]] for row in list(csv.reader(file))[1:]}
    for split, count in per_class.items():
        chosen = choose(listed(folder, split), count)
        for number, first in enumerate(range(0, len(chosen), PER_SHARD)):
            yield f"groceries-{split}-{number:06}.tar", shard(folder, chosen[first : first + PER_SHARD], names)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=DATA, help="where the shards are, or will be (helpers/data)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args(arguments)
    made = dict(shards(options.folder))
    there = {path.name for path in options.out.glob("groceries-*.tar")}
    if options.check:
        same = {name for name in made.keys() & there if (options.out / name).read_bytes() == made[name]}
        wrong = sorted((made.keys() | there) - same)
        print(f"{len(same)} shards are what {options.folder} gives; not so: {', '.join(wrong) or 'none'}.")
        return 1 if wrong else 0
    for name in there - made.keys():
        (options.out / name).unlink()
    for name, data in made.items():
        (options.out / name).write_bytes(data)
        print(f'    "{name}": "{hashlib.sha256(data).hexdigest()}",')  # for reading/shards.py
    return 0


if __name__ == "__main__":
    sys.exit(main())
