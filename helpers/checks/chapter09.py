"""Checks of the exercises of chapter 9, maps of features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import exercise
from .answers import Answer, Wrong, compare, require, tensor

COUNT = 120  # features in 9.1


def directions(rows: Tensor, k: int, *, centred: bool = True) -> Tensor:
    """The first k principal directions (D, k), as eigenvectors of the covariance."""
    rows = rows.double()
    rows = rows - rows.mean(0) if centred else rows
    return torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -k:]


def _points(features: Tensor, k: int, *, centred: bool = True) -> Tensor:
    """The first k principal components (N, k)."""
    rows = features.double()
    return (rows - rows.mean(0) if centred else rows) @ directions(rows, k, centred=centred)


def _purity(points: Tensor, labels: Tensor, allowed: Tensor, *, neighbours: int = 5, by: str = "cosine") -> float:
    """The share of right labels among the nearest allowed neighbours, the mean over the points."""
    points = points.double() if by == "distance" else F.normalize(points.double(), dim=1)
    far = torch.cdist(points, points).masked_fill(~allowed, torch.inf)  # at length 1 the order is that of the cosines
    return (labels[far.argsort(1)[:, :neighbours]] == labels[:, None]).double().mean().item()


@exercise("9.1", "purity_of_components(features, labels, allowed, k): the mean purity, a float")
def purity_of_components(answer: Answer) -> None:
    half = torch.arange(COUNT) >= COUNT // 2
    masks = {"other half": half[:, None] != half, "anybody": ~torch.eye(COUNT, dtype=torch.bool)}
    labels = torch.arange(COUNT) % 5
    # with seeds 1814 and 2077 every mistake below has a purity of its own
    for seed, k, mask in ((1814, 3, "other half"), (2077, 2, "other half"), (1, 4, "anybody")):
        random = torch.Generator().manual_seed(seed)
        centres = torch.randn(5, 9, generator=random) * torch.linspace(2.0, 0.4, 9)
        noise = torch.randn(COUNT, 9, generator=random) @ torch.randn(9, 9, generator=random) * 0.35
        features, may = centres[labels] + noise + torch.randn(9, generator=random), masks[mask]
        points = _points(features, k)
        compare(
            answer(features, labels, may, k),
            _purity(points, labels, may),
            hints={
                "This is the purity of all features. Project them first.": _purity(features, labels, may),
                "Nobody is left out. Only the allowed points may be neighbours.": _purity(
                    points, labels, torch.ones_like(may)
                ),
                "The mask is the wrong way round: True is who may be a neighbour.": _purity(points, labels, ~may),
                "Every other point may be a neighbour here. Only the allowed ones should.": _purity(
                    points, labels, masks["anybody"]
                ),
                "These are the nearest by distance. Take the cosine.": _purity(points, labels, may, by="distance"),
                "These are 10 neighbours. Take 5.": _purity(points, labels, may, neighbours=10),
                "These are 6 neighbours. Take 5.": _purity(points, labels, may, neighbours=6),
                "These are 4 neighbours. Take 5.": _purity(points, labels, may, neighbours=4),
                "This is the nearest neighbour alone. Take 5.": _purity(points, labels, may, neighbours=1),
                "The features were not centred.": _purity(_points(features, k, centred=False), labels, may),
                "There is one component too many.": _purity(_points(features, k + 1), labels, may),
                "There is one component too few.": _purity(_points(features, k - 1), labels, may),
                "These are the first columns. The principal components are other directions.": _purity(
                    features[:, :k], labels, may
                ),
            },
            what="the purity",
            tolerance=0.006,  # where two neighbours are equally near, either may come first
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
