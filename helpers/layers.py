"""Look inside a network: record activations, stop at a layer, receptive fields, backward rules for ReLU.

A layer is named by its dotted path, as in ``nn.Module.get_submodule``; for a ``models.Classifier`` the leading
``network.`` may be left out. Every function leaves the network as it was, also after an error.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from .inputs import Box, Target, as_batch, as_logits, as_targets


def find(model: nn.Module, layer: str) -> nn.Module:
    """The module of ``model`` at the dotted path ``layer``.

    Raises
    ------
    LookupError
        There is no such module; the message lists near matches.
    """
    if not isinstance(layer, str):
        raise TypeError(f"layer must be a dotted path such as 'features.4', got {type(layer).__name__}.")
    modules = dict(model.named_modules())
    found = modules.get(layer, modules.get(f"network.{layer}"))
    if not layer or found is None:
        names = [name.removeprefix("network.") for name in modules if name]
        near = difflib.get_close_matches(layer, names, n=5, cutoff=0.3) or names[:5]
        raise LookupError(f"no layer {layer!r} in {type(model).__name__}; near matches: {', '.join(near)}.")
    return found


@contextmanager
def evaluating(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Evaluation mode with or without ``gradients`` inside the block; each module's own flag comes back after it."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.inference_mode(False), torch.set_grad_enabled(gradients):
            yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def record(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of ``layers`` in every forward pass inside the block.

    Yields
    ------
    dict
        From layer to its activation in the last forward pass (of a module that runs several times, its last output).
        The activation is part of the autograd graph, and an in-place operation after the layer does not change it.

    Examples
    --------
    >>> with record(model, ["features.4"]) as activations:
    ...     model(images)
    >>> activations["features.4"].shape  # (N, C, h, w)
    """
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of paths, got one string: [{layers!r}].")
    activations: dict[str, Tensor] = {}

    def keep(layer: str):
        def hook(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
            activations[layer] = _as_tensor(layer, output)
            return output.clone()  # what follows works on the copy: an in-place ReLU must not change the record

        return hook

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(find(model, layer).register_forward_hook(keep(layer)))
        yield activations


def _as_tensor(layer: str, output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {layer!r} returns a {type(output).__name__}, not a tensor: name one inside it.")
    return output


class _Reached(Exception):
    """Ends a forward pass at a layer."""


def run_to(model: nn.Module, layer: str, images: Tensor) -> Tensor:
    """The activation at ``layer`` (its first output, if it runs several times); nothing after it is computed.

    ``images`` has shape (N, 3, H, W); gradients flow if they are enabled. Training flags are left as they are.
    """
    images, _ = as_batch(model, images)
    reached: list[Tensor] = []

    def stop(module: nn.Module, arguments: tuple, output: Tensor) -> None:
        reached.append(_as_tensor(layer, output))
        raise _Reached

    with find(model, layer).register_forward_hook(stop):
        try:
            model(images)
        except _Reached:
            return reached[0]
    raise LookupError(f"layer {layer!r} did not run in this network's forward pass.")


def pixel_gradient(model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
    """The gradient of the target's logit with respect to the pixels of ``images``, (N, 3, H, W); nothing but it.

    ``target`` is a class index, one for each image, or None for the predicted class. The images are not checked: with
    noise on them they may leave [0, 1].
    """
    with evaluating(model, gradients=True):
        pixels = images.detach().clone().requires_grad_()
        logits = as_logits(model(pixels))
        chosen = logits.gather(1, as_targets(target, logits)[:, None]).sum()
        return torch.autograd.grad(chosen, pixels)[0]


_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def trace_maps(model: nn.Module, images: Tensor) -> dict[str, tuple[int, int, int]]:
    """The layers whose output is a stack of maps (N, C, h, w) with h·w > 1, in the order in which they finish.

    Returns
    -------
    dict
        From layer to (C, h, w). Pooling layers, and blocks that end in one, are left out: their maps are copies.
    """
    images, _ = as_batch(model, images)
    shapes: dict[str, tuple[int, int, int]] = {}
    pooled: set[int] = set()
    alive: list[Tensor] = []  # keeps every id() in `pooled` in use until the end

    def hook(name: str):
        def note(module: nn.Module, arguments: tuple, output: object) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            if isinstance(module, _POOLS):
                pooled.add(id(output))
                alive.append(output)
            if id(output) in pooled or output.shape[2] * output.shape[3] == 1:
                return
            shapes.pop(name, None)
            shapes[name] = tuple(output.shape[1:])

        return note

    with evaluating(model), ExitStack() as hooks:
        for name, module in model.named_modules():
            if name and module is not getattr(model, "network", None):
                hooks.enter_context(module.register_forward_hook(hook(name.removeprefix("network."))))
        model(images)
    return shapes


def fold_batch_norm(model: nn.Module, images: Tensor) -> nn.Module:
    r"""A copy of ``model`` in evaluation mode whose batch norms are folded into the convolutions before them.

    :math:`\gamma (w * x + b - \mu)/\sigma + \beta` is again a convolution, with weights :math:`\gamma w / \sigma`: the
    same function in fewer steps. The pairs are found in one forward pass of ``images``, (N, 3, H, W); activations
    that timm keeps inside its batch norm are kept.

    Returns
    -------
    nn.Module
        The folded copy, which shares with ``model`` what is no kernel and was not folded; ``model`` itself where it
        can't be copied. A copy whose logits differ is not folded.
    """
    images, _ = as_batch(model, images)
    made_by: dict[int, str] = {}  # from an output's id() to the convolution that made it
    runs: dict[str, int] = {}
    pairs: dict[str, str] = {}
    alive: list[Tensor] = []  # keeps every id() in `made_by` in use until the end

    def after_convolution(name: str):
        def hook(module: nn.Module, arguments: tuple, output: Tensor) -> None:
            made_by[id(output)] = name
            runs[name] = runs.get(name, 0) + 1
            alive.append(output)

        return hook

    def before_norm(name: str):
        def hook(module: nn.Module, arguments: tuple) -> None:
            runs[name] = runs.get(name, 0) + 1
            if arguments and id(arguments[0]) in made_by:
                pairs[name] = made_by[id(arguments[0])]

        return hook

    with evaluating(model):
        try:
            folded = _copy(model)
        except RuntimeError:  # weights that are computed from others can't be copied
            return model
        if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
            return folded
        modules = dict(folded.named_modules())
        with ExitStack() as hooks:
            for name, module in modules.items():
                if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                    hooks.enter_context(module.register_forward_pre_hook(before_norm(name)))
                if isinstance(module, nn.Conv2d) and isinstance(module._parameters.get("weight"), nn.Parameter):
                    hooks.enter_context(module.register_forward_hook(after_convolution(name)))
            expected = as_logits(folded(images))
        for norm, convolution in pairs.items():
            if runs[norm] == runs[convolution] == 1:
                _replace(folded, convolution, fuse_conv_bn_eval(modules[convolution], modules[norm]))
                _replace(folded, norm, getattr(modules[norm], "act", nn.Identity()))
        tolerance = 1e-3 * (expected - expected.mean()).abs().max()
        same = (folded(images) - expected).abs().max() <= tolerance
        return folded if same else _copy(model)


def _copy(model: nn.Module) -> nn.Module:
    """The same modules again. Only the kernels are copied, so that the copy's memory order is its own."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if tensor.ndim != 4})


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


# ------------------------------------------------------------------------------- operations, as they are intercepted


def operation(func: Callable) -> str:
    """What an operation is called: "add" for a function, a method, an operator or in place alike."""
    name = "max_pool2d" if func is F.max_pool2d else getattr(func, "__name__", "")  # a dispatcher without a name
    return name.strip("_")


def tensors(value: object) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []


# ---------------------------------------------------------------------------------------------- receptive fields


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


# ------------------------------------------------------------------------------------------ backward rules for ReLU

RULES = ("gradient", "deconvnet", "guided")
_OTHER_ACTIVATIONS = set("silu gelu mish hardswish elu celu selu softplus leaky_relu prelu rrelu tanh".split())
_OTHER_ACTIVATIONS |= set("logsigmoid log_sigmoid softsign tanhshrink hardshrink softshrink".split())


class _Rectify(torch.autograd.Function):
    """``clamp(input, low, high)`` whose backward pass follows one of the three rules."""

    @staticmethod
    def forward(ctx, input: Tensor, low: float, high: float, rule: str, in_place: bool) -> Tensor:
        ctx.rule = rule
        if rule != "deconvnet":
            ctx.save_for_backward((input > low) & (input < high))
        if in_place:
            ctx.mark_dirty(input)
            return input.clamp_(low, high)
        return input.clamp(low, high)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        if ctx.rule != "deconvnet":  # where the unit was off (or saturated) nothing passes
            gradient = gradient * ctx.saved_tensors[0]
        if ctx.rule != "gradient":  # negative evidence does not pass
            gradient = gradient.clamp(min=0)
        return gradient, None, None, None, None


def rectifier_limits(name: str, args: tuple, kwargs: dict) -> tuple[float, float] | None:
    """Between which values the rectifier ``name`` is the identity; None for other functions."""

    def argument(index: int, key: str, default: float | None):
        return args[index] if len(args) > index else kwargs.get(key, default)

    if name == "relu":
        return 0.0, math.inf
    if name == "relu6":
        return 0.0, 6.0
    if name == "hardtanh":
        return argument(1, "min_val", -1.0), argument(2, "max_val", 1.0)
    if name == "threshold" and argument(1, "threshold", None) == argument(2, "value", None) == 0:
        return 0.0, math.inf
    if name in ("clamp", "clip", "clamp_min"):  # a rectifier written by hand
        low, high = argument(1, "min", None), argument(2, "max", None)
        if isinstance(low, int | float) and low == 0 and not isinstance(high, Tensor):
            return 0.0, math.inf if high is None else float(high)
    return None


class _ReluRule(TorchFunctionMode):
    """Replaces every ReLU, ReLU6 and hardtanh, wherever it is called, by `_Rectify`."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule, self.applied = rule, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        limits = rectifier_limits(name.strip("_"), args, kwargs)
        if limits:
            self.applied += 1
            in_place = kwargs.get("inplace", bool(args) and args[-1] is True) or name.endswith("_")
            return _Rectify.apply(args[0] if args else kwargs["input"], *limits, self.rule, in_place)
        if name.strip("_") in _OTHER_ACTIVATIONS:
            raise ValueError(
                f"the {self.rule!r} rule is defined for ReLU-like units, and this network uses {name}: "
                "take the plain gradient, or a network with ReLUs."
            )
        return func(*args, **kwargs)


@contextmanager
def relu_rule(model: nn.Module, rule: str) -> Iterator[nn.Module]:
    """Inside the block, ``model``'s backward pass uses ``rule`` at every ReLU, ReLU6 and hardtanh.

    With :math:`g` the gradient that arrives from above and :math:`x` the unit's input (chapters 4 and 8):

    ========== ======================= =====================================
    rule       passes on               source
    ========== ======================= =====================================
    gradient   g · [x > 0]             backpropagation
    deconvnet  max(g, 0)               Zeiler & Fergus (2014)
    guided     max(g, 0) · [x > 0]     Springenberg et al. (2015)
    ========== ======================= =====================================

    (ReLU6 and hardtanh: [low < x < high] in place of [x > 0].) It makes no difference whether the rectifier is a
    module or a function, new or in place: calls are intercepted, no module is replaced.

    Raises
    ------
    ValueError
        ``rule`` is unknown; in the forward pass: the network has an activation other than these (SiLU, GELU …), or
        no rectifier ran at all, so that the rule would silently have done nothing.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}; got {rule!r}.")
    active: list[_ReluRule] = []

    def enter(module: nn.Module, arguments: tuple) -> None:
        active.append(_ReluRule(rule))
        active[-1].__enter__()

    def leave(module: nn.Module, arguments: tuple, output: object) -> None:
        mode = active.pop()
        mode.__exit__(None, None, None)
        if output is not None and mode.applied == 0:
            raise ValueError(f"the {rule!r} rule met no ReLU, ReLU6 or hardtanh in this network's forward pass.")

    with model.register_forward_pre_hook(enter), model.register_forward_hook(leave, always_call=True):
        try:
            yield model
        finally:
            for mode in reversed(active):  # after an interrupt, which runs no hook
                mode.__exit__(None, None, None)
