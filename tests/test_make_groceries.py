"""The groceries: the same bytes each time, an even choice; the shards of the package are what the tool makes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import clones
import make_groceries as tool
import numpy as np
import pytest
import same_place
import torch
from PIL import Image

from helpers import datasets, photos
from helpers.reading.shards import DATA, GROCERIES

FOLDER = Path(os.environ.get("GROCERIES", "/nowhere"))  # the set as its authors publish it
CLASSES = [("Granny-Smith", 0, "Apple", 0), ("Red-Delicious", 1, "Apple", 0), ("Leek", 2, "Leek", 1)]


def draw(folder: Path, counts: tuple[int, ...] = (5, 2, 4)) -> Path:
    """A set as its authors publish it, of drawn pictures: ``counts`` of each fine class in each split."""
    folder.mkdir()
    heading = ["Class Name (str)", "Class ID (int)", "Coarse Class Name (str)", "Coarse Class ID (int)"]
    with (folder / "classes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([heading, *CLASSES])
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        lines = []
        for (name, label, _, coarse), count in zip(CLASSES, counts):
            for number in range(1, count + 1):
                path = f"{split}/{name}/{name}_{number:03}.jpg"
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).resize((300, 224)).save(folder / path)
                lines.append(f"{path}, {label}, {coarse}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_the_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    per_class = {"train": 4, "test": 3}
    first, second = (dict(tool.shards(draw(tmp_path / name), per_class)) for name in ("a", "b"))
    assert first == second and list(first) == ["groceries-train-000000.tar", "groceries-test-000000.tar"]
    with tarfile.open(fileobj=io.BytesIO(first["groceries-train-000000.tar"])) as archive:
        for member in archive:
            assert member.isreg() and (member.mtime, member.uid, member.gid, member.mode) == (0, 0, 0, 0o644)
            assert member.uname == member.gname == "" and "/" not in member.name


def test_a_shard_holds_what_its_list_says(tmp_path: Path) -> None:
    folder = draw(tmp_path / "set")
    files = members(dict(tool.shards(folder, {"test": 3}))["groceries-test-000000.tar"])
    assert list(files)[::2] == [name.replace(".json", ".jpg") for name in list(files)[1::2]]  # WebDataset's pairs
    about = json.loads(files["Red-Delicious_002.json"])
    assert about == {
        "label": 1, "coarse": 0, "names": ["Red-Delicious", "Apple"], "path": "test/Red-Delicious/Red-Delicious_002.jpg"
    }  # fmt: skip
    picture = Image.open(io.BytesIO(files["Red-Delicious_002.jpg"]))
    assert picture.size == (160, 160) and picture.format == "JPEG" and not picture.getexif()
    original = photos.load_image(folder / about["path"], 160)
    assert (photos.decode(files["Red-Delicious_002.jpg"], 160) - original).abs().mean() < 0.02


def test_long_splits_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "PER_SHARD", 3)
    made = dict(tool.shards(draw(tmp_path / "set"), {"train": 4}))
    assert [len(members(data)) // 2 for data in made.values()] == [3, 3, 2]
    assert len(set().union(*map(members, made.values()))) == 16


@pytest.mark.parametrize(
    ("available", "total", "expected"),
    [([5, 5], 4, [2, 2]), ([5, 5], 5, [3, 2]), ([1, 9, 9], 7, [1, 3, 3]), ([2, 1], 9, [2, 1]), ([4], 0, [0])],
)
def test_fine_classes_get_even_shares(available: list[int], total: int, expected: list[int]) -> None:
    assert tool.shares(available, total) == expected


def test_the_choice_is_spread_and_without_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = tool.listed(draw(tmp_path / "set", (9, 3, 2)), "train")
    monkeypatch.setattr(tool, "LEFT_OUT", {photographs[4].path: "a person"})
    chosen = tool.choose(photographs, 6)
    assert Counter(one.label for one in chosen) == {0: 3, 1: 3, 2: 2}
    assert [one.path[-7:-4] for one in chosen[:3]] == ["002", "006", "008"]
    assert photographs[4] not in tool.choose(photographs, 99) and len(tool.choose(photographs, 99)) == 13


def test_check_says_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, out = draw(tmp_path / "set"), tmp_path / "out"
    out.mkdir()
    arguments = [str(folder), "--out", str(out)]
    assert tool.main(arguments) == 0 and tool.main([*arguments, "--check"]) == 0
    (out / "groceries-other-000000.tar").touch()
    shard = out / "groceries-test-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    capsys.readouterr()
    assert tool.main([*arguments, "--check"]) == 1
    assert "groceries-other-000000.tar, groceries-test-000000.tar" in capsys.readouterr().out
    assert tool.main(arguments) == 0 and not (out / "groceries-other-000000.tar").exists()


@pytest.mark.skipif(not FOLDER.is_dir(), reason="GROCERIES does not name the folder of the whole set")
def test_the_package_holds_what_the_tool_makes(capsys: pytest.CaptureFixture) -> None:
    assert tool.main([str(FOLDER), "--check"]) == 0, capsys.readouterr().out


def test_nothing_that_is_left_out_is_in_the_package() -> None:
    assert len(tool.LEFT_OUT) > 100 and all(tool.LEFT_OUT.values())
    for split in ("train", "test"):
        assert not tool.LEFT_OUT.keys() & set(datasets.groceries(split).names)


def test_the_same_things_are_found_again_and_other_things_are_not(tmp_path: Path) -> None:
    """A turned, smaller and darker copy of a picture shows the same place; another picture does not."""
    random = np.random.default_rng(0)
    first, other = (Image.fromarray(random.integers(0, 256, (40, 40, 3), np.uint8)).resize((448, 448)) for _ in "ab")
    first.save(tmp_path / "a.png")
    first.rotate(20).crop((60, 60, 400, 400)).point(lambda value: value * 0.8).save(tmp_path / "b.png")
    other.save(tmp_path / "c.png")
    a, b, c = (same_place.keypoints(tmp_path, f"{name}.png") for name in "abc")
    assert same_place.matches(a, b) > 3 * same_place.MATCHES and same_place.matches(a, c) < same_place.MATCHES
    Image.new("RGB", (50, 50)).save(tmp_path / "black.png")
    assert same_place.matches(a, same_place.keypoints(tmp_path, "black.png")) == 0


def test_of_a_carton_only_what_is_beside_it_counts(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    (tmp_path / "Packages").mkdir()
    Image.fromarray(pixels).resize((224, 224)).save(tmp_path / "Packages" / "a.png")
    columns = same_place.keypoints(tmp_path, "Packages/a.png")[0][:, 1]
    assert len(columns) > 20 and not ((columns >= 60) & (columns <= 164)).any()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive, of a copy: setuptools leaves a folder behind."""
    source, out = clones.copy_to(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("dist")
    build = f"from setuptools import build_meta as b; b.build_wheel({str(out)!r}); b.build_sdist({str(out)!r})"
    result = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return out


@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_the_archives_hold_the_whole_package(archives: Path, kind: str, tmp_path: Path) -> None:
    (path,) = archives.glob(kind)
    shutil.unpack_archive(path, tmp_path, "zip" if path.suffix == ".whl" else "gztar")
    (data,) = (found for found in tmp_path.rglob("helpers/data") if "dist-info" not in found.as_posix())
    names = {found.name for found in data.iterdir()}
    assert names == {"README.md", "LICENSE-groceries", "scoreboard.json", *GROCERIES}
    for name in names:
        assert (data / name).read_bytes() == (DATA / name).read_bytes()
    for name in clones.tracked():
        if name.startswith("helpers/"):
            assert (data.parent.parent / name).is_file(), f"{name} is not in the package"


def test_the_licence_is_the_authors() -> None:
    text = (DATA / "LICENSE-groceries").read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2019 Marcus Klasson\n")
    assert "The above copyright notice and this permission notice shall be included in all" in text
    if FOLDER.is_dir():
        assert text == (FOLDER / "LICENSE").read_text(encoding="utf-8")


def test_the_card_counts_right() -> None:
    """Each row of its table: a coarse class, its number of fine classes, of training and of test photographs."""
    card = (DATA / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.count("|") == 5]
    train, test = (datasets.groceries(split) for split in ("train", "test"))
    fine = datasets.groceries("train", "fine").labels
    expected = [
        [name, *(str(int(count)) for count in counts)]
        for label, name in enumerate(train.classes)
        for counts in [
            (len(fine[train.labels == label].unique()), *(torch.bincount(d.labels)[label] for d in (train, test)))
        ]
    ]
    assert rows[2:] == expected
    for word in (len(train), len(test), len(train) + len(test), len(tool.LEFT_OUT)):
        assert f"{word:,}" in card
