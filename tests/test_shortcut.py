"""The shortcut is planted where it should be, is learnt, and its repair holds."""

from functools import cache

import pytest
import torch
from networks import images

from helpers import cam, datasets, scoring, shortcut


@cache
def pairs(split, count, seed):
    every = datasets.crops(split, per_class=count, size=48, seed=seed)
    parts = [every.images[every.labels == every.classes.index(name)] for name in ("gravel", "grass")]
    return torch.cat(parts), torch.arange(2).repeat_interleave(count)


@pytest.fixture
def test_set(seed):
    return pairs("test", 60, seed)


@cache
def trained_on_tags(seed):
    pictures, labels = pairs("train", 150, seed)
    return shortcut.train(shortcut.plant(pictures, labels == 1).images, labels, seed=seed)


@pytest.fixture
def spoilt(seed):
    return trained_on_tags(seed)


def test_the_tag_is_where_it_should_be():
    batch = images(4, 32).float()
    on = torch.tensor([True, False, True, False])
    tagged = shortcut.plant(batch, on, size=5)
    changed = (tagged.images != batch).any(1)
    for image, wanted, box, original, result in zip(changed, on, tagged.boxes, batch, tagged.images):
        assert (box is not None) == bool(wanted)
        if box is None:
            assert torch.equal(original, result)
        else:
            assert tuple(box) == (2, 2, 7, 7) and image[box.slices].all() and image.sum() == 25
            assert torch.allclose(result[:, *box.slices].mean((1, 2)), torch.tensor(shortcut.TAG))


def test_the_images_are_copied_and_a_move_changes_the_class_only():
    batch, labels = images(6, 32).float(), torch.arange(6) % 2
    before = batch.clone()
    here, moved = (shortcut.plant(batch, labels == label).images for label in (1, 0))
    assert torch.equal(batch, before)
    assert torch.equal(here[labels == 0], batch[labels == 0]) and torch.equal(moved[labels == 1], batch[labels == 1])
    both = shortcut.plant(batch, torch.ones(6, dtype=torch.bool)).images
    assert torch.equal(here[labels == 1], both[labels == 1]) and torch.equal(moved[labels == 0], both[labels == 0])


def test_the_place_in_an_image_does_not_depend_on_which_others_have_a_tag():
    """So that the same image has its tag in the same place in every state of the data."""
    batch = images(12, 32).float()
    every = shortcut.plant(batch, torch.ones(12, dtype=torch.bool), seed=3).boxes
    some = shortcut.plant(batch, torch.arange(12) % 3 == 0, seed=3).boxes
    assert some == [box if index % 3 == 0 else None for index, box in enumerate(every)]


def test_random_places_reach_every_border():
    boxes = shortcut.plant(images(1, 16).float().expand(600, -1, -1, -1), torch.ones(600, dtype=bool), seed=0).boxes
    tops, lefts, bottoms, rights = zip(*boxes)
    assert min(tops) == min(lefts) == 0 and max(bottoms) == max(rights) == 16


def test_random_places_stay_inside_and_depend_on_the_seed():
    batch, on = images(40, 32).float(), torch.ones(40, dtype=torch.bool)
    first, again, other = (shortcut.plant(batch, on, seed=seed) for seed in (1, 1, 2))
    assert first.boxes == again.boxes != other.boxes
    assert len(set(first.boxes)) > 30
    assert all(b.top >= 0 and b.left >= 0 and b.bottom <= 32 and b.right <= 32 for b in first.boxes)


@pytest.mark.parametrize(
    "size, on", [(0, torch.ones(2, dtype=bool)), (31, torch.ones(2, dtype=bool)), (8, torch.ones(2))]
)
def test_plant_refuses(size, on):
    with pytest.raises(ValueError):
        shortcut.plant(images(2, 32).float(), on, size=size)


@pytest.mark.random
def test_the_shortcut_is_learnt(spoilt, test_set, claim):
    pictures, labels = test_set
    with_tag = shortcut.plant(pictures, labels == 1).images
    moved = shortcut.plant(pictures, labels == 0).images
    claim(shortcut.accuracy(spoilt, with_tag, labels), above=0.9)
    claim(shortcut.accuracy(spoilt, pictures, labels), below=0.8)
    claim(shortcut.accuracy(spoilt, moved, labels), below=0.2)


@pytest.mark.random
def test_the_heatmap_finds_it(spoilt, test_set, claim):
    pictures, labels = test_set
    tagged = shortcut.plant(pictures, labels == 1)
    shares = [
        scoring.localisation(cam.cam(spoilt, image, 1), box) for image, box in zip(tagged.images, tagged.boxes) if box
    ]
    claim(sum(shares) / len(shares), above=0.3)  # ten times the tag's share of the picture


@pytest.mark.random
def test_random_tags_on_both_classes_repair_it(test_set, seed, claim):
    pictures, labels = pairs("train", 150, seed)
    on = torch.rand(len(labels)) < 0.5
    model = shortcut.train(shortcut.plant(pictures, on).images, labels, seed=seed)
    pictures, labels = test_set
    plain = shortcut.accuracy(model, pictures, labels)
    tagged = shortcut.accuracy(model, shortcut.plant(pictures, labels == 1).images, labels)
    moved = shortcut.accuracy(model, shortcut.plant(pictures, labels == 0).images, labels)
    claim(plain, above=0.6)  # chance is 0.5
    claim(abs(plain - tagged), below=0.1)
    claim(abs(plain - moved), below=0.1)


def test_training_depends_on_its_seed_only():
    pictures, labels = images(20, 16).float(), torch.arange(20) % 2
    state = torch.get_rng_state()
    first, again, other = (shortcut.train(pictures, labels, steps=5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values()))
    assert any(not torch.equal(a, b) for a, b in zip(first.state_dict().values(), other.state_dict().values()))
    assert not first.training
    start, elsewhere = (shortcut.train(pictures, labels, steps=0, seed=seed).network[0].weight for seed in (3, 4))
    assert not torch.equal(start, elsewhere)  # not the order of the images alone


def test_train_refuses_labels_of_another_length():
    with pytest.raises(ValueError, match="labels"):
        shortcut.train(images(4, 16).float(), torch.zeros(3))


def test_accuracy_is_a_count():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), 0.5 + 0 * x[:, 0, 0, 0]], dim=1)

    batch = torch.stack([torch.full((3, 8, 8), value) for value in (0.1, 0.9, 0.2, 0.8)])
    assert shortcut.accuracy(Fixed(), batch, torch.tensor([1, 0, 0, 0])) == 0.75
