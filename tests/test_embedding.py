"""Features against a hook, PCA against scikit-learn, purity by counting."""

import numpy as np
import pytest
import torch
from networks import images, tiny, unchanged
from sklearn.decomposition import PCA
from torch.utils.data import DataLoader, TensorDataset

from helpers import embedding, layers


def cloud(n=60, d=12, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(n, d)) * np.linspace(4, 0.5, d) + 3)


@pytest.mark.parametrize("shape, k", [((60, 12), 1), ((60, 12), 12), ((9, 30), 5), ((9, 30), 9)])
def test_pca_equals_scikit_learn_up_to_sign(shape, k):
    data = cloud(*shape)
    ours, theirs = embedding.pca(data, k), PCA(k, svd_solver="full").fit(data.numpy())
    signs = np.sign((ours.directions.numpy() * theirs.components_).sum(1))
    k_real = min(k, shape[0] - 1)  # the last of N components of N points is rounding noise
    np.testing.assert_allclose(
        ours.directions.numpy()[:k_real], (signs[:, None] * theirs.components_)[:k_real], atol=1e-5
    )
    np.testing.assert_allclose(
        ours.points.numpy()[:, :k_real], (theirs.transform(data.numpy()) * signs)[:, :k_real], atol=1e-5
    )
    np.testing.assert_allclose(ours.explained.numpy(), theirs.explained_variance_ratio_, atol=1e-5)
    np.testing.assert_allclose(ours.mean.numpy(), theirs.mean_, atol=1e-5)
    assert all(row[row.abs().argmax()] > 0 for row in ours.directions)


def test_pca_in_single_precision():
    data = cloud().float()
    ours, theirs = embedding.pca(data, 3), PCA(3, svd_solver="full").fit(data.numpy())
    np.testing.assert_allclose(ours.directions.abs().numpy(), np.abs(theirs.components_), atol=1e-5)


@pytest.mark.parametrize("k", [0, 13, 2.0])
def test_pca_refuses(k):
    with pytest.raises(ValueError, match="k must be"):
        embedding.pca(cloud(), k)


def test_features_are_what_the_linear_layer_takes_in():
    model, batch = tiny(), images(5, 32).float()
    pooled = model[:-1](batch)
    with unchanged(model):
        found = embedding.features(model, batch)
    torch.testing.assert_close(found, pooled)
    assert not found.requires_grad


def test_features_of_a_layer_are_means_over_places():
    model, batch = tiny(), images(5, 32).float()
    torch.testing.assert_close(
        embedding.features(model, batch, "relu1"), layers.run_to(model, "relu1", batch).mean((2, 3))
    )
    torch.testing.assert_close(embedding.features(model, batch, "linear"), model(batch))


def test_batches_loaders_and_sets_give_the_same():
    model, batch = tiny(), images(70, 16).float()
    expected = model[:-1](batch)
    data = TensorDataset(batch, torch.zeros(70))
    for source in (batch, batch.split(9), DataLoader(data, batch_size=32), data, iter(batch.split(20))):
        torch.testing.assert_close(embedding.features(model, source), expected)


def test_a_large_tensor_is_taken_in_parts():
    seen = []
    model = tiny()
    handle = model.conv1.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    embedding.features(model, images(70, 16).float())
    handle.remove()
    assert max(seen) == 32 and sum(seen) == 70


@pytest.mark.parametrize("source, error", [([], ValueError), (torch.zeros(2, 4, 8, 8), ValueError)])
def test_features_refuses(source, error):
    with pytest.raises(error):
        embedding.features(tiny(), source)


def test_a_network_without_a_linear_layer_needs_a_name():
    with pytest.raises(ValueError, match="name the layer"):
        embedding.features(tiny()[:4], images(1, 16).float())


def purity_by_counting(features, labels, k):
    unit = features / features.norm(dim=1, keepdim=True)
    share = []
    for i in range(len(unit)):
        order = sorted((j for j in range(len(unit)) if j != i), key=lambda j: -(unit[i] @ unit[j]).item())
        share.append(np.mean([labels[j] == labels[i] for j in order[:k]]))
    return np.mean(share)


@pytest.mark.parametrize("k", [1, 4, 59])
def test_purity_is_a_count(k):
    data, labels = cloud(), torch.arange(60) % 3
    assert embedding.purity(data, labels, k) == pytest.approx(purity_by_counting(data, labels.tolist(), k))


def test_purity_of_what_is_known():
    labels = torch.arange(2).repeat_interleave(10)
    apart = torch.eye(2)[labels] + 0.01 * torch.rand(20, 2)
    assert embedding.purity(apart, labels, 5) == 1
    assert embedding.purity(apart, torch.arange(20) % 2, 9) == pytest.approx(4 / 9, abs=0.12)


def test_tsne_keeps_groups_together_and_is_repeatable():
    labels = torch.arange(3).repeat_interleave(20)
    data = 20 * torch.eye(3).repeat(1, 30)[labels] + torch.randn(60, 90)
    points = embedding.tsne(data, perplexity=10)
    assert points.shape == (60, 2)
    assert torch.equal(points, embedding.tsne(data, perplexity=10))
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).topk(5, largest=False).indices
    assert (labels[nearest] == labels[:, None]).float().mean() > 0.95


def test_tsne_sees_fifty_components_only(monkeypatch):
    shapes = []

    class Spy(embedding.TSNE):
        def fit_transform(self, data):
            shapes.append(data.shape)
            return super().fit_transform(data)

    monkeypatch.setattr(embedding, "TSNE", Spy)
    embedding.tsne(torch.randn(80, 200), perplexity=5)
    embedding.tsne(torch.randn(30, 200), perplexity=5)
    assert shapes == [(80, 50), (30, 30)]
    assert "50 principal components" in embedding.tsne.__doc__


@pytest.mark.parametrize("perplexity", [0, -1, 60])
def test_tsne_refuses(perplexity):
    with pytest.raises(ValueError, match="perplexity"):
        embedding.tsne(cloud(), perplexity)


@pytest.mark.parametrize(
    "data, error",
    [
        (torch.zeros(3), ValueError),
        (torch.zeros(0, 3), ValueError),
        (torch.tensor([[1.0, torch.nan]]), ValueError),
        (torch.zeros(3, 2, dtype=torch.int64), TypeError),
    ],
)
def test_what_is_not_features_is_refused(data, error):
    with pytest.raises(error):
        embedding.pca(data, 1)
