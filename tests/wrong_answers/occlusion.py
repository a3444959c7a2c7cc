"""Chapter 5: occlusion."""

import numpy as np
import torch

from helpers import runtime
from helpers.checks import draw


def _probabilities(model, pictures, target):
    with torch.no_grad():
        return model(pictures.to(runtime.device())).softmax(1)[:, target].cpu()


def _drop(model, image, target, box, *, fill=0.5, extra=0, logits=False, order=(0, 1, 2, 3), sign=1):
    top, left, bottom, right = (box[index] for index in order)
    covered = image.clone()
    covered[:, top : bottom + extra, left : right + extra] = fill
    pictures = torch.stack([image, covered]).to(runtime.device())
    with torch.no_grad():
        scores = model(pictures) if logits else model(pictures).softmax(1)
    return sign * (scores[0, target] - scores[1, target]).item()


def drop_of_logit(model, image, target, box):
    return _drop(model, image, target, box, logits=True)


def drop_black(model, image, target, box):
    return _drop(model, image, target, box, fill=0)


def drop_reversed(model, image, target, box):
    return _drop(model, image, target, box, sign=-1)


def drop_one_more(model, image, target, box):
    return _drop(model, image, target, box, extra=1)


def drop_exchanged(model, image, target, box):
    return _drop(model, image, target, box, order=(1, 0, 3, 2))


def drop_in_place(model, image, target, box):
    before = _probabilities(model, image[None], target)
    image[:, box[0] : box[2], box[1] : box[3]] = 0.5
    return before - _probabilities(model, image[None], target)


def drop_in_numpy(model, image, target, box):
    """Right: two runs, a mask in place of slices, numpy at the end."""
    inside = np.zeros(image.shape, dtype=bool)
    inside[:, box[0] : box[2], box[1] : box[3]] = True
    covered = np.where(inside, 0.5, image.numpy()).astype(np.float32)
    scores = [_probabilities(model, picture[None], target).numpy() for picture in (image, torch.from_numpy(covered))]
    return (scores[0] - scores[1])[0]


def _rise(model, image, target, masks, *, fill=0.5):
    pictures = image * masks[:, None] + fill * (1 - masks[:, None])
    return torch.stack([_probabilities(model, picture[None], target)[0] for picture in pictures])


def rise_not_divided(model, image, target, masks):
    return (_rise(model, image, target, masks)[:, None, None] * masks).sum(0)


def rise_by_number(model, image, target, masks):
    return (_rise(model, image, target, masks)[:, None, None] * masks).mean(0)


def rise_black(model, image, target, masks):
    return (_rise(model, image, target, masks, fill=0)[:, None, None] * masks).sum(0) / masks.sum(0)


def rise_of_hidden(model, image, target, masks):
    return rise_by_loop(model, image, target, 1 - masks)


def rise_with_channel(model, image, target, masks):
    return rise_by_loop(model, image, target, masks)[None]


def rise_by_loop(model, image, target, masks):
    """Right: one picture at a time, an average with weights in float64."""
    scores = _rise(model, image, target, masks).double()
    return np.average(np.broadcast_to(scores[:, None, None], masks.shape), axis=0, weights=masks.double().numpy())


def _decision(model, image):
    with torch.no_grad():
        return model(image[None].to(runtime.device())).argmax(1).item()


def _windows(model, image, order, window, *, keep=True, start=1, size=0):
    covered = image.clone()
    for count, (top, left) in enumerate(order, start=start):
        covered = covered if keep else image.clone()
        covered[:, top : top + window + size, left : left + window + size] = 0.5
        if _decision(model, covered) != _decision(model, image):
            return count
    return len(order)


def windows_one_at_a_time(model, image, order, window=32):
    return _windows(model, image, order, window, keep=False)


def windows_from_zero(model, image, order, window=32):
    return _windows(model, image, order, window, start=0)


def windows_one_more(model, image, order, window=32):
    return _windows(model, image, order, window, start=2)


def windows_fixed_size(model, image, order, window=32):
    return _windows(model, image, order, 32)


def windows_by_mask(model, image, order, window=32):
    """Right: a fresh picture for every count."""
    for count in range(1, len(order) + 1):
        visible = torch.ones(image.shape[-2:])
        for top, left in order[:count]:
            visible[top : top + window, left : left + window] = 0
        if _decision(model, image * visible + 0.5 * (1 - visible)) != _decision(model, image):
            return torch.tensor(count)
    return len(order)


WRONG = {
    "5.1": [
        (drop_of_logit, "softmax"),
        (drop_black, "black"),
        (drop_reversed, "opposite sign"),
        (drop_one_more, "first ones outside"),
        (drop_exchanged, "mixed up"),
        (drop_in_place, "clone"),
    ],
    "5.2": [
        (rise_not_divided, "Divide each pixel"),
        (rise_by_number, "not by their number"),
        (rise_black, "black"),
        (rise_of_hidden, "wrong way round"),
        (rise_with_channel, "size 1"),
    ],
    "5.3": [
        (windows_one_at_a_time, "must stay covered"),
        (windows_from_zero, "too few"),
        (windows_one_more, "too many"),
        (windows_fixed_size, "not right"),
    ],
}
RIGHT = {"5.1": [drop_in_numpy], "5.2": [rise_by_loop], "5.3": [windows_by_mask]}


def samples(label, seed):
    """Arguments on which two answers can be told apart."""
    model, image = draw.network(seed + 40), draw.image(seed + 40)
    random = torch.Generator().manual_seed(seed)
    if label == "5.1":
        return model, image, seed % 5, (3 + seed, 5, 20, 17 + seed)
    if label == "5.2":
        return model, image, seed % 5, torch.rand(11, 32, 32, generator=random)
    return model, image, [(8 * (i // 4), 8 * (i % 4)) for i in torch.randperm(16, generator=random).tolist()], 8
