"""The demo of chapter 10: show me more like this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from torch import Tensor

from ..transfer import nearest
from .widget import Control, Demo, Frame, Report, Row, Scene, photo, sheet


class Pictures(NamedTuple):
    """Labelled pictures: (N, 3, H, W), (N,), and from a kind of features to (N, D)."""

    images: Tensor
    labels: Tensor
    features: Mapping[str, Tensor]


def show(
    names: Sequence[str],
    gallery: Pictures,
    queries: Pictures,
    describe: Callable[[Tensor], Mapping[str, Tensor]],
    kinds: Mapping[str, float],
) -> Demo:
    """Choose a query and the kind of features, see its five nearest neighbours.

    Labels index ``names``; ``describe`` gives the features of other images, and ``kinds`` goes from the kinds to show
    to their precision@5 over all queries.
    """
    side = 100

    def compute(picture: Tensor | None, report: Report) -> Scene:
        if picture is None:
            asked, found, tags = queries.images, queries.features, [names[label] for label in queries.labels]
        else:
            asked, found, tags = picture[None], describe(picture[None]), ["your picture"]
        frames = []
        for number, kind in product(range(len(asked)), kinds):
            nearest_ones = nearest(found[kind][number][None], gallery.features[kind], 5)
            index, similarity = nearest_ones.index[0].tolist(), nearest_ones.similarity[0].tolist()
            right = [picture is None and bool(gallery.labels[i] == queries.labels[number]) for i in index]
            rows = [
                Row(
                    ("✓ " if hit else "✗ ") * (picture is None) + names[gallery.labels[i]],
                    f"{value:.2f}",
                    max(value, 0),
                )
                for i, value, hit in zip(index, similarity, right)
            ]
            rows.append(Row("precision@5, all queries", f"{kinds[kind]:.2f}", kinds[kind], 1 / len(names)))
            says = f"{tags[number]}, by {kind}: "
            says += f"{sum(right)} of the five nearest are of its class." if picture is None else "its five nearest."
            tiles = [photo(asked[number], side), *(photo(gallery.images[i], side) for i in index)]
            alt = f"A query and its five nearest by {kind}: {', '.join(names[gallery.labels[i]] for i in index)}."
            frames.append(Frame(sheet(tiles, 6), rows, says, alt))
        return Scene(
            title="show me more like this",
            caption="Left the query, then its five nearest neighbours. Guess what each kind of features will take for "
            "alike. Which mistakes would you make yourself? The line across the lowest bar is chance.",
            heading="Cosine similarity",
            controls=[Control("Query", tags), Control("Features", list(kinds), "buttons")],
            frames=frames,
            start=(0, len(kinds) - 1),
        )

    return Demo(compute, None, size=gallery.images.shape[-1])
