"""Neighbours and probes against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from helpers import transfer


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
    assert transfer.precision_at_k(q, q_labels, g, g_labels, 7) == pytest.approx(np.mean(hits))


def blobs(seed, n=40):
    labels = torch.arange(n) % 3
    return 3 * torch.eye(3, 8, dtype=torch.float64)[labels] + vectors(n, 8, seed), labels


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_probe_is_logistic_regression_on_standardised_features(strength):
    (x, y), (x_test, y_test) = blobs(0), blobs(1)
    scaler = StandardScaler().fit(x.numpy())
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(scaler.transform(x.numpy()), y.numpy())
    expected = (reference.predict(scaler.transform(x_test.numpy())) == y_test.numpy()).mean()
    assert transfer.linear_probe((x, y), (x_test, y_test), strength=strength) == pytest.approx(expected)


def test_the_probe_learns_what_is_there_and_nothing_else():
    train, test = blobs(0, 90), blobs(1, 300)
    assert transfer.linear_probe(train, test) > 0.85
    noise = (vectors(90, 8, 5), train[1]), (vectors(300, 8, 6), test[1])
    assert transfer.linear_probe(*noise) == pytest.approx(1 / 3, abs=0.12)


def test_the_scale_of_a_feature_does_not_matter():
    (x, y), (x_test, y_test) = blobs(0), blobs(1)
    scale = torch.logspace(-3, 3, 8, dtype=torch.float64)
    assert transfer.linear_probe((x * scale, y), (x_test * scale, y_test)) == transfer.linear_probe(
        (x, y), (x_test, y_test)
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: transfer.nearest(vectors(3, 4), vectors(3, 5)),
        lambda: transfer.nearest(vectors(3), vectors(3), 4),
        lambda: transfer.nearest(vectors(3), vectors(3), 0),
        lambda: transfer.nearest(vectors(3) * torch.nan, vectors(3), 1),
        lambda: transfer.precision_at_k(vectors(3), torch.zeros(2), vectors(9), torch.zeros(9)),
        lambda: transfer.linear_probe((vectors(4), torch.zeros(4)), (vectors(4), torch.zeros(4))),
        lambda: transfer.linear_probe((vectors(4), torch.arange(3)), (vectors(4), torch.zeros(4))),
    ],
)
def test_refuses(call):
    with pytest.raises(ValueError):
        call()
