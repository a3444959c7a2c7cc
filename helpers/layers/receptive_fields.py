"""What a unit sees of the image (chapter 3)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..inputs import Box
from .operations import operation, tensors
from .recording import evaluating, run_to


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that one unit of a layer sees (chapter 3).

    ``size``, ``stride`` and ``start`` are (vertical, horizontal) pairs in input pixels: the unit at (row, col) sees
    ``size`` pixels from ``start + stride * (row, col)`` on, clipped to ``seen``: the pixels that reach the layer below
    at all. That is the image, but where a stride leaves pixels over at its border.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    start: tuple[int, int]
    seen: Box

    def whole(self, row: int, col: int) -> Box:
        """All that the unit at ``row``, ``col`` looks at, which may reach over the edges of the image."""
        top, left = (self.start[i] + self.stride[i] * unit for i, unit in enumerate((row, col)))
        return Box(top, left, top + self.size[0], left + self.size[1])

    def box(self, row: int, col: int) -> Box:
        """What the unit at ``row``, ``col`` sees of the image; a unit that sees only padding is not looked for."""
        whole, seen = self.whole(row, col), self.seen
        return Box(*map(max, whole[:2], seen[:2]), *map(min, whole[2:], seen[2:]))

    def slide(
        self, units: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
    ) -> ReceptiveField:
        """The field after a window of ``kernel`` units moves over this layer's map of (rows, cols) ``units``."""
        first, last = self.box(0, 0), self.box(units[0] - 1, units[1] - 1)
        return ReceptiveField(
            tuple(self.size[i] + (kernel[i] - 1) * self.stride[i] for i in (0, 1)),
            tuple(self.stride[i] * stride[i] for i in (0, 1)),
            tuple(self.start[i] - padding[i] * self.stride[i] for i in (0, 1)),
            Box(first.top, first.left, last.bottom, last.right),
        )

    def union(self, other: ReceptiveField) -> ReceptiveField:
        """The field of a sum or concatenation of two maps (of equal stride)."""
        if self.stride != other.stride:
            raise ValueError(f"two maps of different strides meet: {self.stride} and {other.stride}.")
        start = tuple(min(self.start[i], other.start[i]) for i in (0, 1))
        end = (max(self.start[i] + self.size[i], other.start[i] + other.size[i]) for i in (0, 1))
        pairs = list(zip(self.seen, other.seen))
        seen = Box(*(min(pair) for pair in pairs[:2]), *(max(pair) for pair in pairs[2:]))
        return ReceptiveField(tuple(e - s for e, s in zip(end, start)), self.stride, start, seen)


class _ReceptiveFields(TorchFunctionMode):
    """Carries a ReceptiveField along with every tensor while a network runs."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.fields = {id(images): ReceptiveField((1, 1), (1, 1), (0, 0), Box(0, 0, *images.shape[-2:]))}
        self.alive = [images]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if not isinstance(output, Tensor) or output.ndim < 3:
            return output
        fields = [self.fields[id(item)] for item in tensors((args, kwargs)) if id(item) in self.fields]
        if fields:
            field = functools.reduce(ReceptiveField.union, fields)
            self.fields[id(output)] = self._step(field, func, args, kwargs, output)
            self.alive.append(output)
        return output

    @staticmethod
    def _step(field: ReceptiveField, func, args: tuple, kwargs: dict, output: Tensor) -> ReceptiveField:
        name = operation(func)

        def argument(index: int, key: str, default):
            return args[index] if len(args) > index else kwargs.get(key, default)

        def pair(value) -> tuple[int, int]:
            value = (value,) if isinstance(value, int) else tuple(value)
            return value * 2 if len(value) == 1 else value

        units = tuple(args[0].shape[-2:]) if args and isinstance(args[0], Tensor) else ()
        if name == "conv2d":
            weight, stride = argument(1, "weight", None), pair(argument(3, "stride", 1))
            dilation, padding = pair(argument(5, "dilation", 1)), argument(4, "padding", 0)
            kernel = tuple(dilation[i] * (weight.shape[2 + i] - 1) + 1 for i in (0, 1))
            if isinstance(padding, str):
                padding = tuple((k - 1) // 2 for k in kernel) if padding == "same" else 0
            return field.slide(units, kernel, stride, pair(padding))
        if name in ("max_pool2d", "avg_pool2d"):
            kernel, padding = pair(argument(1, "kernel_size", None)), pair(argument(3, "padding", 0))
            stride = pair(argument(2, "stride", None) or kernel)
            dilation = pair(argument(4, "dilation", 1)) if name == "max_pool2d" else (1, 1)
            return field.slide(units, tuple(dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)), stride, padding)
        if name == "pad" and argument(2, "mode", "constant") == "constant":
            left, _, top, _ = (*argument(1, "pad", ()), 0, 0, 0, 0)[:4]
            return field.slide(units, (1, 1), (1, 1), (top, left))
        maps = [item for item in args if isinstance(item, Tensor) and item.ndim > 2]
        same_size = all(tuple(item.shape[-2:]) in (tuple(output.shape[-2:]), (1, 1)) for item in maps)
        if name == "adaptive_avg_pool2d" and tuple(output.shape[-2:]) == (1, 1):
            seen = field.slide(units, (1, 1), (1, 1), (0, 0)).seen
            size = (seen.bottom - seen.top, seen.right - seen.left)
            return ReceptiveField(size, size, (seen.top, seen.left), seen)
        if name in _POINTWISE and same_size:
            return field
        raise ValueError(f"no receptive field rule for {name}.")


# What leaves every value at its place. Anything else has a rule above, or none.
_POINTWISE = set("relu relu6 hardtanh clamp clamp_min clip silu gelu mish elu celu selu sigmoid tanh".split())
_POINTWISE |= set("hardswish hardsigmoid softplus leaky_relu prelu threshold batch_norm dropout dropout2d".split())
_POINTWISE |= set("add sub mul div neg abs iadd imul cat concat clone contiguous detach to float double".split())
_POINTWISE |= set("getitem unsqueeze stochastic_depth".split())


def receptive_field(model: nn.Module, layer: str, size: int | tuple[int, int] = 224) -> ReceptiveField:
    """The receptive field of ``layer``, by the recurrence of chapter 3.

    ``size`` is the side of the images, or their (height, width), in pixels. Follows one forward pass through
    convolutions, poolings, paddings, sums and concatenations: size :math:`r \\leftarrow r + (k - 1) j`, stride
    :math:`j \\leftarrow j s`, start :math:`t \\leftarrow t - p j`
    for kernel :math:`k`, stride :math:`s`, padding :math:`p` (Dumoulin & Visin 2016; Araujo et al. 2019).

    Raises
    ------
    ValueError
        An operation on the way has no rule (resizing, attention, flattening), or ``layer`` returns no maps.
    """
    first = next(model.parameters(), torch.empty(0))
    height, width = (size, size) if isinstance(size, int) else size
    images = torch.zeros(1, 3, height, width, device=first.device, dtype=first.dtype)
    with evaluating(model), _ReceptiveFields(images) as mode:
        output = run_to(model, layer, images)
    if id(output) not in mode.fields or output.ndim != 4:
        raise ValueError(f"layer {layer!r} does not return maps (N, C, h, w) of the image.")
    return mode.fields[id(output)]
