"""Operations, as they are intercepted while a network runs."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


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
