"""Features against a hook, PCA and t-SNE against scikit-learn."""

import gc
import weakref

import numpy as np
import pytest
import torch
from networks import images, tiny, unchanged
from sklearn import manifold
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import datasets, embedding, layers, models


def cloud(n=60, d=12, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(n, d)) * np.linspace(4, 0.5, d) + 3)


def known_directions(seed, n=60, d=12):
    """Points whose deviation along each principal direction is 0.7 times that along the one before.

    How exactly a direction can be found depends on how far its variance is from the next one's.
    """
    random = np.random.default_rng(seed)
    points = random.normal(size=(n, d))
    points, directions = (np.linalg.qr(part)[0] for part in (points - points.mean(0), random.normal(size=(d, d))))
    return torch.from_numpy((30 * points * 0.7 ** np.arange(d)) @ directions.T + 3)


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


@pytest.mark.random
def test_pca_in_single_precision(seed, claim):
    data = known_directions(seed).float()
    ours, theirs = embedding.pca(data, 3), PCA(3, svd_solver="full").fit(data.numpy())
    signs = np.sign((ours.directions.numpy() * theirs.components_).sum(1))
    scale = np.abs(theirs.transform(data.numpy())).max()
    claim(np.abs(ours.directions.numpy() - signs[:, None] * theirs.components_).max(), below=1e-5)
    claim(np.abs(ours.points.numpy() - signs * theirs.transform(data.numpy())).max(), below=1e-5 * scale)
    np.testing.assert_allclose(ours.explained.numpy(), theirs.explained_variance_ratio_, atol=1e-5)


def test_pca_of_features_is_scikit_learns():
    """Of the embedded network's features of real pictures, as chapter 9 takes them."""
    photographs = datasets.groceries("test", size=48).images[::13]
    found = embedding.features(models.load(device="cpu"), photographs).double()
    assert found.shape == (59, 1280)
    ours, theirs = embedding.pca(found, 20), PCA(20, svd_solver="full").fit(found.numpy())
    signs = np.sign((ours.directions.numpy() * theirs.components_).sum(1))
    np.testing.assert_allclose(ours.directions.numpy(), signs[:, None] * theirs.components_, atol=1e-5)
    np.testing.assert_allclose(ours.points.numpy(), signs * theirs.transform(found.numpy()), atol=1e-5)
    np.testing.assert_allclose(ours.explained.numpy(), theirs.explained_variance_ratio_, rtol=1e-5)


def test_all_directions_explain_everything_and_give_the_points_back():
    data = cloud()
    found = embedding.pca(data, 12)
    assert found.explained.sum().item() == pytest.approx(1)
    assert (found.explained.diff() <= 0).all()
    torch.testing.assert_close(found.points @ found.directions + found.mean, data)
    variances = found.points.var(0) / data.var(0).sum()
    torch.testing.assert_close(variances, found.explained)
    torch.testing.assert_close(found.directions @ found.directions.T, torch.eye(12, dtype=torch.float64))


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("function", [lambda data: embedding.pca(data, 1), lambda data: embedding.tsne(data, 0.5)])
def test_points_that_are_all_the_same_have_no_directions(function, rows):
    """scikit-learn's t-SNE of them ends the process."""
    with pytest.raises(ValueError, match="the same"):
        function(torch.full((rows, 5), 0.3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_of_half_precision_are_taken(dtype):
    data = cloud().to(dtype)
    exact = data.float()
    assert torch.equal(embedding.pca(data, 2).points, embedding.pca(exact, 2).points)
    assert embedding.tsne(data, perplexity=5).dtype == torch.float32
    half = tiny().to(dtype)
    assert embedding.features(half, images(2, 16)).dtype == dtype


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


@pytest.mark.parametrize("source, message", [([], "no images"), (torch.zeros(2, 4, 8, 8), "shape")])
def test_features_refuses(source, message):
    with pytest.raises(ValueError, match=message):
        embedding.features(tiny(), source)


@pytest.mark.parametrize("count", [1, 32, 33, 64])
def test_no_image_is_lost_between_the_parts(count):
    model, batch = tiny(), images(count, 16).float()
    torch.testing.assert_close(embedding.features(model, batch, "relu2"), model[:7](batch).mean((2, 3)))


def test_one_image_is_one_row():
    model, image = tiny(), images(1, 32)[0].float()
    assert embedding.features(model, image).shape == (1, 12)
    torch.testing.assert_close(embedding.features(model, [image, image[None]]), model[:-1](image[None]).expand(2, -1))


def test_labels_may_come_with_the_images():
    model, batch = tiny(), images(6, 16).float()
    expected = embedding.features(model, batch)
    for source in ([(batch, torch.zeros(6))], [[batch, torch.zeros(6), "more"]], zip(batch.split(2), range(3))):
        torch.testing.assert_close(embedding.features(model, source), expected)


def test_batches_are_asked_for_one_at_a_time():
    """So that a folder of any size can be streamed: a batch is gone before the next but one is made."""
    alive, most = weakref.WeakSet(), []

    def batches():
        for seed in range(8):
            batch = images(4, 16, seed).float()
            alive.add(batch)
            yield batch
            del batch
            gc.collect()
            most.append(len(alive))

    assert len(embedding.features(tiny(), batches())) == 32
    assert max(most) <= 2


def test_a_layer_without_maps_or_vectors_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    with unchanged(model), pytest.raises(ValueError, match="'1'.*neither maps nor vectors"):
        embedding.features(model, images(2, 16).float(), "1")


def test_a_last_linear_layer_that_does_not_run_is_refused():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.spare = tiny(), nn.Linear(3, 3)

        def forward(self, pixels):
            return self.body(pixels)

    model = Idle()
    with unchanged(model), pytest.raises(ValueError, match="did not run.*name a layer"):
        embedding.features(model, images(2, 16).float())
    assert embedding.features(model, images(2, 16).float(), "body.relu2").shape == (2, 12)


def test_a_network_without_a_linear_layer_needs_a_name():
    with pytest.raises(ValueError, match="name the layer"):
        embedding.features(tiny()[:4], images(1, 16).float())


@pytest.mark.random
def test_tsne_keeps_groups_together_and_is_repeatable(claim):
    labels = torch.arange(3).repeat_interleave(20)
    data = 20 * torch.eye(3).repeat(1, 30)[labels] + torch.randn(60, 90)
    points = embedding.tsne(data, perplexity=10)
    assert points.shape == (60, 2)
    assert torch.equal(points, embedding.tsne(data, perplexity=10, seed=1))  # as its docstring says
    nearest = torch.cdist(points, points).fill_diagonal_(torch.inf).topk(5, largest=False).indices
    claim((labels[nearest] == labels[:, None]).float().mean(), above=0.95)


def box():
    """Points in a box of three dimensions, which lies in a space of forty."""
    return torch.rand(120, 3) @ torch.randn(3, 40) + 0.01 * torch.randn(120, 40)


@pytest.mark.random
def test_neighbours_in_the_map_are_neighbours_among_the_features(claim):
    """Trustworthiness (Venna & Kaski 2001): 1 where nobody has a new neighbour, about a half of a map at random."""
    data = box()
    claim(trustworthiness(data.numpy(), embedding.tsne(data, 30).numpy(), n_neighbors=10), above=0.9)
    claim(trustworthiness(data.numpy(), torch.randn(120, 2).numpy(), n_neighbors=10), below=0.6)


def test_the_perplexity_is_passed_on(monkeypatch):
    given = []

    class Spy(manifold.TSNE):
        def fit_transform(self, data):
            given.append(self.perplexity)
            return data[:, :2]

    monkeypatch.setattr(manifold, "TSNE", Spy)
    embedding.tsne(cloud(), perplexity=5)
    embedding.tsne(cloud(), perplexity=7)
    assert given == [5, 7]


def test_tsne_sees_fifty_components_only(monkeypatch):
    shapes, given = [], []

    class Spy(manifold.TSNE):
        def fit_transform(self, data):
            shapes.append(data.shape)
            given.append(torch.from_numpy(data))
            return super().fit_transform(data)

    monkeypatch.setattr(manifold, "TSNE", Spy)
    data = torch.randn(80, 200)
    embedding.tsne(data, perplexity=5)
    embedding.tsne(torch.randn(30, 200), perplexity=5)
    assert shapes == [(80, 50), (30, 30)]
    assert torch.equal(given[0], embedding.pca(data, 50).points)
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


def test_a_colour_histogram_counts_colours():
    pixels = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, 0.24], [1.0, 1.0, 1.0], [0.0, 0.3, 0.9]])  # (4, 3)
    found = embedding.colour_histogram(pixels.T.reshape(1, 3, 2, 2))
    expected = torch.zeros(1, 64)
    expected[0, [0, 63, 7]] = torch.tensor([2.0, 1.0, 1.0]).sqrt()  # 0·16 + 1·4 + 3 = 7
    torch.testing.assert_close(found, expected)
    image = torch.rand(2, 3, 9, 8)
    counts, _ = np.histogramdd(image[1].flatten(1).T.numpy(), bins=5, range=[(0, 1)] * 3)
    theirs = torch.from_numpy(counts).flatten().sqrt().float()
    torch.testing.assert_close(embedding.colour_histogram(image, 5)[1], theirs)
    with pytest.raises(ValueError, match="3, H, W"):
        embedding.colour_histogram(image[0])
