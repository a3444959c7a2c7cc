"""Chapter 9: maps of features."""

import numpy as np
import torch
from torch.nn.functional import fold, normalize, unfold

from helpers import embedding


def _precision(queries, query_labels, gallery, gallery_labels, neighbours=5):
    nearest = (normalize(queries, dim=1) @ normalize(gallery, dim=1).T).topk(neighbours).indices
    return (gallery_labels[nearest] == query_labels[:, None]).float().mean().item()


def _projected(queries, gallery, k):
    found = embedding.pca(gallery, k)
    return (queries - found.mean) @ found.directions.T, found.points


def precision_of_all_features(queries, query_labels, gallery, gallery_labels, k):
    return _precision(queries, query_labels, gallery, gallery_labels)


def precision_of_centred_features(queries, query_labels, gallery, gallery_labels, k):
    return _precision(queries - gallery.mean(0), query_labels, gallery - gallery.mean(0), gallery_labels)


def precision_of_two_analyses(queries, query_labels, gallery, gallery_labels, k):
    points = (embedding.pca(rows, k).points for rows in (queries, gallery))
    return _precision(next(points), query_labels, next(points), gallery_labels)


def precision_on_two_means(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries - queries.mean(0) + gallery.mean(0), gallery, k)
    return _precision(x, query_labels, g, gallery_labels)


def precision_queries_not_centred(queries, query_labels, gallery, gallery_labels, k):
    found = embedding.pca(gallery, k)
    return _precision(queries @ found.directions.T, query_labels, found.points, gallery_labels)


def precision_of_both_together(queries, query_labels, gallery, gallery_labels, k):
    points = embedding.pca(torch.cat([queries, gallery]), k).points
    return _precision(points[: len(queries)], query_labels, points[len(queries) :], gallery_labels)


def precision_not_centred(queries, query_labels, gallery, gallery_labels, k):
    directions = torch.linalg.svd(gallery, full_matrices=False).Vh[:k]
    return _precision(queries @ directions.T, query_labels, gallery @ directions.T, gallery_labels)


def precision_swapped(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries, gallery, k)
    return _precision(g, gallery_labels, x, query_labels)


def precision_by_distance(queries, query_labels, gallery, gallery_labels, k):
    nearest = torch.cdist(*_projected(queries, gallery, k)).topk(5, largest=False).indices
    return (gallery_labels[nearest] == query_labels[:, None]).float().mean()


def precision_of_ten(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries, gallery, k)
    return _precision(x, query_labels, g, gallery_labels, 10)


def precision_of_one(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries, gallery, k)
    return _precision(x, query_labels, g, gallery_labels, 1)


def precision_of_more(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries, gallery, k + 1)
    return _precision(x, query_labels, g, gallery_labels)


def precision_of_columns(queries, query_labels, gallery, gallery_labels, k):
    mean = gallery.mean(0)
    return _precision((queries - mean)[:, :k], query_labels, (gallery - mean)[:, :k], gallery_labels)


def precision_of_each_query(queries, query_labels, gallery, gallery_labels, k):
    x, g = _projected(queries, gallery, k)
    nearest = (normalize(x, dim=1) @ normalize(g, dim=1).T).topk(5).indices
    return (gallery_labels[nearest] == query_labels[:, None]).float().mean(1)


def precision_in_numpy(queries, query_labels, gallery, gallery_labels, k):
    """Right: scikit-learn's components, a loop over the queries."""
    from sklearn.decomposition import PCA

    fitted = PCA(k, svd_solver="full").fit(gallery.double().numpy())
    x, g = (fitted.transform(rows.double().numpy()) for rows in (queries, gallery))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    shares = []
    for point, label in zip(x, query_labels.tolist()):
        shares.append(np.mean(gallery_labels.numpy()[np.argsort(-g @ point)[:5]] == label))
    return np.mean(shares)


def _gradient(p, positions, *, factor=4.0, kernels=1, rows=False, diagonal=0.0, divided=True):
    steps = positions[:, None] - positions
    kernel = (1 / (1 + steps.square().sum(2))).fill_diagonal_(diagonal)
    q = kernel / (kernel.sum(1, keepdim=True) if rows else kernel.sum()) if divided else kernel
    return factor * (((p - q) * kernel**kernels)[:, :, None] * steps).sum(1)


def gradient_half(p, positions):
    return _gradient(p, positions, factor=2)


def gradient_without_factor(p, positions):
    return _gradient(p, positions, factor=1)


def gradient_without_kernel(p, positions):
    return _gradient(p, positions, kernels=0)


def gradient_by_rows(p, positions):
    return _gradient(p, positions, rows=True)


def gradient_with_diagonal(p, positions):
    return _gradient(p, positions, diagonal=1.0)


def gradient_not_divided(p, positions):
    return _gradient(p, positions, divided=False)


def gradient_uphill(p, positions):
    return _gradient(p, positions, factor=-4)


def gradient_attraction(p, positions):
    steps = positions[:, None] - positions
    return 4 * ((p / (1 + steps.square().sum(2)))[:, :, None] * steps).sum(1)


def gradient_by_autograd(p, positions):
    """Right: automatic differentiation of the three terms."""
    leaf = positions.clone().requires_grad_()
    kernel = 1 / (1 + (leaf[:, None] - leaf).square().sum(2))
    divergence = -(p * kernel.log()).sum() + (kernel.sum() - len(p)).log()
    return torch.autograd.grad(divergence, leaf)[0]


def gradient_by_loop(p, positions):
    """Right: one pair at a time, numpy."""
    p, z = p.numpy(), positions.numpy()
    kernel = np.array(
        [[0 if i == j else 1 / (1 + ((z[i] - z[j]) ** 2).sum()) for j in range(len(z))] for i in range(len(z))]
    )
    q, found = kernel / kernel.sum(), np.zeros_like(z)
    for i in range(len(z)):
        for j in range(len(z)):
            found[i] += 4 * (p[i, j] - q[i, j]) * kernel[i, j] * (z[i] - z[j])
    return found


def _shuffled(images, block, order):
    columns = unfold(images, block, stride=block)
    return fold(columns[:, :, order(columns.shape[2])], images.shape[-2:], block, stride=block)


def shuffled_nothing(images, block=16):
    return images.clone()


def shuffled_one_by_one(images, block=16):
    return torch.cat([_shuffled(image[None], block, torch.randperm) for image in images])


def shuffled_in_sixteens(images, block=16):
    return _shuffled(images, 16, torch.randperm)


def shuffled_in_eights(images, block=16):
    return _shuffled(images, 8, torch.randperm)


def shuffled_with_repeats(images, block=16):
    return _shuffled(images, block, lambda count: torch.randint(count, (count,)))


def shuffled_in_reverse(images, block=16):
    return _shuffled(images, block, lambda count: torch.arange(count).flip(0))


def shuffled_by_a_roll(images, block=16):
    return images.roll((block, 2 * block), (2, 3))


def shuffled_pixels(images, block=16):
    order = torch.randperm(images.shape[2] * images.shape[3])
    return images.flatten(2)[:, :, order].view_as(images)


def shuffled_inside(images, block=16):
    columns = unfold(images, block, stride=block)
    order = torch.randperm(columns.shape[1])
    return fold(columns[:, order], images.shape[-2:], block, stride=block)


def shuffled_channels(images, block=16):
    return torch.cat([_shuffled(images[:, [channel]], block, torch.randperm) for channel in range(3)], 1)


def shuffled_rows(images, block=16):
    order = torch.randperm(images.shape[2] // block)
    return images.unflatten(2, (-1, block))[:, :, order].flatten(2, 3)


def shuffled_in_place(images, block=16):
    images.copy_(_shuffled(images, block, torch.randperm))
    return images


def shuffled_in_numpy(images, block=16):
    """Right: reshape and transpose, another generator."""
    count, channels, height, width = images.shape
    rows, cols = height // block, width // block
    cut = images.numpy().reshape(count, channels, rows, block, cols, block).transpose(0, 2, 4, 1, 3, 5)
    cut = cut.reshape(count, rows * cols, channels, block, block)
    cut = cut[:, np.random.default_rng(3).permutation(rows * cols)]
    cut = cut.reshape(count, rows, cols, channels, block, block).transpose(0, 3, 1, 4, 2, 5)
    return cut.reshape(images.shape)


def shuffled_by_loop(images, block=16):
    """Right: one block at a time, from a list of corners."""
    tops, lefts = range(0, images.shape[2], block), range(0, images.shape[3], block)
    corners = [(top, left) for top in tops for left in lefts]
    result = torch.empty_like(images)
    for (top, left), index in zip(corners, torch.randperm(len(corners)).tolist()):
        row, col = corners[index]
        result[:, :, row : row + block, col : col + block] = images[:, :, top : top + block, left : left + block]
    return result


WRONG = {
    "9.1": [
        (precision_of_all_features, "Project them first"),
        (precision_of_centred_features, "centred. Project"),
        (precision_of_two_analyses, "directions of their own"),
        (precision_on_two_means, "their own mean"),
        (precision_queries_not_centred, "queries were not centred"),
        (precision_of_both_together, "together"),
        (precision_not_centred, "features were not centred"),
        (precision_swapped, "swapped"),
        (precision_by_distance, "Take the cosine"),
        (precision_of_ten, "10 neighbours"),
        (precision_of_one, "neighbour alone"),
        (precision_of_more, "too many"),
        (precision_of_columns, "first columns"),
        (precision_of_each_query, "one number"),
    ],
    "9.2": [
        (gradient_half, "twice"),
        (gradient_without_factor, "4 times"),
        (gradient_without_kernel, "is missing"),
        (gradient_by_rows, "row by row"),
        (gradient_with_diagonal, "diagonal"),
        (gradient_not_divided, "divide it by its sum"),
        (gradient_uphill, "opposite sign"),
        (gradient_attraction, "Only the attraction"),
    ],
    "9.3": [
        (shuffled_nothing, "where they were"),
        (shuffled_one_by_one, "different orders"),
        (shuffled_in_sixteens, "larger than 8"),
        (shuffled_in_eights, "8 × 8 pixels, not 16"),
        (shuffled_with_repeats, "twice"),
        (shuffled_in_reverse, "in reverse"),
        (shuffled_by_a_roll, "only shifted"),
        (shuffled_pixels, "not in blocks"),
        (shuffled_inside, "inside the blocks"),
        (shuffled_channels, "A block holds all three"),
        (shuffled_rows, "stay in their columns"),
        (shuffled_in_place, "clone"),
    ],
}
RIGHT = {
    "9.1": [precision_in_numpy],
    "9.2": [gradient_by_autograd, gradient_by_loop],
    "9.3": [shuffled_in_numpy, shuffled_by_loop],
}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    random = torch.Generator().manual_seed(seed)
    if label == "9.1":
        queries, gallery = torch.randn(30, 7, generator=random) + 1, torch.randn(40, 7, generator=random) + 1
        return queries, torch.arange(30) % 3, gallery, torch.arange(40) % 3, seed + 2
    if label == "9.2":
        p = torch.rand(9, 9, generator=random, dtype=torch.float64).fill_diagonal_(0)
        return (p + p.T) / (p + p.T).sum(), torch.randn(9, 2, generator=random, dtype=torch.float64)
    images = torch.rand(2, 3, 48, 32, generator=random)
    return (images, 8) if seed else (images,)
