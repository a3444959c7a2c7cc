"""Chapter 4: from a feature map back to the pixels."""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from . import layers
from .inputs import as_batch, as_indices
from .layers import operation, tensors

Step = Callable[[Tensor], Tensor]
_AT_ONCE = 4  # images of a batch: the maps of VGG-16's first layers take 50 MB for four, and their copies as much again


def reconstruct(
    model: nn.Module,
    image: Tensor,
    layer: str,
    channel: int | Tensor,
    position: tuple[int, int] | None = None,
    *,
    rule: str = "deconvnet",
) -> Tensor:
    """Project one activation of a layer back to the pixels (Zeiler & Fergus 2014, section 2.1).

    All other activations of the layer are set to zero. Then the layers are walked backwards: a max pool sends each
    value to where its maximum came from (its *switch*), a ReLU rectifies, a convolution applies its transposed filters.

    Parameters
    ----------
    model
        A network whose layers up to ``layer`` form a chain of convolutions, ReLUs, max pools and batch norms, such as
        lecturenet, AlexNet or VGG.
    image
        (3, H, W) or (N, 3, H, W) in [0, 1]. It sets the switches.
    layer, channel
        Which feature map; a tensor of N channels has one for each image.
    position
        (row, col) on the map; default: where it is strongest.
    rule
        What a ReLU does on the way back, as in `layers.relu_rule`: ``"deconvnet"``, ``"gradient"`` or ``"guided"``.

    Returns
    -------
    Tensor
        (3, H, W), or (N, 3, H, W) for a batch; signed. With ``"gradient"`` it is the activation times its gradient.

    Raises
    ------
    ValueError
        The layers are no such chain: use `layers.relu_rule` with autograd.

    Notes
    -----
    Only the switches are kept from the forward pass, as 32-bit integers, and for the other two rules one bit's worth
    of mask at every ReLU. Overlapping pools that chose the same pixel add up there.
    """
    if rule not in layers.RULES:
        raise ValueError(f"rule must be one of {', '.join(layers.RULES)}; got {rule!r}.")
    batch, single = as_batch(model, image)
    index = as_indices("channel", channel, len(batch)).to(batch.device)
    with layers.evaluating(model):
        parts = zip(batch.split(_AT_ONCE), index.split(_AT_ONCE))
        pixels = torch.cat([_back(model, part, layer, chosen, position, rule) for part, chosen in parts])
    return pixels[0] if single else pixels


def _back(
    model: nn.Module, images: Tensor, layer: str, index: Tensor, position: tuple[int, int] | None, rule: str
) -> Tensor:
    with _Walk(images, rule) as walk:
        activation = layers.run_to(model, layer, images)
    if not walk.reached(activation):
        raise ValueError(f"layer {layer!r} does not return what the chain of layers before it has made.")
    signal = _only(activation, index, position)
    del activation, walk.end
    while walk.steps:
        signal = walk.steps.pop()(signal)
    return signal


def _only(maps: Tensor, index: Tensor, position: tuple[int, int] | None) -> Tensor:
    """``maps`` (N, C, h, w) with all but one value an image set to zero, that of its channel in ``index`` (N,)."""
    if maps.ndim != 4:
        raise ValueError(f"the layer must return maps (N, C, h, w), got {tuple(maps.shape)}.")
    count, channels, height, width = maps.shape
    if index.min() < 0 or index.max() >= channels:
        raise ValueError(f"channel must be in 0…{channels - 1}, got {index.tolist()}.")
    images = torch.arange(count, device=maps.device)
    chosen = maps[images, index].flatten(1)  # (N, h·w)
    if position is None:
        place = chosen.argmax(1)
    else:
        try:
            row, col = (operator.index(unit) for unit in position)
        except (TypeError, ValueError):
            raise TypeError(f"position must be (row, col), two ints, got {position!r}.") from None
        if not (0 <= row < height and 0 <= col < width):
            raise ValueError(f"position must lie on the map of {height}×{width} units, got {(row, col)}.")
        place = torch.full_like(images, row * width + col)
    only = torch.zeros_like(maps).flatten(2)
    only[images, index, place] = chosen[images, place]
    return only.view_as(maps)


class _Walk(TorchFunctionMode):
    """Notes, while a network runs, how to walk each of its operations backwards."""

    def __init__(self, images: Tensor, rule: str) -> None:
        super().__init__()
        self.rule, self.steps = rule, []
        self.end = [images]  # of the chain so far: a tensor and what only looks like another
        self.past = weakref.WeakValueDictionary()  # the chain's earlier tensors, while the network keeps them

    def reached(self, value: object) -> bool:
        """Whether ``value`` is the end of the chain."""
        return any(value is tensor for tensor in self.end)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        made, others = args[0] if args else None, tensors((args[1:], kwargs))
        if not self.reached(made) or any(self.reached(other) or id(other) in self.past for other in others):
            output = func(*args, **kwargs)
            used = [tensor for tensor in tensors((made, others)) if self.reached(tensor) or id(tensor) in self.past]
            if used and tensors(output):
                raise ValueError(f"{operation(func)!r} joins two ways of the image, or starts a second one. {_HELP}")
            return output
        output, step = self._run(func, args, kwargs)
        if step is not None:
            self.steps.append(step)
            self.past.update((id(tensor), tensor) for tensor in self.end)
            self.past.pop(id(output), None)  # in place
            self.end = [output]
        elif isinstance(output, Tensor):
            self.end.append(output)
        return output

    def _run(self, func, args: tuple, kwargs: dict) -> tuple[object, Step | None]:
        """The operation's result, and its step back."""
        name = operation(func)
        if name == "conv2d":
            return func(*args, **kwargs), _transposed(*args, **kwargs)
        if name == "max_pool2d":
            return _pool(*args, **kwargs)
        limits = layers.rectifier_limits(name, args, kwargs)
        if limits:
            mask = None if self.rule == "deconvnet" else (args[0] > limits[0]) & (args[0] < limits[1])
            return func(*args, **kwargs), lambda signal: _rectify(signal, mask, self.rule)
        if func is F.batch_norm:
            scale = _scale(*args, **kwargs)
            return func(*args, **kwargs), lambda signal: signal * scale[:, None, None]
        output = func(*args, **kwargs)
        if name in ("to", "contiguous", "detach", "clone") and output.dtype == args[0].dtype:
            return output, None
        if name in ("dropout", "dropout2d") and not (args[2] if len(args) > 2 else kwargs.get("training", True)):
            return output, None
        if name in ("sub", "add", "div", "truediv") and not kwargs and output.shape == args[0].shape:
            divisor = args[1] if "div" in name else 1  # a number, or such as the mean of the pixels
            return output, lambda signal: signal / divisor
        if name not in ("setitem", "set") and (name == "aminmax" or not tensors(output)):  # a shape, a type …
            return output, None
        raise ValueError(f"no way back through {name!r}. {_HELP}")


_HELP = (
    "The layers must form a chain of convolutions, ReLUs, max pools and batch norms. For other networks take autograd "
    "inside layers.relu_rule(model, rule)."
)


def _transposed(
    images: Tensor, weight: Tensor, bias: Tensor | None = None, stride=1, padding=0, dilation=1, groups: int = 1
) -> Step:
    size = images.shape
    if isinstance(padding, str):
        dilations = (dilation, dilation) if isinstance(dilation, int) else dilation
        added = [d * (side - 1) if padding == "same" else 0 for d, side in zip(dilations, weight.shape[2:])]
        if any(total % 2 for total in added):
            raise ValueError(f"no way back through a convolution that pads one side more than the other. {_HELP}")
        padding = [total // 2 for total in added]
    return lambda signal: conv2d_input(size, weight, signal, stride, padding, dilation, groups)


def _scale(images, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5) -> Tensor:
    if training:
        raise ValueError(f"no way back through a batch norm that takes its statistics from the batch. {_HELP}")
    return (variance + eps).rsqrt() * (1 if weight is None else weight)


def _pool(images: Tensor, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, **_) -> tuple:
    pooled, switches = F.max_pool2d_with_indices(images, kernel_size, stride, padding, dilation, ceil_mode)
    switches, size = switches.to(torch.int32), images.shape
    assert math.prod(size[2:]) < 2**31

    def unpool(signal: Tensor) -> Tensor:
        pixels = signal.new_zeros(*size[:2], size[2] * size[3])
        return pixels.scatter_add_(2, switches.flatten(2).long(), signal.flatten(2)).view(size)

    return pooled, unpool


def _rectify(signal: Tensor, mask: Tensor | None, rule: str) -> Tensor:
    signal = signal if mask is None else signal * mask
    return signal if rule == "gradient" else signal.clamp(min=0)
