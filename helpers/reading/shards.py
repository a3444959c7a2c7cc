"""The groceries: the package's shards of them, and the whole set in its authors' folder (see `datasets.groceries`)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from . import pictures

# The package's shards, and their SHA-256. tools/data/make_groceries.py makes them.
DATA = Path(__file__).parents[1] / "data"
GROCERIES = {
    "groceries-train-000000.tar": "b40eadf1a2121d4fb51f4c5399c2d0a906eeb4c48df769117186ec5779f9954f",
    "groceries-train-000001.tar": "1b1adebb954e19ca363c0ddb222b6a07c6bae097b36af7eebe56cbb90fabf6b0",
    "groceries-train-000002.tar": "0a61eb70b6fc9a0ac360af12ef9c2da61dc62e33a637d4a02160d6211d0594e9",
    "groceries-test-000000.tar": "302e2ab1bf5e5aafe30e531fc4a61729e8dd9feb3571f6217dad2aa9afc04fbd",
    "groceries-test-000001.tar": "19e735fe6c20ba532b1b90b020144a61204c09e5aafc3a4d437f7613096c3183",
    "groceries-test-000002.tar": "c087dc338227548691afd007d93eabf4de4d477c6c20c364878cf1c388979dbd",
}
LEVELS = ("fine", "coarse")


class Files(Dataset):
    """Images that are read from ``root`` when they are asked for, with what `datasets.Images` says of them."""

    def __init__(self, root: Path, names: tuple[str, ...], labels: Tensor, classes: tuple[str, ...], size: int) -> None:
        self.root, self.names, self.labels, self.classes, self.size = root, names, labels, classes, size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.root / self.names[index]
        return pictures.decode(pictures.read(path), self.size, str(path)), int(self.labels[index])


def samples(split: str) -> Iterator[tuple[dict, bytes]]:
    """What the JSON says and the bytes of the JPEG of each photograph in the shards of a split."""
    for name, digest in GROCERIES.items():
        if name.startswith(f"groceries-{split}-"):
            yield from _samples(DATA / name, digest)


def _samples(path: Path, digest: str) -> list[tuple[dict, bytes]]:
    """What the JSON says and the bytes of the JPEG of each photograph in a shard with this SHA-256, in memory only."""
    if not path.is_file():
        raise FileNotFoundError(f"no shard at {path}: install the package `visualizing-cnns` again.")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found[:16]}…, expected {digest[:16]}…. Install the package "
            "`visualizing-cnns` again; for photographs of your own give their folder as root."
        )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}
    keys = [name.removesuffix(".json") for name in files if name.endswith(".json")]
    return [(json.loads(files[f"{key}.json"]), files[f"{key}.jpg"]) for key in keys]


def listed(root: Path, split: str, level: str, size: int) -> Files:
    """The photographs of a split of the whole set, as the authors' lists have them."""
    column = LEVELS.index(level)
    classes = {int(row[2 * column + 1]): row[2 * column] for row in _rows(root / "classes.csv", (1, 3))}
    if sorted(classes) != list(range(len(classes))):
        raise ValueError(f"{root / 'classes.csv'} is no list of the Grocery Store Dataset: it does not count from 0.")
    rows = _rows(root / f"{split}.txt", (1, 2))
    labels = torch.tensor([int(row[1 + column]) for row in rows])
    if labels.max() >= len(classes):
        raise ValueError(
            f"{root / split}.txt is no list of the Grocery Store Dataset: class {labels.max()} has no name."
        )
    ordered = tuple(classes[label] for label in range(len(classes)))
    return Files(root, tuple(row[0] for row in rows), labels, ordered, size)


def _rows(path: Path, numbers: tuple[int, int]) -> list[list[str]]:
    """The lines of one of the authors' lists, without a heading; the columns ``numbers`` hold class numbers."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True))
    except OSError as error:
        raise FileNotFoundError(
            f"{path} can't be read ({error}): root must be the folder `dataset` of the Grocery Store Dataset."
        ) from error
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no list of the Grocery Store Dataset: {error}.") from error
    rows = rows[path.suffix == ".csv" :]
    wrong = [row for row in rows if len(row) <= numbers[1] or not all(row[column].isdecimal() for column in numbers)]
    if wrong or not rows:
        raise ValueError(f"{path} is no list of the Grocery Store Dataset: {wrong[0] if wrong else 'it is empty'}.")
    return rows
