"""Chapter 9: what lies near what in the space of a network's features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from . import layers
from .inputs import as_batch, as_batches


class Projection(NamedTuple):
    """Principal components: see `pca`."""

    points: Tensor
    explained: Tensor
    directions: Tensor
    mean: Tensor


def features(model: nn.Module, images: Dataset | Iterable, layer: str | None = None) -> Tensor:
    """One feature vector for each image, (N, D), on the CPU.

    Parameters
    ----------
    model
        Any network.
    images
        Batches (N, 3, H, W) in [0, 1], or tuples that begin with one, as a DataLoader yields; or a Dataset; or one
        tensor, which is taken in parts of 32.
    layer
        Maps (N, C, h, w) are averaged over their places, so that D = C. Default: what the last linear layer takes in.
    """
    rows = []
    for batch in as_batches(images, "features"):
        batch, _ = as_batch(model, batch)
        with layers.evaluating(model):
            found = _before_last(model, batch) if layer is None else layers.run_to(model, layer, batch)
        found = found.mean((2, 3)) if found.ndim == 4 else found
        if found.ndim != 2:
            raise ValueError(f"layer {layer!r} returns {tuple(found.shape)}, neither maps nor vectors.")
        rows.append(found.cpu())
    if not rows:
        raise ValueError("there are no images.")
    return torch.cat(rows)


def _before_last(model: nn.Module, batch: Tensor) -> Tensor:
    """What the last linear layer takes in."""
    linear = layers.last_linear(model)
    if linear is None:
        raise ValueError("this network has no linear layer: name the layer whose output are the features.")
    seen: list[Tensor] = []
    with linear.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0])):
        model(batch)
    if not seen:
        raise ValueError("the last linear layer did not run in this network's forward pass: name a layer.")
    return seen[-1]


def colour_histogram(images: Tensor, bins: int = 4) -> Tensor:
    """How often each of ``bins``³ colours occurs in images (N, 3, H, W) in [0, 1]: roots of the counts, (N, bins³).

    The root tames the most frequent ones: distances between roots of counts are Hellinger's (Bhattacharyya 1943).
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must have shape (N, 3, H, W), got {tuple(images.shape)}.")
    level = (images * bins).long().clamp(0, bins - 1)
    colour = ((level[:, 0] * bins + level[:, 1]) * bins + level[:, 2]).flatten(1)
    return torch.stack([torch.bincount(row, minlength=bins**3) for row in colour]).sqrt()


def pca(features: Tensor, k: int = 2) -> Projection:
    r"""The ``k`` principal components, by the singular value decomposition of the centred features.

    With :math:`X - \mu = U S V^\top`, the directions are the first rows of :math:`V^\top`, the points
    :math:`(X - \mu) V`, and a direction explains :math:`s_i^2 / \sum_j s_j^2` of the variance. Each direction's sign is
    chosen so that its largest entry is positive.

    Returns
    -------
    Projection
        ``points`` (N, k), ``explained`` (k,), ``directions`` (k, D), ``mean`` (D,).

    Raises
    ------
    ValueError
        ``k`` is out of range, or all rows are the same.
    """
    features = as_features(features)
    if not isinstance(k, int) or not 1 <= k <= min(features.shape):
        raise ValueError(
            f"k must be in 1…{min(features.shape)}, the smaller side of {tuple(features.shape)}; got {k!r}."
        )
    if (features == features[0]).all():
        raise ValueError(f"all {len(features)} rows of the features are the same: no direction explains anything.")
    mean = features.mean(0)
    _, values, directions = torch.linalg.svd(features - mean, full_matrices=False)
    explained = values.square() / values.square().sum()
    directions = directions[:k]
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
    directions = directions * signs
    return Projection((features - mean) @ directions.T, explained[:k], directions, mean)


def tsne(features: Tensor, perplexity: float = 30, seed: int = 0) -> Tensor:
    """Points in the plane, (N, 2), whose neighbours are the features' neighbours (van der Maaten & Hinton 2008).

    scikit-learn's Barnes-Hut t-SNE runs on the first 50 principal components (`pca`; all of them, where there are
    fewer), which is quicker and no worse than on all features. It starts from the first two, so that ``seed`` changes
    nothing. Distances between far points, sizes of groups and empty space mean nothing.
    """
    features = as_features(features)
    if not 0 < perplexity < len(features):
        raise ValueError(
            f"perplexity must be above 0 and below the number of points, {len(features)}; got {perplexity!r}."
        )
    start = pca(features, min(50, *features.shape)).points.float().numpy()
    from sklearn.manifold import TSNE  # a second that the other chapters need not wait

    points = TSNE(perplexity=perplexity, random_state=seed, init="pca", learning_rate="auto").fit_transform(start)
    return torch.from_numpy(points)


def as_features(features: Tensor | np.ndarray) -> Tensor:
    """Check that ``features`` are (N, D) finite numbers; return them on the CPU, in 32 bits or more."""
    features = torch.as_tensor(features).detach().cpu()
    if not features.is_floating_point():
        raise TypeError(f"features must be of a floating-point dtype, got {features.dtype}.")
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(f"features must have shape (N, D), got {tuple(features.shape)}.")
    if not all(limit.isfinite() for limit in features.aminmax()):  # isfinite() of all would cost a copy
        raise ValueError("features must be finite, got NaN or infinity.")
    return features.float() if features.dtype.itemsize < 4 else features
