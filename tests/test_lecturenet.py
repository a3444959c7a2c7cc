"""The three steps of training lecturenet on a few drawn photographs, each stopped and taken up again, and the judge."""

import functools
import json
import sys

import imagenet_groups
import numpy as np
import pytest
import torch
import torchvision
import train_lecturenet
from PIL import Image
from safetensors import safe_open

from helpers import models

COLOURS = {"Red-Beet": (200, 30, 40), "Lime": (60, 200, 30), "Blueberry": (40, 50, 190)}
COUNTS = {"train": 6, "val": 2, "test": 4}  # of photographs of each kind


@pytest.fixture
def tool(monkeypatch):
    """tools/data/train_lecturenet.py with small crops and few patches."""
    for size in ("SIZE", "GROCERY_SIZE", "TEST_SIZE"):
        monkeypatch.setattr(train_lecturenet, size, 32)
    few = functools.partial(train_lecturenet.start_filters, patches=2000)
    monkeypatch.setattr(train_lecturenet, "start_filters", few)
    return train_lecturenet


def test_every_class_is_in_exactly_one_group():
    members = imagenet_groups.members()
    assert len(members) == len(imagenet_groups.GROUPS) == 20 and all(members)
    everything = sorted(index for group in members for index in group)
    twice = sorted({index for index in everything if everything.count(index) > 1})
    assert not twice and everything == list(range(1000))
    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    where = {names[index]: group for group, indices in zip(imagenet_groups.GROUPS, members) for index in indices}
    some = {
        "Egyptian cat": "cat", "golden retriever": "dog, wolf or fox", "tabby": "cat", "goldfish": "fish",
        "espresso": "food", "grand piano": "musical instrument", "sports car": "vehicle", "church": "building",
        "daisy": "flower, fruit or fungus", "zebra": "hoofed animal", "monarch": "insect or spider",
    }  # fmt: skip
    assert {name: where[name] for name in some} == some


def picture(random, size, colour=(128, 128, 128)):
    """Soft noise around a colour."""
    noise = random.integers(-30, 31, (6, 6, 3)) + np.array(colour)
    return Image.fromarray(noise.clip(0, 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve without labels, in a folder and one below it, of several sizes and both kinds of file."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        name = f"photo{number}.{'png' if number % 2 else 'JPG'}"
        picture(random, (40 + 5 * number, 60)).save(folder / ("more" if number % 3 else ".") / name)
    return folder


@pytest.fixture(scope="module")
def groceries(tmp_path_factory):
    """A folder like the Grocery Store Dataset, with three coarse classes that differ in colour; Lime has two kinds."""
    folder = tmp_path_factory.mktemp("groceries")
    random = np.random.default_rng(1)
    kinds = [("Beet", 1), ("Key-Lime", 0), ("Persian-Lime", 0), ("Blueberry", 2)]  # numbers that are not in order
    coarse = ["Lime", "Red-Beet", "Blueberry"]
    header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)"
    rows = [f"{name},{number},{coarse[group]},{group}" for number, (name, group) in enumerate(kinds)]
    (folder / "classes.csv").write_text("\n".join([header, *rows]) + "\n")
    for split, count in COUNTS.items():
        lines = []
        for number, (name, group) in enumerate(kinds):
            (folder / split / name).mkdir(parents=True)
            for photo in range(count):
                file = f"{split}/{name}/{photo}.png"
                picture(random, (48, 60) if photo % 2 else (50, 44), COLOURS[coarse[group]]).save(folder / file)
                lines.append(f"{file}, {number}, {group}")
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return folder


def command(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["train_lecturenet.py", *map(str, arguments)])
    tool.main()


def contents(path):
    """The tensors of a file of weights."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in list(file.keys())}


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


RUN = ("--steps", 4, "--batch", 4, "--every", 2)


def stopped_and_whole(tool, monkeypatch, folder, name, *arguments):
    """Run a step of the training whole, and again with a stop; assert that nothing tells the two apart."""
    suffix = "pt" if name == "teacher" else "safetensors"
    whole, parts = folder / f"{name}-whole", folder / f"{name}-parts"

    def train(to):
        command(tool, monkeypatch, name, *arguments, *RUN, "--state", to, "--output", to / f"net.{suffix}")

    train(whole)
    lines = log(whole)
    assert [line["step"] for line in lines] == [2, 4]
    assert all(np.isfinite(value) for line in lines for value in line.values())
    assert all(0 <= line[key] <= 1 for line in lines for key in line if key in ("right", "agrees"))

    draw, draws = tool.draw, []

    def stop(photographs, count, *rest):
        draws.append(count)
        if draws.count(4) == 4:  # a batch; what is drawn before the training is more
            raise KeyboardInterrupt
        return draw(photographs, count, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tool, "draw", stop)
        train(parts)
    halfway = contents(parts / f"net.{suffix}")
    train(parts)
    ours, theirs = (contents(place / f"net.{suffix}") for place in (parts, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert any(not torch.equal(halfway[key], ours[key]) for key in ours), "the run went on"
    assert [{**line, "seconds": 0} for line in log(parts)] == [{**line, "seconds": 0} for line in lines]
    return whole / f"net.{suffix}"


def test_three_steps_each_stopped_and_taken_up_again(tool, monkeypatch, photographs, groceries, tmp_path, capsys):
    first = stopped_and_whole(tool, monkeypatch, tmp_path, "hints", photographs, "--held-out", 0.2)
    teacher = stopped_and_whole(tool, monkeypatch, tmp_path, "teacher", groceries)
    before = models.load(device="cpu").network.state_dict()
    after = contents(teacher)
    moved = {name for name in before if before[name].shape != after[name].shape or (before[name] != after[name]).any()}
    assert "classifier.weight" in moved and "blocks.6.0.conv_pwl.weight" in moved
    assert not [name for name in moved if name.startswith(tool.FROZEN)]

    options = ("--first", first, "--teacher", teacher)
    net = stopped_and_whole(tool, monkeypatch, tmp_path, "student", groceries, *options)
    model = models.load("lecturenet", weights=net, device="cpu")
    assert model.categories == ["Lime", "Red-Beet", "Blueberry"]
    assert torch.equal(contents(net)["start"], contents(first)["start"]), "the start is that of the first step"
    assert not torch.equal(contents(net)["conv1.weight"], contents(first)["conv1.weight"])
    training = tool.Training(3)
    training.load_state_dict(torch.load(net.parent / "state.pt", weights_only=True)["training"])
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, folded = training.eval().student(batch), model(batch)
    torch.testing.assert_close(folded, expected, rtol=2e-2, atol=2e-2)  # half precision, batch norms folded away

    capsys.readouterr()
    command(tool, monkeypatch, "judge", groceries, "--weights", net)
    overall, mean, _, _, _, *table = capsys.readouterr().out.splitlines()
    said = {"Lime": [], "Red-Beet": [], "Blueberry": []}
    for file in sorted((groceries / "test").rglob("*.png")):  # one photograph after the other, with other functions
        image = Image.open(file)
        scale = 32 / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        left, top = round((image.width - 32) / 2), round((image.height - 32) / 2)
        square = torch.from_numpy(np.array(image.crop((left, top, left + 32, top + 32)))).permute(2, 0, 1) / 255
        truth = next(name for name in said if name.endswith(file.parent.name.split("-")[-1]))
        said[truth].append(model.predict(square, k=1)[0][0])
    hits = {truth: [name == truth for name in names] for truth, names in said.items()}
    count = sum(map(sum, hits.values()))
    assert overall.startswith(f"test: {count} of 16 right, {count / 16:.3f} (")
    assert mean == f"mean of the classes {np.mean([np.mean(of) for of in hits.values()]):.3f}"
    for (truth, names), row in zip(said.items(), table, strict=True):
        _, name, number, share, rival, _ = (cell.strip() for cell in row.split("|"))
        assert (name, number, share) == (truth, str(len(names)), f"{np.mean(hits[truth]):.0%}")
        wrong = [other for other in names if other != truth]
        most = max(map(wrong.count, wrong), default=0)
        assert rival in {f"{other} ({most})" for other in wrong if wrong.count(other) == most} or not wrong + [*rival]


def test_a_student_of_colours_learns_them(tool, monkeypatch, groceries, tmp_path):
    """A longer run: the losses fall, and the classes are the right way round."""
    run = ("--batch", 16, "--every", 20)
    teacher = tmp_path / "teacher.pt"
    command(
        tool, monkeypatch, "teacher", groceries, *run, "--steps", 20, "--state", tmp_path / "2", "--output", teacher
    )
    assert log(tmp_path / "2")[-1]["right"] == 1
    options = ("--first", models.LECTURENET, "--teacher", teacher, "--output", tmp_path / "net.safetensors")
    command(tool, monkeypatch, "student", groceries, *run, "--steps", 60, "--state", tmp_path / "3", *options)
    first, *_, last = log(tmp_path / "3")
    assert last["right"] >= 0.8 and last["relu2"] < first["relu2"] and last["relu4"] < first["relu4"]


def test_norms_put_back_change_nothing(tool):
    folded = models.load("lecturenet", device="cpu")
    training = tool.Training(len(folded.categories))
    tool.put_norms_back(training.student, folded, torch.rand(8, 3, 64, 64))
    training.student.network.classes.load_state_dict(folded.network.classes.state_dict())
    batch = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(training.eval().student(batch), folded(batch), rtol=1e-4, atol=1e-4)


def test_mixed_values_lie_between_their_pair(tool):
    values = torch.arange(6.0).view(6, 1).expand(6, 3).clone()
    mixed = tool.mix(values, np.random.default_rng(0))
    assert torch.equal(mixed[3:], values[3:]) and (mixed[:3] == mixed[:3, :1]).all()
    assert ((mixed[:3] > values[:3]) & (mixed[:3] < values[3:])).all() and len(set(mixed[:3, 0] % 1)) == 3


def test_too_few_photographs_are_refused(tool, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="at least 10"):
        command(tool, monkeypatch, "hints", tmp_path, "--state", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_start_filters_are_of_unit_length_and_depend_on_the_seed(tool, photographs):
    pictures = tool.read(sorted(photographs.rglob("photo*")), 288)
    first, same, other = (tool.start_filters(pictures, 8, 11, seed) for seed in (0, 0, 1))
    assert first.shape == (8, 3, 11, 11) and torch.equal(first, same) and not torch.equal(first, other)
    torch.testing.assert_close(first.flatten(1).norm(dim=1), torch.ones(8))
