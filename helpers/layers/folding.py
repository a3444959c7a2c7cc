"""The same network in fewer steps."""

from __future__ import annotations

import copy
from contextlib import ExitStack

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..inputs import as_batch, as_logits
from .recording import evaluating


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
