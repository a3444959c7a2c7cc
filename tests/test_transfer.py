"""Neighbours and probes against scikit-learn."""

import ast

import numpy as np
import pytest
import scipy.stats
import solutions
import timm
import torch
from networks import seeded
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from helpers import datasets, embedding, models, transfer


def vectors(n, d=16, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize("queries, gallery, k", [(1, 9, 9), (40, 300, 5), (2500, 50, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neighbours_are_those_of_scikit_learn(queries, gallery, k, dtype):
    q, g = vectors(queries, seed=1).to(dtype), vectors(gallery, seed=2).to(dtype)
    ours = transfer.nearest(q, g, k)
    distance, index = NearestNeighbors(n_neighbors=k, metric="cosine").fit(g.numpy()).kneighbors(q.numpy())
    assert np.array_equal(ours.index.numpy(), index)
    np.testing.assert_allclose(ours.similarity.numpy(), 1 - distance, atol=1e-5)


@pytest.fixture(scope="module")
def groceries():
    """Every sixth photograph of the gallery and of the queries, as chapter 10 has them."""
    parts = (datasets.groceries(split, size=64) for split in ("train", "test"))
    return [(part.images[::6], part.labels[::6]) for part in parts]


def test_neighbours_of_real_features_are_those_of_scikit_learn(groceries):
    """Test photographs ask training photographs; the retrieval that chapter 10 writes finds the same."""
    model = models.load(device="cpu")
    gallery, query = (embedding.features(model, images) for images, _ in groceries)
    ours = transfer.nearest(query, gallery, 5)
    search = NearestNeighbors(n_neighbors=5, metric="cosine").fit(gallery.numpy())
    assert np.array_equal(ours.index.numpy(), search.kneighbors(query.numpy(), return_distance=False))
    in_double = transfer.nearest(query.double(), gallery.double(), 5)
    assert torch.equal(ours.index, in_double.index)
    space = {"F": torch.nn.functional}
    exec(ast.unparse(solutions.definition(10, "retrieve")), space)  # noqa: S102
    assert torch.equal(space["retrieve"](query, gallery, 5), ours.index)


def test_what_is_equally_similar_comes_in_any_order():
    """scikit-learn promises no order either: the similarities agree, and so do the sets without what is cut."""
    gallery = vectors(30).repeat(3, 1)  # three of each
    query = vectors(8, seed=1)
    ours = transfer.nearest(query, gallery, 7)
    distance, index = NearestNeighbors(n_neighbors=7, metric="cosine").fit(gallery.numpy()).kneighbors(query.numpy())
    np.testing.assert_allclose(ours.similarity.numpy(), 1 - distance, atol=1e-12)
    assert np.array_equal(ours.index.numpy() % 30, index % 30)  # the same vectors
    for mine, theirs in zip(ours.index, index):
        assert len(set(mine.tolist())) == 7  # nobody twice
        assert set(mine[:6].tolist()) == set(theirs[:6].tolist())


def test_a_vector_of_zeros_is_like_nothing():
    gallery = torch.tensor([[0.0, 0.0], [-1.0, 1e-3], [1.0, 1.0]])
    assert transfer.nearest(torch.tensor([1.0, 0.0]), gallery, 3).index.tolist() == [2, 0, 1]
    assert transfer.nearest(torch.zeros(2), gallery, 3).similarity.tolist() == [0, 0, 0]


def test_length_does_not_matter_but_direction_does():
    gallery = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-1.0, 0.0]])
    found = transfer.nearest(torch.tensor([3.0, 1.0]), gallery, 3)
    assert found.index.tolist() == [0, 1, 2]
    assert found.similarity.tolist() == pytest.approx([3 / 10**0.5, 1 / 10**0.5, -3 / 10**0.5])


def test_precision_is_a_count():
    q, g = vectors(30, seed=1), vectors(80, seed=2)
    q_labels, g_labels = torch.arange(30) % 4, torch.arange(80) % 4
    cosine = torch.nn.functional.cosine_similarity(q[:, None], g[None], dim=2)
    hits = [
        np.mean([g_labels[j] == label for j in sorted(range(80), key=lambda j: -row[j].item())[:7]])
        for row, label in zip(cosine, q_labels)
    ]
    found = transfer.nearest(q, g, 7).index
    assert (g_labels[found] == q_labels[:, None]).double().mean().item() == pytest.approx(np.mean(hits))


def blobs(seed, n=40, apart=3):
    labels = torch.arange(n) % 3
    return apart * torch.eye(3, 8, dtype=torch.float64)[labels] + vectors(n, 8, seed), labels


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_probe_is_logistic_regression_on_standardised_features(strength):
    (x, y), (x_test, y_test) = blobs(0), blobs(1)
    scaler = StandardScaler().fit(x.numpy())
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(scaler.transform(x.numpy()), y.numpy())
    expected = (reference.predict(scaler.transform(x_test.numpy())) == y_test.numpy()).mean()
    assert transfer.linear_probe((x, y), (x_test, y_test), strength=strength) == pytest.approx(expected)


@pytest.mark.random
def test_the_strength_is_that_of_the_penalty(seed, claim):
    """Few examples of one class and a strong penalty: only the bias is left, and it says the frequent class."""
    (x, y), (x_test, y_test) = blobs(2 * seed, 60, apart=6), blobs(2 * seed + 1, 300, apart=6)
    rare = torch.cat([(y == 0).nonzero()[:, 0], (y == 1).nonzero()[:5, 0]])
    train = x[rare], y[rare]
    test = x_test[y_test < 2], y_test[y_test < 2]
    assert transfer.linear_probe(train, test, strength=1e-6) == 0.5
    claim(transfer.linear_probe(train, test, strength=1.0), above=0.8)


@pytest.mark.random
def test_the_test_set_is_standardised_as_the_training_set(seed, claim):
    """A test set of one class alone would be moved into the middle by a mean of its own."""
    train, (x_test, y_test) = blobs(2 * seed, 90), blobs(2 * seed + 1, 300)
    for label in range(3):
        chosen = y_test == label
        claim(transfer.linear_probe(train, (x_test[chosen], y_test[chosen])), above=0.8)


@pytest.mark.random
def test_trained_features_beat_random_ones_and_pixels(groceries, seed, claim):
    """What chapter 10 claims, in small: a sixth of the photographs, 64 pixels."""
    (images, labels), (asked, truth) = groceries
    network = models.load(device="cpu")
    fresh = models.Classifier(seeded(timm.create_model, "tf_efficientnet_lite0", seed=seed, pretrained=False)).eval()
    hits = {}
    for name, turn in {
        "pixels": lambda images: torch.nn.functional.interpolate(images, 12, mode="area").flatten(1),
        "random": lambda images: embedding.features(fresh, images),
        "trained": lambda images: embedding.features(network, images),
    }.items():
        train, test = turn(images), turn(asked)
        found = transfer.nearest(test, train, 3).index
        hits[name] = (labels[found] == truth[:, None]).double().mean(1)
        hits[f"{name}, probe"] = transfer.linear_probe((train, labels), (test, truth))
    for rival in ("pixels", "random"):
        claim((hits["trained"] - hits[rival]).mean(), above=0.05)
        claim(hits["trained, probe"] - hits[f"{rival}, probe"], above=0.1)


def test_one_example_of_each_class_is_enough_and_no_warning(recwarn):
    """scikit-learn would ask whether the labels are numbers of a regression."""
    labels = torch.arange(43)
    assert transfer.linear_probe((torch.eye(43), labels), (torch.eye(43), labels)) == 1
    assert not recwarn.list


@pytest.mark.random
def test_the_interval_is_that_of_scipy(seed, claim):
    """With 100,000 draws two limits differ by 0.003 of the interval's width, a seventh of what is allowed."""
    values, draws = vectors(40, 1, seed)[:, 0], 100_000
    expected = scipy.stats.bootstrap(
        (values.numpy(),), np.mean, n_resamples=draws, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    result = transfer.confidence_interval(values, draws=draws, seed=seed)
    claim(np.abs(np.subtract(result, expected)).max() / (expected.high - expected.low), below=0.02)
    narrow = transfer.confidence_interval(values, level=0.5, draws=draws, seed=seed)
    # of a normal distribution: 0.674 and 1.960 standard errors
    claim((narrow[1] - narrow[0]) / (result[1] - result[0]), above=0.95 * 0.674 / 1.960, below=1.05 * 0.674 / 1.960)


@pytest.mark.random
def test_the_interval_of_groups_is_that_of_their_means(seed, claim):
    """Photographs of one shelf that are all right or all wrong count once."""
    by_photo = vectors(24, 1, seed)[:, 0]
    values, groups = by_photo.repeat_interleave(10), torch.arange(24).repeat_interleave(10) * 7 - 3
    low, high = transfer.confidence_interval(by_photo)
    np.testing.assert_allclose(transfer.confidence_interval(values, groups), (low, high), rtol=1e-12)
    without = transfer.confidence_interval(values)
    claim((without[1] - without[0]) / (high - low), below=0.4)  # the root of a tenth
    order = torch.randperm(240)
    np.testing.assert_allclose(transfer.confidence_interval(values[order], groups[order]), (low, high), rtol=1e-12)


def test_groups_of_different_size_count_by_their_values():
    values = torch.tensor([1.0, 1.0, 1.0, 0.0])
    limits = transfer.confidence_interval(values, torch.tensor([0, 0, 0, 1]), level=0.2)
    assert limits == (0.75, 0.75)  # half of the draws have both groups: three right of four


@pytest.mark.random
def test_the_interval_holds_the_mean_as_often_as_it_says(seed, claim):
    """400 samples of 40 groups of 5, whose values share the group's own.

    With 40 groups the limits are a little too narrow (0.94, by the t distribution), without groups by far (0.74). The
    share of 400 varies by 0.012.
    """
    random = torch.Generator().manual_seed(seed)
    groups, held = torch.arange(40).repeat_interleave(5), 0
    for _ in range(400):
        own = torch.randn(40, generator=random).repeat_interleave(5)
        low, high = transfer.confidence_interval(own + torch.randn(200, generator=random), groups, draws=400)
        held += low <= 0 <= high
    claim(held / 400, above=0.88, below=0.99)


def test_the_interval_depends_on_its_seed_only_and_stays_among_the_values():
    right = torch.tensor([1.0] * 28 + [0.0] * 2)
    first = transfer.confidence_interval(right)
    torch.manual_seed(99)
    assert first == transfer.confidence_interval(right)
    assert 0 <= first[0] < right.mean() < first[1] <= 1


@pytest.mark.random
def test_the_probe_learns_what_is_there_and_nothing_else(seed, claim):
    train, test = blobs(2 * seed, 90), blobs(2 * seed + 1, 3000)
    claim(transfer.linear_probe(train, test), above=0.85)
    noise = (vectors(90, 8, 1000 + seed), train[1]), (vectors(3000, 8, 2000 + seed), test[1])
    claim(transfer.linear_probe(*noise), above=0.25, below=0.45)


def test_the_scale_of_a_feature_does_not_matter():
    (x, y), (x_test, y_test) = blobs(0), blobs(1)
    scale = torch.logspace(-3, 3, 8, dtype=torch.float64)
    assert transfer.linear_probe((x * scale, y), (x_test * scale, y_test)) == transfer.linear_probe(
        (x, y), (x_test, y_test)
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: transfer.nearest(vectors(3, 4), vectors(3, 5)), "one length"),
        (lambda: transfer.nearest(vectors(3), vectors(3), 4), "k must"),
        (lambda: transfer.nearest(vectors(3), vectors(3), 0), "k must"),
        (lambda: transfer.nearest(vectors(3) * torch.nan, vectors(3), 1), "finite"),
        (lambda: transfer.linear_probe((vectors(4), torch.zeros(4)), (vectors(4), torch.zeros(4))), "single class"),
        (lambda: transfer.linear_probe((vectors(4), torch.arange(3)), (vectors(4), torch.zeros(4))), "one label"),
        (lambda: transfer.linear_probe((vectors(4, 3), torch.arange(4)), (vectors(4, 5), torch.zeros(4))), "features"),
        (lambda: transfer.confidence_interval(vectors(3, 2)), "shape"),
        (lambda: transfer.confidence_interval(torch.tensor([0.0, torch.nan])), "finite"),
        (lambda: transfer.confidence_interval(torch.zeros(3), torch.zeros(2)), "one label"),
        (lambda: transfer.confidence_interval(torch.zeros(3), torch.zeros(3)), "two or more"),
        (lambda: transfer.confidence_interval(torch.zeros(1)), "two or more"),
        (lambda: transfer.confidence_interval(torch.zeros(0)), "two or more"),
        (lambda: transfer.confidence_interval(torch.zeros(3), level=95), "level"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
