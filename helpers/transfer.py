"""Chapter 10: what features are good for that were learnt for something else."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .embedding import as_features


class Neighbours(NamedTuple):
    """The nearest first: see `nearest`."""

    index: Tensor
    similarity: Tensor


def nearest(query: Tensor, gallery: Tensor, k: int = 5) -> Neighbours:
    """The ``k`` vectors of the gallery with the largest cosine similarity to each query.

    Parameters
    ----------
    query, gallery
        Features (Q, D) and (G, D); for one query also (D,).

    Returns
    -------
    Neighbours
        ``index`` into the gallery and ``similarity`` in [-1, 1], both (Q, k), or (k,) for one query. What is equally
        similar comes in any order.
    """
    single = isinstance(query, Tensor) and query.ndim == 1
    query, gallery = as_features(query[None] if single else query), as_features(gallery)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query and gallery must have features of one length, got {query.shape[1]} and {gallery.shape[1]}."
        )
    if not isinstance(k, int) or not 1 <= k <= len(gallery):
        raise ValueError(f"k must be in 1…{len(gallery)}, the size of the gallery; got {k!r}.")
    lengths = gallery.norm(dim=1).clamp(min=1e-12)  # cheaper than to divide the gallery, which may be large
    parts = normalize(query, dim=1).split(1024)
    found = [(part @ gallery.T).div_(lengths).topk(k, dim=1) for part in parts]
    index, similarity = torch.cat([f.indices for f in found]), torch.cat([f.values for f in found])
    return Neighbours(index[0], similarity[0]) if single else Neighbours(index, similarity)


def linear_probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], *, strength: float = 1.0) -> float:
    """Accuracy on ``test`` of a linear classifier that was fitted to ``train`` (Alain & Bengio 2017).

    Logistic regression (scikit-learn) on features that are standardised by the training set's mean and deviation.

    Parameters
    ----------
    train, test
        Features (N, D) and labels (N,).
    strength
        Inverse strength of the L2 penalty, scikit-learn's ``C``.
    """
    (x, y), (x_test, y_test) = ((as_features(x), _labels(y, x)) for x, y in (train, test))
    if len(y.unique()) < 2:
        raise ValueError("the training set has a single class: there is nothing to tell apart.")
    from sklearn.linear_model import LogisticRegression  # here, as most chapters do without
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    with warnings.catch_warnings():  # with one example of each class scikit-learn asks whether this is a regression
        warnings.filterwarnings("ignore", "The number of unique classes is greater than 50%")
        probe.fit(x.numpy(), y.numpy())
    return float(probe.score(x_test.numpy(), y_test.numpy()))


def confidence_interval(
    values: Tensor, groups: Tensor | None = None, *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Within which limits the mean of ``values`` is known, by the percentile bootstrap (Efron & Tibshirani 1993).

    Whole groups are drawn with replacement, as many as there are; that is done ``draws`` times, and of the means
    ``(1 - level) / 2`` are left out on either side. With few groups (20, say) the limits are a little too narrow.

    Parameters
    ----------
    values
        (N,), such as 1 for a right answer and 0 for a wrong one, or the differences of two methods.
    groups
        (N,) ints: what belongs together, such as photographs of one shelf. They are no independent examples, so that
        limits without this are too narrow by far. Default: every value stands for itself.
    level
        Share of such intervals that hold the true mean.
    """
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1 or not values.isfinite().all():
        raise ValueError(f"values must be (N,) finite numbers, got shape {tuple(values.shape)}.")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}.")
    groups = torch.arange(len(values)) if groups is None else _labels(groups, values).cpu()
    group, sizes = groups.unique(return_inverse=True, return_counts=True)[1:]
    if len(sizes) < 2:
        raise ValueError(f"a mean over {len(sizes)} group has no interval: there must be two or more.")
    sums = torch.zeros(len(sizes), dtype=torch.double).index_add_(0, group, values)
    drawn = torch.randint(len(sizes), (draws, len(sizes)), generator=torch.Generator().manual_seed(seed))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.double)).tolist()
    return low, high


def _labels(labels: Tensor, features: Tensor) -> Tensor:
    labels = torch.as_tensor(labels)
    if labels.shape != (len(features),):
        raise ValueError(f"there must be one label for each of {len(features)} rows, got {tuple(labels.shape)}.")
    return labels
