"""The atlas: what is committed is what its card says, three batches are made anew, a killed run goes on."""

from __future__ import annotations

import json
import tarfile
from collections import defaultdict
from dataclasses import asdict, replace
from itertools import product

import make_atlas as tool
import pytest
import torch
from atlas_page import read
from scipy.stats import spearmanr
from torch import Tensor, nn

from helpers import layers, models
from helpers.reading.shards import GROCERIES

CARD, CHANNELS = read(tool.ATLAS)
OF_LAYER = defaultdict(list)  # from (network, stage) to numbers and pictures
for _facts, _picture in CHANNELS:
    OF_LAYER[_facts["network"], _facts["stage"]].append((_facts, _picture))
RECIPES = {(one.network, one.stage): one for one in tool.RECIPES}
BY_NAME = pytest.mark.parametrize("layer", RECIPES, ids="-".join)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {name: models.load(name, device="cpu") for name in models.EMBEDDED}


@pytest.fixture(scope="module")
def groceries() -> tuple[Tensor, list[str], list[str]]:
    return tool.photographs()


def test_the_card_is_that_of_the_tool_and_of_the_package() -> None:
    assert CARD["weights"] == models.EMBEDDED
    assert CARD["photographs"] == GROCERIES
    recipes = [{key: value for key, value in one.items() if key != "channels"} for one in CARD["recipes"]]
    assert recipes == json.loads(json.dumps([asdict(one) for one in tool.RECIPES]))
    stages = list(models.load(device="cpu").stages.values())
    paths = [one.layer for one in tool.RECIPES if one.network == "efficientnet_lite0"]
    assert all(path == stage or path.startswith(f"{stage}.") for path, stage in zip(paths, stages, strict=True))


def test_the_archive_is_small_and_plain() -> None:
    assert tool.ATLAS.stat().st_size <= 3e6
    with tarfile.open(tool.ATLAS) as archive:
        members = [(member.name, archive.extractfile(member).read()) for member in archive]
    assert tool.pack(iter(members)) == tool.ATLAS.read_bytes()  # no times, no owners
    assert len(members) == 1 + 2 * len(CHANNELS)


@BY_NAME
def test_channels_are_drawn_by_lot(layer: tuple[str, str], networks: dict[str, nn.Module]) -> None:
    recipe, shown = RECIPES[layer], [facts["channel"] for facts, _ in OF_LAYER[layer]]
    count = tool.width(networks[recipe.network], recipe)
    assert next(one["channels"] for one in CARD["recipes"] if (one["network"], one["stage"]) == layer) == count
    assert len(shown) >= min(tool.CHANNELS, count) and set(recipe.named) <= set(shown)
    assert shown == tool.choose(count, recipe.named)


def test_by_lot_means_that_each_has_the_same_chance_and_that_named_ones_come_besides() -> None:
    assert tool.choose(16) == list(range(16))
    assert len(tool.choose(100)) == tool.CHANNELS and tool.choose(100) == tool.choose(100)
    assert set(tool.choose(100, (3, 99))) == set(tool.choose(100)) | {3, 99}


# The quickest whose images another CPU makes alike, too. (In deeper layers the small differences between CPUs grow.)
ANEW = [("efficientnet_lite0", "stage 1"), ("lecturenet", "relu1"), ("lecturenet", "relu2")]


@pytest.mark.parametrize("layer", ANEW, ids="-".join)
def test_made_anew_it_is_the_same(layer: tuple[str, str], networks: dict[str, nn.Module]) -> None:
    recipe, stored = RECIPES[layer], OF_LAYER[layer]
    group = tool.batches([facts["channel"] for facts, _ in stored])[0]
    made = tool.make(networks[recipe.network], recipe, group)
    for (facts, picture), image, row in zip(stored, made, tool.values(networks[recipe.network], recipe, made)):
        value = row[facts["channel"]].item()
        assert value == pytest.approx(facts["reached"], rel=0.02)
        assert spearmanr(tool.decode(picture).flatten(), image.flatten()).statistic >= 0.9
        assert (row > 1.1 * value).sum() < facts["rank"] <= (row >= 0.9 * value).sum()  # values beside it move, too


@BY_NAME
def test_a_stored_picture_reaches_what_is_said(layer: tuple[str, str], networks: dict[str, nn.Module]) -> None:
    recipe, some = RECIPES[layer], OF_LAYER[layer][:4]
    pictures = torch.stack([tool.decode(picture) for _, picture in some])
    assert pictures.shape == (4, 3, recipe.size, recipe.size)
    assert (pictures.amax((1, 2, 3)) - pictures.amin((1, 2, 3)) > 0.9).all(), "a pale picture"
    with torch.no_grad():
        maps = layers.run_to(networks[recipe.network], recipe.layer, pictures)
    for (facts, _), planes in zip(some, maps):
        assert planes[facts["channel"]].max().item() == pytest.approx(facts["shown"], rel=1e-2)


@BY_NAME
def test_the_nine_are_the_best(
    layer: tuple[str, str], networks: dict[str, nn.Module], groceries: tuple[Tensor, list[str], list[str]]
) -> None:
    """Values and boxes of two channels' nine; of sixty other photographs none fires the channel more."""
    recipe, (images, names, _) = RECIPES[layer], groceries
    network = networks[recipe.network]
    others = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[:60]
    with torch.no_grad():
        maps = layers.run_to(network, recipe.layer, images[others])
    if recipe.inside:
        field = layers.receptive_field(network, recipe.layer, 160)
        for row, col in product(*map(range, maps.shape[2:])):
            if field.box(row, col).area < field.size[0] * field.size[1]:
                maps[:, :, row, col] = -torch.inf
    reached = maps.amax((2, 3))
    for facts, _ in OF_LAYER[layer][1::15][:2]:
        channel, nine = facts["channel"], facts["photographs"]
        seen = images[[names.index(one["name"]) for one in nine]].requires_grad_()
        planes = layers.run_to(network, recipe.layer, seen)[:, channel]
        if recipe.inside:
            planes = planes.masked_fill(maps[0, 0] == -torch.inf, -torch.inf)
            boxes = torch.tensor([one["box"] for one in nine])
            assert boxes.min() >= 0 and boxes.max() <= 160
        peaks = planes.flatten(1).max(1).values
        torch.testing.assert_close(peaks.tolist(), [one["value"] for one in nine], rtol=1e-3, atol=1e-3)
        assert [one["value"] for one in nine] == sorted((one["value"] for one in nine), reverse=True)
        assert facts["best"] == nine[0]["value"]
        assert facts["ratio"] == pytest.approx(facts["reached"] / facts["best"], abs=1e-3)
        better = others[reached[:, channel] > nine[-1]["value"] * (1 + 1e-3)]
        assert {names[i] for i in better.tolist()} <= {one["name"] for one in nine}
        slopes = torch.autograd.grad(peaks.sum(), seen)[0].abs().sum(1)
        for one, slope in zip(nine, slopes):  # no pixel outside the box has a say
            top, left, bottom, right = one["box"]
            inside = torch.zeros_like(slope)
            inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 1
            assert slope.sum() > 0 and (slope * (1 - inside)).sum() == 0


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPES["lecturenet", "relu1"], steps=2, named=())
    monkeypatch.setattr(tool, "photographs", lambda: (torch.rand(9, 3, 160, 160), [*"abcdefghi"], ["leek"] * 9))
    monkeypatch.setattr(tool, "BATCH", 2)
    make, made = tool.make, []

    def killed(model: nn.Module, recipe: tool.Recipe, channels: list[int]) -> Tensor:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(channels)
        return make(model, recipe, channels)

    monkeypatch.setattr(tool, "make", killed)
    torch.manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        tool.pack(tool.atlas((recipe,), tmp_path, 6))
    monkeypatch.setattr(tool, "make", lambda *given: made.append(given[-1]) or make(*given))
    results = []
    for work in (tmp_path, tmp_path / "another"):
        torch.manual_seed(0)
        results.append(tool.pack(tool.atlas((recipe,), work, 6)))
    assert results[0] == results[1]
    assert made[:3] == tool.batches(sorted(sum(made[:3], []))) and len(made) == 6  # three, and all three once more
    (tmp_path / "atlas.tar").write_bytes(results[0])
    assert len(read(tmp_path / "atlas.tar")[1]) == 6
    torch.manual_seed(0)
    tool.pack(tool.atlas((replace(recipe, steps=3),), tmp_path, 6))
    assert len(made) == 9, "another recipe begins anew"
