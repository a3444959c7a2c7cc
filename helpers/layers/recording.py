"""Find a layer, record what it returns, stop at it; the gradient of a logit with respect to the pixels."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ..inputs import Target, as_batch, as_logits, as_targets


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


def last_linear(model: nn.Module) -> nn.Linear | None:
    """The last linear layer of ``model``: of a classifier that which turns features into logits. None without one."""
    return next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)


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
