"""Checks of the exercises of chapter 9, maps of features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import exercise
from .answers import Answer, Wrong, compare, require, tensor


def directions(rows: Tensor, k: int, *, centred: bool = True) -> Tensor:
    """The first k principal directions (D, k), as eigenvectors of the covariance, signs as those of `embedding.pca`."""
    rows = rows.double()
    rows = rows - rows.mean(0) if centred else rows
    found = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -k:].flip(1)
    return found * found.gather(0, found.abs().argmax(0, keepdim=True)).sign()


@exercise(
    "9.1",
    "precision_of_components(queries, query_labels, gallery, gallery_labels, k): the mean precision@5, a float",
)
def precision_of_components(answer: Answer) -> None:
    for seed, k in ((863, 3), (860, 2), (2002, 4)):  # with these every mistake below has a precision of its own
        random = torch.Generator().manual_seed(seed)
        centres = torch.randn(5, 9, generator=random) * torch.linspace(2.0, 0.4, 9)
        mixed, shift = torch.randn(9, 9, generator=random) * 0.35, torch.randn(9, generator=random)
        y_gallery, y_queries = torch.arange(70) % 5, torch.arange(50) % 4  # the queries have another mean
        gallery, queries = (
            centres[labels] + shift + torch.randn(len(labels), 9, generator=random) @ mixed
            for labels in (y_gallery, y_queries)
        )

        def precision(
            x: Tensor, g: Tensor, count: int = 5, by: str = "cosine", labels: tuple = (y_queries, y_gallery)
        ) -> float:
            if by == "cosine":  # at length 1 the order of the distances is that of the cosines
                x, g = F.normalize(x, dim=1), F.normalize(g, dim=1)
            nearest = torch.cdist(x, g).argsort(1)[:, :count]
            return (labels[1][nearest] == labels[0][:, None]).double().mean().item()

        x, g = queries.double(), gallery.double()
        x_own, x, g = x - x.mean(0), x - g.mean(0), g - g.mean(0)
        axes, own, raw = directions(g, k), directions(x_own, k), directions(gallery, k, centred=False)
        both = torch.cat([x, g])
        joint, mean = directions(both, k), both.mean(0)
        compare(
            answer(queries, y_queries, gallery, y_gallery, k),
            precision(x @ axes, g @ axes),
            hints={
                "This is the precision of all features. Project them first.": precision(
                    queries.double(), gallery.double()
                ),
                "This is the precision of all features, centred. Project them, too.": precision(x, g),
                "The queries have directions of their own here. Take the gallery's.": precision(x_own @ own, g @ axes),
                "The queries were centred on their own mean. Take the gallery's.": precision(x_own @ axes, g @ axes),
                "The queries were not centred. Take away the gallery's mean.": precision(
                    queries.double() @ axes, g @ axes
                ),
                "Take away the gallery's mean before you project.": precision(
                    queries.double() @ axes, gallery.double() @ axes
                ),
                "The components are those of queries and gallery together. Take the gallery's.": precision(
                    (x - mean) @ joint, (g - mean) @ joint
                ),
                "The features were not centred.": precision(queries.double() @ raw, gallery.double() @ raw),
                "Queries and gallery are swapped.": precision(g @ axes, x @ axes, labels=(y_gallery, y_queries)),
                "These are the nearest by distance. Take the cosine.": precision(x @ axes, g @ axes, by="distance"),
                "These are 10 neighbours. Take 5.": precision(x @ axes, g @ axes, 10),
                "These are 6 neighbours. Take 5.": precision(x @ axes, g @ axes, 6),
                "These are 4 neighbours. Take 5.": precision(x @ axes, g @ axes, 4),
                "This is the nearest neighbour alone. Take 5.": precision(x @ axes, g @ axes, 1),
                "There is one component too many.": precision(x @ directions(g, k + 1), g @ directions(g, k + 1)),
                "There is one component too few.": precision(x @ directions(g, k - 1), g @ directions(g, k - 1)),
                "These are the first columns. The principal components are other directions.": precision(
                    x[:, :k], g[:, :k]
                ),
            },
            what="the precision",
            tolerance=0.0084,  # one neighbour of 250: of two that are equally near, either may come first
        )


@exercise("9.2", "gradient(p, positions): the gradient of KL with respect to the positions, (N, 2)")
def gradient(answer: Answer) -> None:
    for seed, count in enumerate((12, 7, 30)):
        random = torch.Generator().manual_seed(seed)
        p = torch.rand(count, count, generator=random, dtype=torch.float64).fill_diagonal_(0) ** 2
        p = (p + p.T) / (p + p.T).sum()
        positions = torch.randn(count, 2, generator=random, dtype=torch.float64)

        leaf = positions.clone().requires_grad_()
        with torch.enable_grad():
            near = 1 / (1 + (leaf[:, None] - leaf).square().sum(2))
            near = near * (1 - torch.eye(count))
            truth = torch.autograd.grad(-torch.special.xlogy(p, near / near.sum() + torch.eye(count)).sum(), leaf)[0]

        steps, kernel = positions[:, None] - positions, near.detach()
        q = kernel / kernel.sum()

        def force(weights: Tensor, steps: Tensor = steps) -> Tensor:
            return 4 * torch.einsum("ij,ijc->ic", weights, steps)

        with_diagonal = kernel + torch.eye(count)
        compare(
            answer(p, positions),
            truth,
            hints={
                "Half of it is there. A position stands in the sum over all pairs twice, as i and as j.": truth / 2,
                "A factor is missing: the gradient is 4 times this.": truth / 4,
                "The kernel (1 + distance²)⁻¹ behind (p - q) is missing.": force(p - q),
                "The kernel is there once too often.": force((p - q) * kernel**2),
                "Only the attraction is there. What does the sum of the kernels in q add?": force(p * kernel),
                "Only the repulsion is there. What do the p add?": force(-q * kernel),
                "The kernel is not q: divide it by its sum.": force((p - kernel) * kernel),
                "q is divided row by row. Divide by the sum over all pairs.": force(
                    (p - kernel / kernel.sum(1, keepdim=True)) * kernel
                ),
                "The diagonal counts in the sum of the kernels. A point is no neighbour of itself.": force(
                    (p - with_diagonal / with_diagonal.sum()) * with_diagonal
                ),
                "The kernel behind (p - q) is q here, the kernel after the division.": force((p - q) * q),
            },
            what="the gradient",
        )


def _blocks(images: Tensor, block: int) -> Tensor:
    """The blocks of the images, row by row: (N, blocks, 3, block, block)."""
    columns = F.unfold(images, block, stride=block).mT
    return columns.unflatten(2, (3, block, block))


def _same(found: Tensor, truth: Tensor) -> Tensor:
    """Which block of the result, (N, i), is which block of the image, (j): (N, i, j)."""
    return (found[:, :, None] - truth[:, None]).abs().flatten(3).amax(3) < 1e-5


@exercise("9.3", "shuffled(images, block=16): the images with their blocks in another order")
def shuffled(answer: Answer) -> None:
    images = torch.rand(3, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    for block, given in ((16, ()), (8, (8,))):
        found = tensor(answer(images, *given))
        require(
            found.shape == images.shape,
            f"The result has shape {tuple(found.shape)}, expected {tuple(images.shape)}.",
        )
        parts, pieces = _blocks(found, block), _blocks(images.double(), block)
        same = _same(parts, pieces)
        if not same.any(2).all():
            raise Wrong(_no_blocks(found, images.double(), block))
        order = same.int().argmax(2)  # (N, blocks)
        require(
            (order.sort(1).values == torch.arange(order.shape[1])).all(),
            "Some blocks appear twice and others not at all. Put them into another order.",
        )
        require((order == order[0]).all(), "The images have different orders. Take one order for all of them.")
        order, wide = order[0], images.shape[3] // block
        require((order != torch.arange(len(order))).any(), "All blocks are where they were.")
        require(
            not _same(_blocks(found, 2 * block), _blocks(images.double(), 2 * block)).any(2).all(),
            f"The blocks are larger than {block} × {block} pixels.",
        )
        require((order // wide != torch.arange(len(order)) // wide).any(), "The blocks stay in their rows.")
        require((order % wide != torch.arange(len(order)) % wide).any(), "The blocks stay in their columns.")
        steps = order.diff()
        require(
            (steps == steps.mode().values).double().mean() < 0.5,
            "The blocks are only shifted, mirrored or in reverse. Draw a random order.",
        )


def _no_blocks(found: Tensor, images: Tensor, block: int) -> str:
    """Why some blocks of the result are none of the images'."""
    parts, pieces = _blocks(found, block), _blocks(images, block)
    if all(_same(parts[:, :, [channel]], pieces[:, :, [channel]]).any(2).all() for channel in range(3)):
        return "The channels have different orders. A block holds all three."
    for size in (16, 8, 4):
        if size != block and _same(_blocks(found, size), _blocks(images, size)).any(2).all():
            return f"The blocks have {size} × {size} pixels, not {block} × {block}."
    values, truth = (group.flatten(2).sort(2).values for group in (parts, pieces))
    if _same(values, truth).any(2).all():
        return "The pixels inside the blocks were moved, too. Move whole blocks."
    if _same(found.flatten(2).sort(2).values[:, None], images.flatten(2).sort(2).values[:, None]).all():
        return "All the pixels are there, but not in blocks. Which dimension does the order go to?"
    return "Some blocks of the result are no blocks of the images."
