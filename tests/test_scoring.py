"""Scores by hand, their invariances, and a toy network whose curve can be worked out."""

import math

import nbformat
import networks
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from networks import images, tiny, unchanged
from quote_scoreboard import NOTEBOOK, quote
from torch import nn

from helpers import cam, datasets, photos, saliency, scoring
from helpers.inputs import Box

BY_HAND = torch.tensor([[1.0, 2.0, 0.0], [-5.0, 3.0, 4.0]])
FLOATS = st.floats(-10, 10, allow_nan=False, allow_subnormal=False, width=32)
MAPS = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=FLOATS)
CELLS = (Box(0, 0, 4, 4), Box(0, 4, 4, 8), Box(4, 0, 8, 4), Box(4, 4, 8, 8))


def test_localisation_by_hand():
    assert scoring.localisation(BY_HAND, Box(0, 0, 2, 1)) == pytest.approx(0.1)  # the -5 does not count
    assert scoring.localisation(BY_HAND, Box(0, 1, 2, 3)) == pytest.approx(0.9)
    assert scoring.localisation(BY_HAND, Box(0, 0, 2, 3)) == 1
    assert scoring.localisation(-BY_HAND.abs(), Box(0, 0, 2, 1)) == 0


def test_a_map_wholly_in_the_box_and_a_map_that_knows_nothing():
    inside = torch.zeros(8, 8)
    inside[4:, :4] = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    assert [scoring.localisation(inside, cell) for cell in CELLS] == [0, 0, 1, 0]
    assert [scoring.localisation(torch.ones(8, 8), cell) for cell in CELLS] == [0.25] * 4
    assert [scoring.pointing(torch.full((8, 8), -3.0), cell) for cell in CELLS] == [0.25] * 4


@settings(max_examples=50, deadline=None)
@given(npst.arrays(np.float32, (8, 8), elements=FLOATS), st.floats(0.01, 100))
def test_localisation_adds_up_and_has_no_unit(values, scale):
    heatmap = torch.from_numpy(values)
    shares = [scoring.localisation(heatmap, cell) for cell in CELLS]
    assert sum(shares) == pytest.approx(1 if heatmap.max() > 0 else 0)
    assert [scoring.localisation(heatmap.double() * scale, cell) for cell in CELLS] == pytest.approx(shares, abs=1e-4)
    flipped = [scoring.localisation(heatmap.flip(1), CELLS[index]) for index in (1, 0, 3, 2)]
    assert flipped == pytest.approx(shares)
    assert sum(scoring.pointing(heatmap, cell) for cell in CELLS) == pytest.approx(1)


def test_pointing_by_hand():
    assert scoring.pointing(BY_HAND, Box(1, 2, 2, 3)) == 1
    assert scoring.pointing(BY_HAND, Box(0, 0, 2, 2)) == 0
    assert scoring.pointing(-BY_HAND, Box(1, 0, 2, 1)) == 1  # the largest value, not the largest magnitude
    assert scoring.pointing(torch.tensor([[2.0, 2.0, 2.0, 1.0]]), Box(0, 0, 1, 1)) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "box", [Box(0, 0, 3, 3), Box(-1, 0, 2, 2), Box(0, 0, 0, 2), Box(1, 2, 1, 3), Box(0, 2, 2, 1), Box(0, 0, 2, 4)]
)
@pytest.mark.parametrize("score", [scoring.localisation, scoring.pointing])
def test_a_box_outside_the_map_is_refused(score, box):
    with pytest.raises(ValueError, match="no box in a map"):
        score(BY_HAND, box)


@pytest.mark.parametrize(
    "bad", [BY_HAND[None], BY_HAND * float("nan"), BY_HAND / 0, BY_HAND.numpy(), torch.zeros(0, 3)]
)
def test_a_bad_map_is_refused_everywhere(bad):
    model, image = nn.Sequential(nn.Flatten(), nn.Linear(18, 2)), torch.rand(3, 2, 3)
    for score in (
        lambda: scoring.localisation(bad, Box(0, 0, 1, 1)),
        lambda: scoring.pointing(bad, Box(0, 0, 1, 1)),
        lambda: scoring.threshold_box(bad),
        lambda: scoring.rank_correlation(bad, BY_HAND),
        lambda: scoring.rank_correlation(BY_HAND, bad),
        lambda: scoring.deletion(model, image, bad, 0, steps=2),
        lambda: scoring.insertion(model, image, bad, 0, steps=2),
    ):
        with pytest.raises((ValueError, TypeError), match="map"):
            score()


def test_threshold_box_is_that_of_the_largest_region():
    heatmap = torch.zeros(10, 12)
    heatmap[1, 1] = 10.0  # the maximum, alone
    heatmap[4:8, 5:11] = 2.0
    assert scoring.threshold_box(heatmap, 0.15) == (4, 5, 8, 11)
    assert scoring.threshold_box(heatmap, 0.2) == (4, 5, 8, 11)  # at least, not more than
    assert scoring.threshold_box(heatmap, 0.21) == (1, 1, 2, 2)
    assert scoring.threshold_box(heatmap * 7, 0.15) == (4, 5, 8, 11)
    heatmap[8, 11] = heatmap[9, 11] = 2.0  # touches at a corner only: another region
    assert scoring.threshold_box(heatmap, 0.15) == (4, 5, 8, 11)
    for level in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="level"):
            scoring.threshold_box(heatmap, level)
    with pytest.raises(ValueError, match="no positive"):
        scoring.threshold_box(torch.zeros(3, 3))


def test_overlap_by_hand():
    square = Box(0, 0, 4, 4)
    assert scoring.overlap(square, square) == 1
    assert scoring.overlap(square, Box(0, 4, 4, 8)) == 0  # side by side
    assert scoring.overlap(square, Box(9, 9, 12, 12)) == 0  # apart in both directions
    assert scoring.overlap(square, Box(2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert scoring.overlap(square, Box(1, 1, 3, 3)) == pytest.approx(4 / 16)


@settings(max_examples=50, deadline=None)
@given(MAPS, st.integers(0, 10))
def test_rank_correlation_is_scipys(values, seed):
    first = torch.from_numpy(values)
    second = torch.randn(first.shape, generator=torch.Generator().manual_seed(seed)).round(decimals=1)
    if first.min() == first.max() or second.min() == second.max():
        assert math.isnan(scoring.rank_correlation(first, second))
        return
    ranks = [scipy.stats.rankdata(heatmap.double().numpy().ravel()) for heatmap in (first, second)]
    assert scoring.rank_correlation(first, second) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert scoring.rank_correlation(second, first) == pytest.approx(scoring.rank_correlation(first, second))


@settings(max_examples=30, deadline=None)
@given(MAPS)
def test_rank_correlation_sees_the_order_only(values):
    first = torch.from_numpy(values).double()
    assume(first.min() < first.max())
    assert scoring.rank_correlation(first, first) == pytest.approx(1)
    assert scoring.rank_correlation(first, -first) == pytest.approx(-1)
    assert scoring.rank_correlation(first, first * 4) == pytest.approx(1)


def test_maps_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="same size"):
        scoring.rank_correlation(BY_HAND, BY_HAND.T)


# -------------------------------------------------------------------------------- deletion and insertion


class Linear(nn.Module):
    """Two classes whose logits differ by Σ w (x - 0.5): what is covered with grey adds nothing."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, pixels):
        score = ((pixels - 0.5) * self.weights).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], dim=1)


def test_deletion_of_a_linear_network_is_a_sum_of_sigmoids(exact_device):
    random = torch.Generator().manual_seed(0)
    weights = torch.rand(3, 6, 5, generator=random, dtype=torch.float64)
    image = torch.rand(3, 6, 5, generator=random, dtype=torch.float64)
    effect = ((image - 0.5) * weights).sum(0).flatten()  # what each pixel adds
    model = Linear(weights).to(exact_device)
    curve = scoring.deletion_curve(model, image, effect.view(6, 5), 0, steps=30)
    left = effect.sum() - torch.cat([torch.zeros(1), effect.sort(descending=True).values.cumsum(0)])
    torch.testing.assert_close(curve.scores, left.sigmoid(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(curve.fractions, torch.linspace(0, 1, 31, dtype=torch.float64))
    trapezoid = ((left.sigmoid()[1:] + left.sigmoid()[:-1]) / 2).mean().item()
    assert curve.area == pytest.approx(trapezoid, abs=1e-12)
    assert scoring.deletion(model, image, effect.view(6, 5), 0, steps=30) == pytest.approx(trapezoid, abs=1e-12)
    # no order deletes faster than that of the effects themselves, none slower than the opposite one
    worst = scoring.deletion(model, image, -effect.view(6, 5), 0, steps=30)
    for seed in range(5):
        other = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
        assert trapezoid < scoring.deletion(model, image, other, 0, steps=30) < worst


def test_one_step_and_steps_that_do_not_divide():
    weights, image = torch.ones(3, 4, 4, dtype=torch.float64), torch.full((3, 4, 4), 0.75, dtype=torch.float64)
    model, heatmap = Linear(weights), torch.arange(16.0).view(4, 4)
    ends = torch.tensor([12.0, 0.0], dtype=torch.float64).sigmoid()  # 48 × 0.25, and nothing
    assert scoring.deletion(model, image, heatmap, 0, steps=1) == pytest.approx(ends.mean().item())
    curve = scoring.deletion_curve(model, image, heatmap, 0, steps=3)
    assert curve.fractions.tolist() == [0, 5 / 16, 11 / 16, 1]
    torch.testing.assert_close(curve.scores, (12 * (1 - curve.fractions)).sigmoid())
    widths = curve.fractions.diff()
    assert curve.area == pytest.approx((widths * (curve.scores[1:] + curve.scores[:-1]) / 2).sum().item())


def test_equal_values_change_in_the_order_of_the_pixels():
    image = torch.rand(3, 4, 4, dtype=torch.float64)
    model = Linear(torch.rand(3, 4, 4, dtype=torch.float64))
    flat, ordered = torch.zeros(4, 4), -torch.arange(16.0).view(4, 4)
    assert scoring.deletion(model, image, flat, 0, steps=16) == scoring.deletion(model, image, ordered, 0, steps=16)


def test_deletion_ends_in_grey_and_insertion_in_the_photograph(device):
    model, image = tiny().to(device), images(1)[0].float()
    heatmap = saliency.gradient(model, image, 2)
    probability = model(image[None].to(device)).softmax(1)[0, 2].item()
    grey = model(torch.full((1, 3, 32, 32), 0.5, device=device)).softmax(1)[0, 2].item()
    deleted = scoring.deletion_curve(model, image, heatmap, 2, steps=8)
    inserted = scoring.insertion_curve(model, image, heatmap, 2, steps=8)
    assert deleted.scores[0].item() == pytest.approx(probability, abs=1e-5)
    assert deleted.scores[-1].item() == pytest.approx(grey, abs=1e-5)
    assert inserted.scores[-1].item() == pytest.approx(probability, abs=1e-5)
    assert scoring.insertion(model, image, heatmap, 2, steps=8) == inserted.area
    fine = torch.zeros(3, 32, 32)
    fine[:, ::2] = 1  # stripes: the network sees them, and blurred they are grey
    start, end = scoring.insertion_curve(Linear((fine - 0.5) * 0.01), fine, heatmap, 0, steps=1).scores.tolist()
    assert start == pytest.approx(0.5, abs=0.05) and end > 0.99


def test_without_a_target_it_is_the_class_predicted_for_the_whole_photograph():
    model, image = tiny(), images(1)[0].float()
    heatmap, predicted = saliency.gradient(model, image), int(model(image[None]).argmax())
    for score in (scoring.deletion, scoring.insertion):
        fixed = score(model, image, heatmap, predicted, steps=12)
        assert score(model, image, heatmap, None, steps=12) == fixed
        assert score(model, image, heatmap, torch.tensor([predicted]), steps=12) == fixed


@pytest.mark.parametrize("steps", [0, -1, 1025, 2.5, None])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps"):
        scoring.deletion(tiny(), images(1)[0].float(), torch.zeros(32, 32), 0, steps=steps)


def test_a_map_of_another_size_is_refused():
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="size"):
        scoring.deletion(model, images(1)[0].float(), torch.zeros(16, 16), 0)


# -------------------------------------------------------------------------------------- randomisation


@pytest.mark.random
def test_randomisation_falls_for_a_real_network_and_not_for_an_edge_detector(seed, claim):
    model, image = networks.lite0(), photos.load("coffee", 96)

    def edges(model, image, target):
        return image.mean(0).diff(dim=0, prepend=image.mean(0)[:1]).abs()

    paths = ["classifier", "conv_head", "blocks.6", "blocks.5", "blocks.4"]
    with unchanged(model):
        fallen = scoring.randomisation(model, saliency.gradient, image, 967, paths=paths, seed=seed)
        blind = scoring.randomisation(model, edges, image, 967, paths=paths)
        nothing = scoring.randomisation(model, saliency.gradient, image, 967, paths=[])
    assert list(fallen) == list(blind) == paths and nothing == {}
    assert all(value == pytest.approx(1) for value in blind.values())
    claim(fallen["blocks.4"], below=0.6)
    claim(max(fallen.values()), below=0.95)
    assert min(fallen.values()) >= -1


def test_randomisation_goes_from_the_top_down():
    model, image = tiny(), images(1)[0].float()
    correlations = scoring.randomisation(model, saliency.gradient, image, 1)
    assert list(correlations) == ["linear", "conv2", "conv1"]
    assert correlations == scoring.randomisation(model, saliency.gradient, image, 1)
    assert correlations != scoring.randomisation(model, saliency.gradient, image, 1, seed=1)


@pytest.mark.random
def test_randomisation_is_a_cascade_and_keeps_mean_and_spread(seed, claim):
    model, image, seen = tiny(), images(1)[0].float(), []

    def look(network, image, target):
        assert target == 4
        seen.append([weight.detach().clone() for weight in (network.linear.weight, network.conv2.weight)])
        return saliency.gradient(network, image, target)

    scoring.randomisation(model, look, image, 4, paths=["linear", "conv2"], seed=seed)
    original, first, second = seen
    assert torch.equal(original[0], model.linear.weight) and torch.equal(original[1], model.conv2.weight)
    assert not torch.equal(first[0], original[0]) and torch.equal(first[1], original[1])
    assert torch.equal(second[0], first[0]) and not torch.equal(second[1], original[1])
    # 864 weights: the mean, the deviation and the correlation vary by 0.034, 0.024 and 0.034 (their standard errors)
    weights, spread = second[1], original[1].std()
    claim((weights.mean() - original[1].mean()).abs() / spread, below=0.2)
    claim((weights.std() / spread - 1).abs(), below=0.15)
    claim(abs(scoring.rank_correlation(weights.flatten(1), original[1].flatten(1))), below=0.2)


def test_randomised_leaves_the_network_alone_and_is_one_copy_throughout():
    model = tiny().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = scoring.randomised(model, ["linear", "conv2"])
    assert first is second is not model and first.training
    after, copied = model.state_dict(), second.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name for name in before if not torch.equal(copied[name], before[name])} == {"linear.weight", "conv2.weight"}
    with pytest.raises(LookupError, match="nowhere"):
        next(scoring.randomised(model, ["nowhere"]))


def test_randomisation_compares_absolute_maps():
    def signed(network, image, target):
        flip = -1 if torch.equal(network.linear.weight, model.linear.weight) else 1
        return flip * torch.arange(1.0, 17).view(4, 4)

    model = tiny()
    assert scoring.randomisation(model, signed, images(1)[0].float(), 0, paths=["linear"]) == {
        "linear": pytest.approx(1)
    }


def test_a_layer_with_one_weight_can_be_randomised():
    model = nn.Sequential(
        nn.Conv2d(3, 1, 1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    values = scoring.randomisation(model, saliency.gradient, images(1)[0].float(), 0).values()
    assert len(values) == 4


def test_randomisation_refuses_an_unknown_layer():
    model = tiny()
    with unchanged(model), pytest.raises(LookupError, match="near matches: .*linear"):
        scoring.randomisation(model, saliency.gradient, images(1)[0].float(), 0, paths=["liner"])


# ---------------------------------------------------------------------------------- grids and the board


@pytest.fixture(scope="module")
def sixteen():
    return scoring.grids(networks.lite0())


def test_known_groceries_have_imagenets_names():
    assert set(scoring.KNOWN) <= set(datasets.groceries("train", "fine", size=8).classes)
    assert set(scoring.KNOWN.values()) <= set(networks.lite0().categories)


def test_grids_share_no_photograph_and_hold_four_classes(sixteen):
    assert len(sixteen) == 16
    assert len({name for grid in sixteen for name in grid.names}) == 64
    assert len({target for grid in sixteen for target in grid.targets}) >= 10
    assert all(len(set(grid.targets)) == 4 and grid.image.shape == (3, 320, 320) for grid in sixteen)
    pairs = {frozenset(grid.targets) for grid in sixteen}
    assert len(pairs) > 8  # not always the same company


def test_the_network_is_right_about_each_photograph_of_a_grid(sixteen):
    """The truth is what the authors of the set say, and the network's answer to the photograph alone agrees."""
    model = networks.lite0()
    fine = {}
    for split in ("train", "test"):
        data = datasets.groceries(split, "fine", size=8)
        fine |= {name: data.classes[label] for name, label in zip(data.names, data.labels)}
    for grid in sixteen[:6]:
        cells = torch.stack([grid.image[:, *box.slices] for box in grid.boxes])
        for name, target, cell, probabilities in zip(grid.names, grid.targets, cells, model(cells).softmax(1)):
            assert int(probabilities.argmax()) == target and probabilities[target] >= 0.3
            if name in fine:
                assert scoring.KNOWN[fine[name]] == model.label(target)
            else:
                assert model.label(target) in photos.KNOWN[name]
                assert torch.equal(cell, photos.load(name, 160))


def test_grids_are_the_same_each_time_and_others_with_another_seed():
    model = networks.lite0()
    torch.manual_seed(1)
    first = scoring.grids(model, 2)
    torch.manual_seed(2)
    again, other = scoring.grids(model, 2), scoring.grids(model, 2, seed=1)
    assert [grid.names for grid in first] == [grid.names for grid in again] != [grid.names for grid in other]
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again))


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_too_many_or_no_grids_are_refused(n):
    with pytest.raises(ValueError, match="ask for fewer"):
        scoring.grids(networks.lite0(), n, size=64)


def test_a_network_that_knows_nothing_has_no_grids():
    with pytest.raises(ValueError, match="only 0 different photographs"):
        scoring.grids(networks.lite0(), 1, confidence=1.01)


def test_interval_by_hand():
    values = [0.2, 0.4, 0.6]
    half = 4.302653 * 0.2 / 3**0.5  # the 0.975 quantile of t with two degrees of freedom
    assert scoring.interval(values) == pytest.approx((0.4, max(0.4 - half, 0), 0.4 + half), abs=1e-6)
    found = scipy.stats.binomtest(9, 10).proportion_ci(method="wilson")
    assert scoring.interval([1] * 9 + [0], share=True) == pytest.approx((0.9, found.low, found.high))
    low = scoring.interval([1] * 48, share=True).low
    assert low == pytest.approx(48 / (48 + 1.959964**2))  # all right, and yet no certainty
    assert str(scoring.interval([0.5, 0.5])) == "0.50 [0.50, 0.50]"


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 1.1], [-0.1, 0.5], [0.5, float("nan")]])
def test_interval_refuses_what_is_no_sample_of_shares(values):
    with pytest.raises(ValueError, match="between 0 and 1"):
        scoring.interval(values)


@pytest.mark.random
def test_intervals_cover(seed, claim):
    """95 of 100 intervals hold the true mean: 400 draws of 16, so 0.95 ± 0.011 (its standard error)."""
    draws = np.random.default_rng(seed).uniform(size=(400, 16))
    inside = [score.low <= 0.5 <= score.high for score in map(scoring.interval, draws)]
    claim(np.mean(inside), above=0.91, below=0.99)


def test_the_board_is_the_committed_scoreboards():
    """The package quotes what the page's committed outputs say; `tools/data/quote_scoreboard.py` renews it."""
    assert quote(nbformat.read(NOTEBOOK, as_version=4)) == scoring.BOARD.read_text(encoding="utf-8")
    board = scoring.board()
    assert board.photographs >= 60 and board.classes >= 10 and board.targets >= 48 and board.singles >= 16
    assert {"occlusion", "gradient", "Grad-CAM", "Guided Grad-CAM", "edges (control)"} <= set(board.methods)
    for row in board.methods.values():
        assert {"localisation", "pointing"} <= set(row)
        assert all(0 <= score.low <= score.mean <= score.high <= 1 for score in row.values())


def test_a_scoreboard_that_did_not_run_is_not_quoted():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    with pytest.raises(ValueError, match="run the notebook first"):
        quote(notebook)


@pytest.mark.random
def test_methods_on_a_grid_rank_as_published(seed, claim):
    """CAM marks the cell of its class, the plain gradient hardly more than chance (Rao et al. 2022)."""
    model = networks.lite0()
    packaged = [name for name in photos.KNOWN if name != "flower"]  # clear cases
    names = np.random.default_rng(seed).permutation(packaged)[:4].tolist()
    grid = photos.grid(names)
    targets = [int(model(photos.load(name)[None]).argmax()) for name in names]
    by_cam, by_gradient = (
        [scoring.localisation(explain(model, grid.image, target), box) for target, box in zip(targets, grid.boxes)]
        for explain in (cam.cam, saliency.gradient)
    )
    claim(np.mean(by_cam), above=0.6)
    claim(np.mean(by_gradient), above=0.2, below=0.5)
