"""tools/site/front_demo.py: what the front page says of its maps is true of them."""

from __future__ import annotations

import io
from itertools import product
from typing import NamedTuple

import front_demo as front
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from helpers import cam, models, saliency
from helpers.demos.widget import Scene

METHODS = ["occlusion", "gradient", "SmoothGrad", "CAM", "Grad-CAM", "guided backpropagation", "Guided Grad-CAM"]


class Made(NamedTuple):
    model: models.Classifier
    image: torch.Tensor
    targets: list[int]
    maps: dict[str, list[torch.Tensor]]
    scene: Scene


@pytest.fixture(scope="module")
def made() -> Made:
    """The demo of the page, from its parts: some ten seconds."""
    model, image = models.load(device="cpu"), front.picture().cpu()
    targets = [model.index(name) for name in front.CLASSES]
    maps = front.explain(model, image, targets)
    probabilities = model(image[None]).softmax(1)[0, targets].tolist()
    return Made(model, image, targets, maps, front.scene(image, maps, probabilities))


def test_the_network_says_what_the_page_says(made: Made) -> None:
    text = (front.STILL.parents[1] / "index.md").read_text("utf-8")
    [(answer, probability), (second, _)] = made.model.predict(made.image, k=2)
    assert (answer, second) == front.CLASSES[:2] and f'a cup beside a cat and says "{answer}"' in text
    assert f"{answer} (probability {probability:.2f})" in made.scene.frames[0].says
    assert made.model(made.image[None]).softmax(1)[0, made.targets[-1]] < 0.005  # it is not there


def test_every_sentence_names_all_choices(made: Made) -> None:
    shown = dict(zip(product(front.CLASSES, ["all methods", *METHODS]), made.scene.frames, strict=True))
    assert [list(control.choices) for control in made.scene.controls] == [
        list(front.CLASSES),
        ["all methods", *METHODS],
    ]
    for (name, method), frame in shown.items():
        assert frame.says.lower().startswith(f"{method} for {name} (probability ".lower()), frame.says
        assert name in frame.alt and (method == "all methods" or method in frame.alt)
    assert len({frame.says for frame in shown.values()}) == len(shown)


def test_maps_are_those_of_the_chapters(made: Made) -> None:
    for number, target in enumerate(made.targets):
        for name, one in (("gradient", saliency.gradient), ("CAM", cam.cam)):
            theirs = one(made.model, made.image, target)
            assert (made.maps[name][number] - theirs).norm() < 0.02 * theirs.norm()


def test_numbers_are_rank_correlations(made: Made) -> None:
    for method in METHODS:
        strength = [map_.numpy() if map_.ndim == 2 else np.abs(map_.numpy()).max(0) for map_ in made.maps[method]]
        for number in range(3):
            others = [strength[other] for other in range(3) if other != number]
            expected = np.mean([stats.spearmanr(strength[number].ravel(), one.ravel()).statistic for one in others])
            for frame in made.scene.frames[number * 8 : number * 8 + 8]:
                row = frame.rows[METHODS.index(method)]
                assert row.label == method and abs(float(row.text.replace("−", "-")) - expected) < 0.006


def test_shares_are_of_the_positive_mass(made: Made) -> None:
    for number, (place, method) in product(range(3), enumerate(METHODS, start=1)):
        map_ = made.maps[method][number].numpy()
        strength = map_.clip(0) if map_.ndim == 2 else np.abs(map_).max(0)
        left = 100 * strength[:, : front.CELL].sum() / strength.sum()
        says = made.scene.frames[number * 8 + place].says
        found = [int(part.split()[0]) for part in says.split("): ")[1].split(";")[0].split(", ")]
        assert abs(found[0] - left) < 0.51 and abs(found[1] - (100 - left)) < 0.51


def test_guided_backpropagation_hardly_changes_with_the_class(made: Made) -> None:
    """The sentence for the reader, with a margin; the caption names the extremes itself."""
    mean = {method: np.mean(front.likeness(maps)) for method, maps in made.maps.items()}
    least, most = max(mean, key=mean.get), min(mean, key=mean.get)
    assert least == "guided backpropagation" and mean[least] > 0.85
    assert sorted(mean.values())[-2] < 0.6 and mean[most] < 0.1
    assert f"those of {least} least" in made.scene.caption and f"those of {most} most" in made.scene.caption
    shares = [front._shares(maps[0])["cat"] - front._shares(maps[1])["cat"] for maps in made.maps.values()]
    assert min(shares) > 0.1  # every method moves from the cup to the cat, if only a little


def test_every_map_draws_something(made: Made) -> None:
    for frame in made.scene.frames:
        assert frame.picture.size == frame.under.size == front.SIZE
        assert np.asarray(frame.picture.convert("RGB"), dtype=float).std() > 20
    assert all(map_.max() > 0 for maps in made.maps.values() for map_ in maps)


def test_a_map_stands_below_its_name_and_beside_its_class(made: Made) -> None:
    """The colours of a region over the photograph lie where most of its map does, in the overview and alone."""
    for number, method in product(range(3), front.REGIONS):
        shares = front._shares(made.maps[method][number])
        frames, place = made.scene.frames[number * 8 : number * 8 + 8], METHODS.index(method) + 1
        for picture, (x, y), width in (
            (frames[0].picture, front._place(place), front.WIDTH),
            (frames[place].picture, (0, front.SIZE[1] // 2), front.LARGE[0]),
        ):
            strength = np.asarray(picture.crop((x, y, x + width, y + width // 2)))[..., 3].astype(float)
            cup, cat = strength[:, : width // 2].mean(), strength[:, width // 2 :].mean()
            assert (cup > cat) == (shares["cup"] > shares["cat"]) and abs(cup - cat) > 5
    guided = [np.asarray(made.scene.frames[8 * number + 6].picture.convert("L"), float) for number in range(3)]
    assert 0 < np.abs(guided[0] - guided[1]).mean() < np.abs(guided[0] - guided[0][:, ::-1]).mean() / 2


def test_readmes_picture_is_what_the_demo_shows_first(made: Made) -> None:
    drawn, kept = (Image.open(file) for file in (io.BytesIO(front.still(made.scene)), front.STILL))
    difference = np.abs(np.asarray(drawn.convert("RGB"), float) - np.asarray(kept.convert("RGB"), float))
    assert difference.mean() < 2, "run `.venv/bin/python tools/site/front_demo.py --still`"
    assert front.STILL.stat().st_size < 100_000
    readme = (front.STILL.parents[2] / "README.md").read_text("utf-8")
    assert "](book/assets/methods.webp)" in readme
    other = np.asarray(made.scene.frames[8].picture.convert("RGB"), float)
    assert np.abs(other - np.asarray(made.scene.frames[0].picture.convert("RGB"), float)).mean() > 10  # it can fail


def test_likeness_by_hand() -> None:
    up, down = torch.arange(6.0).view(2, 3), -torch.arange(6.0).view(2, 3)
    assert front.likeness([up, up.clone(), down]) == pytest.approx([0, 0, -1])
    coloured = torch.stack([up, up / 2, -up / 3])
    assert front.likeness([coloured, -coloured]) == pytest.approx([1, 1])  # the sign does not count
