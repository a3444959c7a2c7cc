"""Chapter 10: transfer learning."""

import numpy as np
import torch
from torch.nn.functional import normalize

from helpers import embedding, transfer


def bound_without_limit(k):
    return 17 / k


def bound_always_one(k):
    return 1.0


def bound_as_recall(k):
    return min(1.0, k / 17)


def bound_as_number(k):
    return min(k, 17)


def bound_without_the_query(k):
    return min(1.0, 16 / k)


def bound_of_both_lists(k):
    return min(1.0, 34 / k)


def bound_by_counting(k):
    """Right: a list of hits, as a tensor."""
    return (torch.arange(k) < 17).double().mean()


def by_cosine(query, gallery):
    return (normalize(query, dim=1) @ normalize(gallery, dim=1).T).argmax(1)


def by_unit_distance(query, gallery):
    return torch.cdist(normalize(query, dim=1), normalize(gallery, dim=1)).argmin(1)


def most_distant(query, gallery):
    return torch.cdist(query, gallery).argmax(1)


def distance_itself(query, gallery):
    return torch.cdist(query, gallery).amin(1)


def nearest_query(query, gallery):
    return torch.cdist(query, gallery).argmin(0)


def by_absolute_difference(query, gallery):
    return torch.cdist(query, gallery, p=1).argmin(1)


def with_a_column(query, gallery):
    return torch.cdist(query, gallery).argmin(1, keepdim=True)


def distance_in_numpy(query, gallery):
    """Right: the binomial formula, numpy."""
    query, gallery = query.double().numpy(), gallery.double().numpy()
    return np.argmin((gallery**2).sum(1) - 2 * query @ gallery.T, axis=1)


def distance_by_loop(query, gallery):
    """Right: one query at a time, a list."""
    return [min(range(len(gallery)), key=lambda row: (gallery[row] - one).norm().item()) for one in query]  # noqa: B023


def _projected(gallery, labels, few, queries, truth, k, *, basis=None, mean=None, examples=None):
    found = embedding.pca(gallery if basis is None else basis, k)
    examples = few if examples is None else examples
    train = (gallery[examples] - found.mean) @ found.directions.T
    test = (queries - (found.mean if mean is None else mean)) @ found.directions.T
    return transfer.linear_probe((train, labels[examples]), (test, truth))


def projected_from_few(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k, basis=gallery[few])


def projected_with_queries(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k, basis=torch.cat([gallery, queries]))


def projected_not_centred(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k, mean=0)


def projected_by_own_mean(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k, mean=queries.mean(0))


def projected_own_components(gallery, labels, few, queries, truth, k):
    train, test = embedding.pca(gallery, k).points[few], embedding.pca(queries, k).points
    return transfer.linear_probe((train, labels[few]), (test, truth))


def projected_from_all(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k, examples=torch.arange(len(labels)))


def projected_nowhere(gallery, labels, few, queries, truth, k):
    return transfer.linear_probe((gallery[few], labels[few]), (queries, truth))


def projected_on_examples(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, gallery[few], labels[few], k)


def projected_one_more(gallery, labels, few, queries, truth, k):
    return _projected(gallery, labels, few, queries, truth, k + 1)


def projected_first_columns(gallery, labels, few, queries, truth, k):
    return transfer.linear_probe((gallery[few, :k], labels[few]), (queries[:, :k], truth))


def projected_by_sklearn(gallery, labels, few, queries, truth, k):
    """Right: scikit-learn from end to end."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    shadow = PCA(k).fit(gallery.numpy())
    train, test = shadow.transform(gallery[few].numpy()), shadow.transform(queries.numpy())
    scale = StandardScaler().fit(train)
    probe = LogisticRegression(max_iter=2000).fit(scale.transform(train), labels[few].numpy())
    return np.mean(probe.predict(scale.transform(test)) == truth.numpy())


def projected_by_our_probe(gallery, labels, few, queries, truth, k):
    """Right: the singular value decomposition, and a probe that is fitted by hand."""
    mean = gallery.double().mean(0)
    axes = torch.linalg.svd(gallery.double() - mean, full_matrices=False).Vh[:k].T
    train, test = (gallery[few].double() - mean) @ axes, (queries.double() - mean) @ axes
    centre, deviation = train.mean(0), train.std(0, correction=0)
    line = torch.nn.Linear(k, int(labels.max()) + 1).double()
    optimiser = torch.optim.LBFGS(line.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        logits = line((train - centre) / deviation)
        value = torch.nn.functional.cross_entropy(logits, labels[few], reduction="sum")
        value = value + line.weight.square().sum() / 2
        value.backward()
        return value

    optimiser.step(loss)
    return (line((test - centre) / deviation).argmax(1) == truth).double().mean()


WRONG = {
    "10.1": [
        (bound_without_limit, "above 1"),
        (bound_always_one, "longer than 17"),
        (bound_as_recall, "17 photographs that are found"),
        (bound_as_number, "number of right answers"),
        (bound_without_the_query, "none of the 17"),
        (bound_of_both_lists, "longer than 17"),
    ],
    "10.2": [
        (by_cosine, "by cosine"),
        (by_unit_distance, "by cosine"),
        (most_distant, "most distant"),
        (distance_itself, "The index"),
        (nearest_query, "nearest queries"),
        (by_absolute_difference, "absolute differences"),
        (with_a_column, "size 1"),
    ],
    "10.3": [
        (projected_from_few, "few examples"),
        (projected_with_queries, "had a say"),
        (projected_not_centred, "Subtract the gallery's mean"),
        (projected_by_own_mean, "their own mean"),
        (projected_own_components, "directions of their own"),
        (projected_from_all, "learnt from the whole gallery"),
        (projected_nowhere, "Project them first"),
        (projected_on_examples, "Test on the queries"),
        (projected_one_more, "too many"),
        (projected_first_columns, "first columns"),
    ],
}
RIGHT = {
    "10.1": [bound_by_counting],
    "10.2": [distance_in_numpy, distance_by_loop],
    "10.3": [projected_by_sklearn, projected_by_our_probe],
}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    random = torch.Generator().manual_seed(seed)
    if label == "10.1":
        return ((5, 20, 50)[seed],)
    gallery = torch.randn(60, 8, generator=random) @ torch.randn(8, 8, generator=random) + 1
    queries = torch.randn(50, 8, generator=random) @ torch.randn(8, 8, generator=random) + 1
    if label == "10.2":
        return queries, gallery
    labels, truth = (torch.arange(count) % 3 for count in (60, 50))
    return gallery, labels, torch.randperm(60, generator=random)[:20], queries, truth, seed + 2
