"""The twenty groups, and a whole training run on a few drawn photographs: stopped, taken up again, the same."""

import functools
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open

from helpers import models

ROOT = Path(__file__).parent.parent


@pytest.fixture
def tool(monkeypatch):
    """tools/train_lecturenet.py with small crops and few patches."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    tool = importlib.import_module("train_lecturenet")
    monkeypatch.setattr(tool, "SIZE", 32)
    monkeypatch.setattr(tool, "TEST_SIZE", 32)
    monkeypatch.setattr(tool, "start_filters", functools.partial(tool.start_filters, patches=2000))
    return tool


def test_every_class_is_in_exactly_one_group(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    groups = importlib.import_module("groups")
    members = groups.members()
    assert len(members) == len(groups.GROUPS) == 20 and all(members)
    everything = sorted(index for group in members for index in group)
    twice = sorted({index for index in everything if everything.count(index) > 1})
    assert not twice and everything == list(range(1000))
    names = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    where = {names[index]: group for group, indices in zip(groups.GROUPS, members) for index in indices}
    some = {
        "Egyptian cat": "cat", "golden retriever": "dog, wolf or fox", "tabby": "cat", "goldfish": "fish",
        "espresso": "food", "grand piano": "musical instrument", "sports car": "vehicle", "church": "building",
        "daisy": "flower, fruit or fungus", "zebra": "hoofed animal", "monarch": "insect or spider",
    }  # fmt: skip
    assert {name: where[name] for name in some} == some


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Twelve, in a folder and one below it, of several sizes and both kinds; half carry a label in their name."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        size = (40 + 5 * number, 60)
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        name = f"{281 + number}_cat.jpg" if number < 6 else f"photo{number}.{'png' if number % 2 else 'JPG'}"
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / ("more" if number % 3 else ".") / name)
    return folder


def train(tool, monkeypatch, photographs, folder, *options):
    arguments = [photographs, "--state", folder, "--output", folder / "net.safetensors", *options]
    monkeypatch.setattr(sys, "argv", ["train_lecturenet.py", *map(str, arguments)])
    tool.main()


def tensors(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in list(file.keys())}


RUN = ("--steps", 4, "--batch", 4, "--every", 2, "--held-out", 0.2)


def test_a_run_that_was_stopped_goes_on_to_the_same_result(tool, monkeypatch, photographs, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tool, monkeypatch, photographs, whole, *RUN)
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [2, 4]
    assert all(np.isfinite(value) for line in log for value in line.values())
    assert 0 <= log[-1]["agree_top1"] <= log[-1]["agree_top3"] <= 1 and log[-1]["photographs"] == 2
    assert ("right_top1" in log[-1]) == (log[-1]["labelled"] > 0)

    losses, passes = tool.losses, []

    def stop(*arguments):
        passes.append(1)
        if len(passes) == 4:
            raise KeyboardInterrupt
        return losses(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tool, "losses", stop)
        train(tool, monkeypatch, photographs, parts, *RUN)
    after_two = tensors(parts / "net.safetensors")
    train(tool, monkeypatch, photographs, parts, *RUN)
    ours, theirs = tensors(parts / "net.safetensors"), tensors(whole / "net.safetensors")
    assert ours.keys() == theirs.keys() and "start" in ours
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(after_two["conv1.weight"], ours["conv1.weight"]), "the run went on"
    assert torch.equal(after_two["start"], ours["start"])
    again = [json.loads(line) for line in (parts / "log.jsonl").read_text().splitlines()]
    assert [{**line, "seconds": 0} for line in again] == [{**line, "seconds": 0} for line in log]

    model = models.load("lecturenet", weights=whole / "net.safetensors", device="cpu")
    state = torch.load(whole / "state.pt", weights_only=True)["training"]
    student = tool.Training(20)
    student.load_state_dict(state)
    batch = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected, folded = student.eval().student(batch), model(batch)
    torch.testing.assert_close(folded, expected, rtol=2e-2, atol=2e-2)  # half precision, batch norms folded away


def test_too_few_photographs_are_refused(tool, monkeypatch, photographs, tmp_path):
    with pytest.raises(SystemExit, match="at least 10"):
        train(tool, monkeypatch, tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_start_filters_are_of_unit_length_and_depend_on_the_seed(tool, photographs):
    pictures = tool.read(sorted(photographs.rglob("photo*")))
    first, same, other = (tool.start_filters(pictures, 8, 11, seed) for seed in (0, 0, 1))
    assert first.shape == (8, 3, 11, 11) and torch.equal(first, same) and not torch.equal(first, other)
    torch.testing.assert_close(first.flatten(1).norm(dim=1), torch.ones(8))


def test_labels_are_read_from_names(tool):
    names = {"281_tabby.jpg": 281, "0_x.jpg": 0, "1000_x.jpg": None, "281.jpg": None, "img_281.jpg": None}
    assert {name: tool.label_of(Path(name)) for name in names} == names
