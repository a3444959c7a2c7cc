"""Checks of the exercises of chapter 10, transfer learning."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from helpers import transfer

from . import exercise
from .answers import Answer, compare
from .embedding import directions

EXAMPLES = 17  # of a class in the gallery


@exercise("10.1", "bound(k): the largest possible precision@k, a float")
def bound(answer: Answer) -> None:
    perfect = torch.zeros(1000)  # a list that begins with all the right answers that there are
    perfect[:EXAMPLES] = 1
    for k in (1, 5, 16, 17, 18, 20, 50, 730):
        compare(
            answer(k),
            perfect[:k].mean(),
            hints={
                "A precision above 1 is not possible.": EXAMPLES / k,
                "A list longer than 17 cannot be right throughout: the gallery has 17 photographs of a class.": 1.0,
                "This is the number of right answers. The precision is a share of the k.": perfect[:k].sum(),
                "This is the share of the 17 photographs that are found. The precision is a share of the k answers.": (
                    perfect[:k].sum() / EXAMPLES
                ),
                "This counts 16 right answers. The query is none of the 17 photographs in the gallery.": min(
                    1.0, (EXAMPLES - 1) / k
                ),
            },
            what=f"the bound for k = {k}",
        )


@exercise("10.2", "by_distance(query, gallery): the index of the nearest row, (Q,)")
def by_distance(answer: Answer) -> None:
    for seed, (queries, rows, columns) in enumerate([(40, 30, 5), (25, 60, 3)]):
        random = torch.Generator().manual_seed(seed)
        gallery = torch.randn(rows, columns, generator=random) * torch.rand(rows, 1, generator=random) * 3 + 0.5
        query = torch.randn(queries, columns, generator=random) + 0.5
        offsets = gallery.double() - query.double()[:, None]
        distances, alike = offsets.norm(dim=2), F.normalize(query, dim=1) @ F.normalize(gallery, dim=1).T
        compare(
            answer(query, gallery),
            [min(range(rows), key=row.__getitem__) for row in distances.tolist()],
            hints={
                "These are the nearest by cosine.": alike.argmax(1),
                "These are the least similar by cosine.": alike.argmin(1),
                "These are the most distant rows.": distances.argmax(1),
                "These are the distances. The index of the nearest row is asked for.": distances.amin(1),
                "These are the nearest queries of each row. Look for the nearest row of each query.": (
                    distances.argmin(0)
                ),
                "This is the nearest by the sum of the absolute differences. Take the Euclidean distance.": (
                    offsets.abs().sum(2).argmin(1)
                ),
                "These are the rows with the largest inner product.": (query @ gallery.T).argmax(1),
            },
            what="the index",
            tolerance=0,
        )


class _Task(NamedTuple):
    """What ``projected`` is given."""

    gallery: Tensor
    labels: Tensor
    few: Tensor
    queries: Tensor
    truth: Tensor


def _task(seed: int, *, classes: int = 6, columns: int = 12) -> _Task:
    """Features far from the origin; noise in other directions than the classes' differences; other light in queries."""
    random = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, columns, generator=random) * torch.linspace(2.5, 0.5, columns)
    noise = torch.randn(columns, columns, generator=random) * torch.linspace(0.1, 0.7, columns)[:, None]
    shift = torch.randn(columns, generator=random)
    labels = torch.randint(classes, (90,), generator=random)
    truth = torch.randint(classes, (300,), generator=random)
    gallery, queries = (
        centres[own] + torch.randn(len(own), columns, generator=random) @ noise + offset
        for own, offset in ((labels, 2.0), (truth, 2.0 + shift))
    )
    few = torch.cat([(labels == label).nonzero()[3:7, 0] for label in range(classes)])
    return _Task(gallery, labels, few[torch.randperm(len(few), generator=random)], queries, truth)


@exercise("10.3", "projected(gallery, labels, few, queries, truth, k): the accuracy of the probe, a float")
def projected(answer: Answer) -> None:
    for seed, k in ((203, 4), (52, 2)):  # with these seeds every mistake below has an accuracy of its own
        gallery, labels, few, queries, truth = task = _task(seed)
        double, asked = gallery.double(), queries.double()

        def accuracy(train: Tensor, test: Tensor, labels: Tensor, truth: Tensor = truth) -> float:
            return transfer.linear_probe((train, labels), (test, truth))

        axes, shown = directions(gallery, k), labels[few]
        theirs = directions(queries, k)
        own, both = directions(gallery[few], k), directions(torch.cat([gallery, queries]), k)
        origin, more = directions(gallery, k, centred=False), directions(gallery, k + 1)
        points = (double - double.mean(0)) @ axes
        compare(
            answer(*task, k),
            accuracy(points[few], (asked - double.mean(0)) @ axes, shown),
            hints={
                "This is the accuracy with all features. Project them first.": accuracy(double[few], asked, shown),
                "The probe learnt from the whole gallery. Only the rows of few are its examples.": accuracy(
                    points, (asked - double.mean(0)) @ axes, labels
                ),
                "The directions come from the few examples. Take them from the whole gallery.": accuracy(
                    double[few] @ own, asked @ own, shown
                ),
                "The queries had a say in the directions. Take them from the gallery only.": accuracy(
                    double[few] @ both, asked @ both, shown
                ),
                "The queries are not centred as the gallery is. Subtract the gallery's mean from both.": accuracy(
                    points[few], asked @ axes, shown
                ),
                "The queries are centred by their own mean. Subtract the gallery's.": accuracy(
                    points[few], (asked - asked.mean(0)) @ axes, shown
                ),
                "The queries were projected on directions of their own. Use the gallery's for both.": accuracy(
                    points[few], (asked - asked.mean(0)) @ theirs, shown
                ),
                "The directions are those of features that were not centred.": accuracy(
                    double[few] @ origin, asked @ origin, shown
                ),
                "These are the first columns. The principal components are other directions.": accuracy(
                    double[few, :k], asked[:, :k], shown
                ),
                "There is one component too many.": accuracy(double[few] @ more, asked @ more, shown),
                "This is the accuracy on the examples. Test on the queries.": accuracy(
                    points[few], points[few], shown, shown
                ),
            },
            what="the accuracy",
            tolerance=0.02,  # another solver may decide otherwise for a query at a border
        )
