"""What a ReLU passes on in the backward pass (chapters 4 and 8)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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
