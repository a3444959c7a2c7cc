"""Labelled sets: no pixel in both splits, right labels, clear errors where a set can't be had."""

import hashlib
import json
import pickle
import shutil
import socket
import tarfile
import time
from pathlib import Path

import networks
import numpy as np
import probe_groceries
import pytest
import torch
import torchvision
from PIL import Image

from helpers import datasets, embedding, models, photos, transfer
from helpers.reading.shards import DATA, GROCERIES

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


@pytest.fixture(scope="module")
def crops():
    return {split: datasets.crops(split, per_class=6, size=32, photo_size=128) for split in ("train", "test")}


def test_crops_are_cut_where_they_say(crops):
    for data in crops.values():
        assert len(data) == 6 * len(data.classes) == len(data.boxes)
        for index in range(0, len(data), 5):
            image, label = data[index]
            assert image.shape == (3, 32, 32) and isinstance(label, int)
            photo = photos.load(data.classes[label], 128)
            assert torch.equal(image, photo[:, *data.boxes[index].slices])


def test_each_class_has_its_crops(crops):
    for data in crops.values():
        labels = [data[index][1] for index in range(len(data))]
        assert sorted(set(labels)) == list(range(len(data.classes)))
        assert all(labels.count(label) == 6 for label in set(labels))
        assert len(set(data.boxes)) > 0.9 * len(data)
    assert crops["train"].classes == crops["test"].classes


@pytest.mark.parametrize("size, photo_size", [(32, 128), (64, 128), (33, 129)])
def test_no_test_crop_overlaps_a_training_crop(size, photo_size):
    train, test = (datasets.crops(split, per_class=30, size=size, photo_size=photo_size) for split in ("train", "test"))
    for label in range(len(train.classes)):
        first, second = (torch.tensor(data.boxes)[data.labels == label] for data in (train, test))
        assert len(first) == len(second) == 30
        for boxes in (first, second):
            assert boxes.min() >= 0 and boxes.max() <= photo_size
        top, left = (torch.maximum(first[:, None, side], second[None, :, side]) for side in (0, 1))
        bottom, right = (torch.minimum(first[:, None, side], second[None, :, side]) for side in (2, 3))
        common = (bottom - top).clamp(min=0) * (right - left).clamp(min=0)
        assert common.sum() == 0


@pytest.mark.parametrize("size, photo_size", [(32, 128), (64, 128), (33, 129), (96, 448)])  # the last: the book's
def test_no_pixel_of_a_photograph_is_in_both_splits(size, photo_size, monkeypatch):
    """Each pixel of these photographs carries its own number, so that it is known again wherever it ends up."""
    numbers = torch.arange(photo_size**2).view(1, photo_size, photo_size).expand(3, -1, -1)
    monkeypatch.setattr(photos, "load", lambda name, size: numbers)
    train, test = (
        datasets.crops(split, per_class=20, size=size, photo_size=photo_size).images[:, 0].unique()
        for split in ("train", "test")
    )
    assert min(len(train), len(test)) > photo_size**2 // 3  # they cover most of their halves
    assert not torch.isin(train, test).any()


def test_no_two_classes_show_the_same_scene():
    """The two photographs of the motorcycle are a stereo pair."""
    assert not {"motorcycle_left", "motorcycle_right"} <= set(datasets.CROP_CLASSES)


def test_crops_depend_on_the_seed_only():
    options = {"per_class": 2, "size": 16, "photo_size": 64}
    first, again, other = (datasets.crops("train", seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    test = torch.tensor(datasets.crops("test", **options).boxes)
    assert (torch.tensor(first.boxes)[:, 0] != test[:, 0]).any()  # other places, not the same ones moved to the right


def test_defaults_are_those_of_the_book():
    train = datasets.crops("train")
    assert train.images.shape == (20 * len(train.classes), 3, 96, 96)
    assert train.images.min() >= 0 and train.images.max() <= 1


@pytest.mark.parametrize(
    "options", [{"size": 0}, {"size": 65}, {"per_class": 0}, {"per_class": -2}, {"per_class": 1.5}]
)
def test_crops_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        datasets.crops("train", **({"photo_size": 128, "size": 32} | options))


LOADERS = [datasets.crops, datasets.groceries, datasets.caltech101, datasets.cifar10]


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("split", ["val", "Train", "", None, 0])
def test_an_unknown_split_is_refused(load, split):
    with pytest.raises(ValueError, match="'train' or 'test'"):
        load(split)


# ------------------------------------------------------------------------------------------- groceries


@pytest.fixture(scope="module")
def groceries():
    return {split: datasets.groceries(split) for split in ("train", "test")}


def test_groceries_has_its_classes_and_counts(groceries):
    for data in groceries.values():
        assert data.images.shape == (len(data), 3, 160, 160) and data.images.dtype == torch.float32
        assert data.images.min() >= 0 and data.images.max() <= 1
        assert data.images.std((1, 2, 3)).min() > 0.02  # there is something on each
        assert len(data.classes) == 43 and data.classes[:3] == ("Apple", "Avocado", "Banana")
        assert data.classes[-1] == "Zucchini" and len(set(data.classes)) == 43
        image, label = data[5]
        assert torch.equal(image, data.images[5]) and label == data.labels[5] and isinstance(label, int)
    assert torch.bincount(groceries["train"].labels).min() >= 15  # what chapter 10 needs
    assert torch.bincount(groceries["test"].labels).min() >= 14  # there are no more asparagus
    assert 1400 < sum(map(len, groceries.values())) < 1600


def test_no_grocery_is_twice_or_in_both_splits(groceries):
    train, test = (groceries[split] for split in ("train", "test"))
    for split, data in groceries.items():
        assert len(set(data.names)) == len(data) and all(name.startswith(f"{split}/") for name in data.names)
    pixels = {image.numpy().tobytes() for image in train.images}
    assert len(pixels) == len(train) and not any(image.numpy().tobytes() in pixels for image in test.images)


def test_labels_names_and_json_agree(groceries):
    for split, coarse in groceries.items():
        fine = datasets.groceries(split, "fine", size=8)
        assert len(fine.classes) == 81 and fine.labels.unique().tolist() == list(range(81))
        assert fine.names == coarse.names and fine.images.shape == (len(coarse), 3, 8, 8)
        row = 0
        for shard, digest in GROCERIES.items():
            with tarfile.open(DATA / shard) as archive:
                for about in (json.load(archive.extractfile(m)) for m in archive if m.name.endswith(".json")):
                    if split in shard:
                        assert about["path"] == coarse.names[row]
                        assert (about["label"], about["coarse"]) == (fine.labels[row], coarse.labels[row])
                        assert about["names"] == [fine.classes[fine.labels[row]], coarse.classes[coarse.labels[row]]]
                        assert about["names"][0] == about["path"].split("/")[-1][:-8]  # "Banana_003.jpg"
                        row += 1
            assert hashlib.sha256((DATA / shard).read_bytes()).hexdigest() == digest
        assert row == len(coarse)


def test_the_shards_are_small_and_are_all_used():
    files = {path.name: path.stat().st_size for path in DATA.glob("*.tar")}
    assert files.keys() == GROCERIES.keys()
    assert max(files.values()) <= 4_000_000 and 10_000_000 <= sum(files.values()) <= 14_000_000


def test_groceries_are_the_same_each_time_and_read_quickly(groceries):
    start = time.process_time()
    again = datasets.groceries("train")
    assert time.process_time() - start < 5  # it takes 1 s
    assert torch.equal(again.images, groceries["train"].images) and torch.equal(again.labels, groceries["train"].labels)


SHARD = "groceries-test-000000.tar"
DAMAGE = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit": lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
    "longer": lambda data: data + b"x",
    "a pickle": lambda data: pickle.dumps({"label": 1}),
    "another shard": lambda data: (DATA / "groceries-train-000000.tar").read_bytes(),
}


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A copy of the package's shards, in which nothing may be unpickled or unpacked to a file."""
    for name in GROCERIES:
        shutil.copy(DATA / name, tmp_path)
    monkeypatch.setattr("helpers.reading.shards.DATA", tmp_path)
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    for name in ("extract", "extractall"):
        monkeypatch.setattr(tarfile.TarFile, name, lambda *_, **__: pytest.fail("written to disk"))
    return tmp_path


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_shard_is_named(shards, kind):
    (shards / SHARD).write_bytes(DAMAGE[kind]((shards / SHARD).read_bytes()))
    with pytest.raises(ValueError, match=rf"{SHARD} is damaged: its SHA-256 is .*Install the package"):
        datasets.groceries("test")
    assert len(datasets.groceries("train", size=8)) > 700  # the other split is whole


def test_a_missing_shard_is_named(shards):
    (shards / SHARD).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no shard at .*{SHARD}: install the package"):
        datasets.groceries("test")
    (shards / SHARD).mkdir()
    with pytest.raises(FileNotFoundError, match=SHARD):
        datasets.groceries("test")


@pytest.mark.parametrize(
    "options", [{"level": "middle"}, {"level": 0}, {"level": None}, {"size": 0}, {"size": 1.5}, {"size": "160"}]
)
def test_groceries_refuses(options, tmp_path):
    for root in (None, tmp_path):
        with pytest.raises(ValueError, match=next(iter(options))):
            datasets.groceries("train", root=root, **options)


@pytest.fixture
def whole(tmp_path):
    """The set as its authors publish it, with three classes and a picture of one grey for each line of its lists."""
    heading = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Iconic Image Path (str)"
    rows = ["Granny-Smith,0,Apple,0,/a.jpg", "Red-Delicious,1,Apple,0,/b.jpg", "Leek,2,Leek,1,/c.jpg"]
    (tmp_path / "classes.csv").write_text("\n".join([heading, *rows]) + "\n")
    for split, lines in {"train": [(0, 0), (1, 0), (2, 1), (1, 0)], "test": [(2, 1), (0, 0)]}.items():
        (tmp_path / split).mkdir()
        for number, _ in enumerate(lines):
            picture = Image.fromarray(np.full((60, 40, 3), 50 * number + 25, np.uint8))
            picture.save(tmp_path / split / f"{number}.png")
        text = [f"{split}/{number}.png, {fine}, {coarse}\n" for number, (fine, coarse) in enumerate(lines)]
        (tmp_path / f"{split}.txt").write_text("".join(text))
    return tmp_path


def test_the_whole_set_is_read_from_a_folder(whole):
    train, test = (datasets.groceries(split, root=whole) for split in ("train", "test"))
    assert (len(train), len(test)) == (4, 2) and train.classes == test.classes == ("Apple", "Leek")
    assert train.labels.tolist() == [0, 0, 1, 0] == [label for _, label in train]
    fine = datasets.groceries("train", "fine", root=str(whole), size=8)
    assert fine.classes == ("Granny-Smith", "Red-Delicious", "Leek") and fine.labels.tolist() == [0, 1, 2, 1]
    assert fine[0][0].shape == (3, 8, 8) and train[0][0].shape == (3, 160, 160)
    for number, (image, _) in enumerate(train):
        assert image.unique().tolist() == [pytest.approx((50 * number + 25) / 255)]
    images, labels = next(iter(torch.utils.data.DataLoader(test, 2)))
    assert images.shape == (2, 3, 160, 160) and labels.tolist() == [1, 0]
    assert test.names == ("test/0.png", "test/1.png")


def test_photographs_are_read_when_they_are_asked_for(whole):
    (whole / "train" / "1.png").unlink()
    (whole / "train" / "2.png").write_bytes(b"no picture")
    data = datasets.groceries("train", root=whole)
    assert data[0][1] == 0
    with pytest.raises(FileNotFoundError, match="1.png"):
        data[1]
    with pytest.raises(ValueError, match="2.png"):
        data[2]


def test_the_package_and_the_whole_set_are_prepared_alike(whole, groceries):
    """A photograph of the package, given as a folder of the whole set, comes back as it was."""
    picture = groceries["test"].images[7]
    Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).save(whole / "test" / "0.png")
    assert torch.equal(datasets.groceries("test", root=whole)[0][0], picture)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train.txt", b"train/0.png\n"),
        ("train.txt", b"train/0.png, a, 0\n"),
        ("train.txt", b"train/0.png, 9, 9\n"),
        ("train.txt", b""),
        ("train.txt", b"\xff\xfe\x00"),
        ("classes.csv", b"a,b\n1,2\n"),
        ("classes.csv", b"a,b,c,d\nLeek,2,Leek,2\n"),
        ("classes.csv", b"heading only\n"),
        ("classes.csv", b""),
    ],
)
def test_a_list_of_another_form_is_named(whole, name, content):
    (whole / name).write_bytes(content)
    for level in ("coarse", "fine"):
        with pytest.raises(ValueError, match=rf"{name} is no list of the Grocery Store Dataset"):
            datasets.groceries("train", level, root=whole)


def test_a_missing_list_is_named(whole):
    (whole / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt can't be read.*the folder `dataset`"):
        datasets.groceries("train", root=whole)
    for root in (whole / "nowhere", whole / "classes.csv"):
        with pytest.raises(FileNotFoundError, match=r"classes\.csv can't be read"):
            datasets.groceries("test", root=root)


# ------------------------------------------------------------------------------------- sets of torchvision


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("the test has no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("load, name", [(datasets.caltech101, "Caltech101"), (datasets.cifar10, "CIFAR10")])
def test_without_a_network_the_message_says_what_to_do(load, name, no_network, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"{name} is not in .*{tmp_path.name}.*datasets.crops\(\)"):
        load("train", tmp_path)


@pytest.mark.parametrize(
    "error", [RuntimeError("File not found or corrupted."), ConnectionResetError(), TimeoutError()]
)
def test_a_download_that_fails_is_explained(error, tmp_path, monkeypatch):
    """torchvision raises a RuntimeError where what it got has another checksum, or where gdown is missing."""

    def fail(self):
        raise error

    monkeypatch.setattr(torchvision.datasets.Caltech101, "download", fail)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", fail)
    for load in (datasets.caltech101, datasets.cifar10):
        with pytest.raises(FileNotFoundError, match="can't be downloaded"):
            load("test", tmp_path)


@pytest.fixture
def caltech(tmp_path):
    """The folders of Caltech-101, with 3 classes of 5, 6 and 7 pictures: number n has the grey value 10 n."""
    top = tmp_path / "caltech101" / "101_ObjectCategories"
    for count, name in ((2, "BACKGROUND_Google"), (5, "ant"), (6, "Faces"), (7, "yin_yang")):
        (top / name).mkdir(parents=True)
        for number in range(1, count + 1):
            shape = (40, 60, 3) if number % 2 else (60, 40)  # some of its pictures are grey
            picture = Image.fromarray(np.full(shape, 10 * number, np.uint8))
            picture.save(top / name / f"image_{number:04d}.jpg", quality=100)
    (tmp_path / "caltech101" / "Annotations").mkdir()
    return tmp_path


def test_caltech101_has_its_protocol(caltech, no_network):
    train = datasets.caltech101("train", caltech, size=16, per_class=4)
    test = datasets.caltech101("test", caltech, size=16, per_class=4)
    assert train.classes == test.classes == ("Faces", "ant", "yin_yang")  # no background
    assert len(train) == 12 and len(test) == 18 - 12
    assert not set(train.indices) & set(test.indices)
    labels = [label for _, label in train]
    assert [labels.count(label) for label in range(3)] == [4, 4, 4]
    counts = [label for _, label in test]
    assert [counts.count(label) for label in range(3)] == [2, 1, 3]
    for image, _ in [*train, *test]:
        assert image.shape == (3, 16, 16) and image.dtype == torch.float32
        assert 0 < image.max() <= 1 and image.std() < 0.02
    greys = sorted(round(float(image.mean()) * 25.5) for image, label in [*train, *test] if label == 2)
    assert greys == [1, 2, 3, 4, 5, 6, 7]
    again = datasets.caltech101("train", caltech, size=16, per_class=4)
    other = datasets.caltech101("train", caltech, size=16, per_class=4, seed=1)
    assert train.indices == again.indices and set(train.indices) != set(other.indices)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """The files of CIFAR-10 with 4 images each, and their checksums."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random, checksums = np.random.default_rng(0), {}
    batches = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for name in [*batches, "batches.meta"]:
        content = {"label_names": classes}
        if name in batches:
            content = {"data": random.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": [0, 3, 9, 1]}
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        checksums[name] = hashlib.md5(data).hexdigest()  # noqa: S324
    cifar10 = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar10, "train_list", [[name, checksums[name]] for name in batches[:5]])
    monkeypatch.setattr(cifar10, "test_list", [[batches[5], checksums[batches[5]]]])
    monkeypatch.setattr(cifar10, "meta", {**cifar10.meta, "md5": checksums["batches.meta"]})
    return tmp_path


def test_cifar10_is_read_from_its_files(cifar, no_network):
    train, test = datasets.cifar10("train", cifar), datasets.cifar10("test", cifar)
    assert (len(train), len(test)) == (20, 4) and len(train.classes) == 10
    with (cifar / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        stored = pickle.load(file)["data"].reshape(4, 3, 32, 32)  # noqa: S301
    for index, expected in enumerate([0, 3, 9, 1]):
        image, label = test[index]
        assert label == expected and image.shape == (3, 32, 32) and image.dtype == torch.float32
        torch.testing.assert_close(image, torch.from_numpy(stored[index]).float() / 255)


def test_a_damaged_cifar10_without_a_network_is_refused(cifar, no_network):
    with (cifar / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"x")
    with pytest.raises(FileNotFoundError, match="CIFAR10"):
        datasets.cifar10("test", cifar)


def test_a_missing_picture_of_cifar10_is_refused(cifar, no_network):
    (cifar / "cifar-10-batches-py" / "data_batch_3").unlink()
    for split in ("train", "test"):  # torchvision checks all files for either
        with pytest.raises(FileNotFoundError, match="CIFAR10"):
            datasets.cifar10(split, cifar)


def test_the_probe_of_the_whole_set(whole, monkeypatch, capsys):
    """What `tools/data/probe_groceries.py` prints are the numbers of probes fitted without it."""
    model = networks.seeded(networks.tiny)
    monkeypatch.setattr(models, "load", lambda: model)
    (whole / "test.txt").write_text("test/0.png, 2, 1\ntest/1.png, 0, 0\ntest/Fruit/Papaya/Papaya_012.jpg, 0, 0\n")
    (whole / "test/Fruit/Papaya").mkdir(parents=True)
    shutil.copy(whole / "test/0.png", whole / "test/Fruit/Papaya/Papaya_012.jpg")
    probe_groceries.main(str(whole))
    head, *printed = capsys.readouterr().out.splitlines()
    assert head == "classes | all 3 | the 2 without near-copies | shuffled"
    rows = [embedding.features(model, datasets.groceries(split, root=whole)) for split in ("train", "test")]
    for line, level in zip(printed, ("coarse", "fine"), strict=True):
        train, test = (datasets.groceries(split, level, root=whole).labels for split in ("train", "test"))
        every = transfer.linear_probe((rows[0], train), (rows[1], test))
        new = transfer.linear_probe((rows[0], train), (rows[1][:2], test[:2]))
        assert line.startswith(f"{level} | {every:.3f} | {new:.3f} | ")
