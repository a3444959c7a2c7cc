"""Chapter 3: activation maps."""

import numpy as np
import torch

from helpers import activations, models
from helpers.checks import draw


def _walk(convs, *, start=1, padded=True, sign=-1):
    r, j, t = start, 1, 0
    for kernel, stride, padding in convs:
        r, j, t = r + (kernel - 1) * j, j * stride, t + sign * (padding if padded else 0) * j
    return r, j, t


def _chain(kernel, stride, padding):
    rest = [(3, 2, 1), (5, 1, 2), (3, 2, 1), (3, 1, 1), (3, 1, 1), (3, 1, 1)]
    network = models.LectureNet(2)
    pool = network.pool1
    assert (pool.kernel_size, pool.stride) == (3, 2)
    rest[0] = rest[2] = (3, 2, pool.padding)
    return [(kernel, stride, padding), *rest]


def changed_without_padding(kernel, stride):
    return _walk(_chain(kernel, stride, 0))


def changed_fixed_padding(kernel, stride):
    return _walk(_chain(kernel, stride, 3))


def changed_from_zero(kernel, stride):
    return _walk(_chain(kernel, stride, kernel // 2), start=0)


def changed_sign(kernel, stride):
    return _walk(_chain(kernel, stride, kernel // 2), sign=1)


def changed_first_layer(kernel, stride):
    return _walk(_chain(kernel, stride, kernel // 2)[:1])


def changed_by_hand(kernel, stride):
    """Right: the recurrence over a list, as a numpy array."""
    return np.array(_walk(_chain(kernel, stride, kernel // 2)))


def _maps(model, layer, batches):
    return torch.cat([activations.maps(model, images, layer) for images in batches]).cpu()


def _top(maps, k, largest=True):
    values, places = maps.transpose(0, 1).flatten(1).topk(k, largest=largest)
    return values.T, (places // (maps.shape[2] * maps.shape[3])).T


def top_images(model, layer, batches, k=9):
    values, numbers = _maps(model, layer, batches).flatten(2).amax(2).topk(k, dim=0)
    return values, numbers


def top_weakest(model, layer, batches, k=9):
    return _top(_maps(model, layer, batches), k, largest=False)


def top_first_batch(model, layer, batches, k=9):
    return _top(_maps(model, layer, batches[:1]), k)


def top_turned(model, layer, batches, k=9):
    return tuple(part.T for part in _top(_maps(model, layer, batches), k))


def top_places_not_images(model, layer, batches, k=9):
    maps = _maps(model, layer, batches)
    values, places = maps.transpose(0, 1).flatten(1).topk(k)
    return values.T, places.T


def top_by_columns(model, layer, batches, k=9):
    maps = _maps(model, layer, batches)
    values, places = maps.transpose(0, 1).flatten(1).topk(k)
    return values.T, (places % maps.shape[3]).T


def top_values_alone(model, layer, batches, k=9):
    return _top(_maps(model, layer, batches), k)[0]


def top_by_sorting(model, layer, batches, k=9):
    """Right: numpy, one channel after the other."""
    maps = _maps(model, layer, batches).numpy()
    values, numbers = [], []
    for channel in range(maps.shape[1]):
        flat = maps[:, channel].reshape(-1)
        order = np.argsort(-flat, kind="stable")[:k]
        values.append(flat[order])
        numbers.append(order // maps[0, 0].size)
    return np.array(values).T, np.array(numbers).T


def _shares(favourites):
    return favourites.bincount(minlength=43) / len(favourites)


def agreement_counts(first, second):
    return (first == second).sum(), (_shares(first) * _shares(second)).sum()


def agreement_uniform(first, second):
    return (first == second).float().mean(), 1 / 43


def agreement_first_twice(first, second):
    return (first == second).float().mean(), (_shares(first) ** 2).sum()


def agreement_mean(first, second):
    return (first == second).float().mean(), (_shares(first) * _shares(second)).mean()


def agreement_differ(first, second):
    return (first != second).float().mean(), (_shares(first) * _shares(second)).sum()


def agreement_one_number(first, second):
    return (first == second).float().mean()


def agreement_in_numpy(first, second):
    """Right: counting pairs."""
    first, second = first.numpy(), second.numpy()
    return np.mean(first == second), np.mean(first[:, None] == second)


WRONG = {
    "3.1": [
        (changed_without_padding, "padding"),
        (changed_fixed_padding, "kernel // 2"),
        (changed_from_zero, "begins with 1 pixel"),
        (changed_sign, "wrong sign"),
        (changed_first_layer, "conv1"),
    ],
    "3.2": [
        (top_images, "only one place"),
        (top_weakest, "weakest"),
        (top_first_batch, "first batch"),
        (top_turned, "(k, C)"),
        (top_places_not_images, "divide by the places"),
        (top_by_columns, "ints from 0"),
        (top_values_alone, "two things"),
    ],
    "3.3": [
        (agreement_counts, "how many agree"),
        (agreement_uniform, "all classes alike"),
        (agreement_first_twice, "first set"),
        (agreement_mean, "This is their mean"),
        (agreement_differ, "does not agree"),
        (agreement_one_number, "two numbers"),
    ],
}
RIGHT = {"3.1": [changed_by_hand], "3.2": [top_by_sorting], "3.3": [agreement_in_numpy]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    random = torch.Generator().manual_seed(seed + 40)
    if label == "3.1":
        return (5, 7, 9)[seed], seed + 2
    if label == "3.2":
        images = torch.stack([draw.image(100 + 10 * seed + number) for number in range(6)])
        return draw.network(seed + 40), "relu2", images.split(2), 5
    return torch.randint(0, 43, (50,), generator=random), torch.randint(0, 9, (50,), generator=random)
