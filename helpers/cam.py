"""Chapter 7: where the class is, by the last feature maps."""

from __future__ import annotations

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import layers
from .inputs import Target, as_batch, as_logits, as_targets


def cam(model: nn.Module, image: Tensor, target: Target = None, *, upsample: bool = True) -> Tensor:
    r"""Class activation map (Zhou et al. 2016, equation 2).

    :math:`M_c(x, y) = \sum_k w^c_k A_k(x, y)`: the last feature maps, weighted as the linear layer weights their means.
    Its mean over the (h, w) map, plus the layer's bias, is the class's logit.

    Parameters
    ----------
    model
        A network that ends in feature maps, global average pooling and one linear layer.
    image
        (3, H, W) or (N, 3, H, W) in [0, 1].
    target
        Class index, one for each image, or None for the predicted class.
    upsample
        Resize the map to the image (bilinear). If not, it has the size (h, w) of the feature maps.

    Returns
    -------
    Tensor
        (H, W), or (N, H, W) for a batch; signed, in logits.

    Raises
    ------
    ValueError
        The network does not end so: use `gradcam`.
    """
    batch, single = as_batch(model, image)
    linear = layers.last_linear(model)
    if linear is None:
        raise ValueError("CAM needs a network that ends in a linear layer, and this one has none: use gradcam().")
    maps: list[Tensor] = []
    inputs: list[Tensor] = []

    def keep_map(module: nn.Module, arguments: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == linear.in_features:
            maps.append(output)

    def keep_input(module: nn.Module, arguments: tuple) -> None:
        inputs.append(arguments[0])

    with layers.evaluating(model), ExitStack() as hooks:
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(keep_map))
        hooks.enter_context(linear.register_forward_pre_hook(keep_input))
        logits = as_logits(model(batch))
        targets = as_targets(target, logits)
    means = inputs[-1] if inputs else torch.empty(0)
    pooled = [m for m in maps if m.shape[:2] == means.shape and _close(m.mean((2, 3)), means)]
    if not pooled or linear.out_features != logits.shape[1]:
        raise ValueError(
            "CAM needs feature maps, global average pooling and one linear layer at the network's end: use gradcam()."
        )
    largest = max(pooled, key=lambda m: m.shape[2] * m.shape[3])  # the maps before the pooling layer, not after it
    result = torch.einsum("nk,nkhw->nhw", linear.weight.detach()[targets], largest)
    return _present(result, batch, single, upsample)


def gradcam(
    model: nn.Module,
    image: Tensor,
    target: Target = None,
    *,
    layer: str | None = None,
    relu: bool = True,
    upsample: bool = True,
) -> Tensor:
    r"""Gradient-weighted class activation map (Selvaraju et al. 2017, equations 1 and 2).

    :math:`L_c = \mathrm{ReLU}(\sum_k \alpha^c_k A_k)` with :math:`\alpha^c_k` the mean over the map of
    :math:`\partial y_c / \partial A_k`. At the last maps of a network for which `cam` works it is
    :math:`\mathrm{ReLU}(M_c) / (h w)`.

    Parameters
    ----------
    layer
        Dotted path of a layer whose output is (N, C, h, w). Default: the last one, as `layers.trace_maps` finds it.
    relu
        Keep only what speaks for the class. If not, the map is signed.

    Other parameters and the result are those of `cam`. The gradient is computed down to the layer and no further.

    Raises
    ------
    LookupError
        There is no such layer; the message lists near matches.
    ValueError
        The layer's output is no stack of maps, or the class does not depend on it.
    """
    batch, single = as_batch(model, image)
    layer = layer if layer is not None else _last_layer(model, batch)
    leaves: list[Tensor] = []

    def cut(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {layer!r} returns {got}; Grad-CAM needs maps (N, C, h, w).")
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)  # from here on up; `evaluating` restores it
        return leaves[-1].clone()  # an in-place ReLU that follows must not change the maps

    with layers.evaluating(model), layers.find(model, layer).register_forward_hook(cut):
        logits = as_logits(model(batch))
        if not leaves:
            raise ValueError(f"layer {layer!r} did not run in this network's forward pass.")
        chosen = logits.gather(1, as_targets(target, logits)[:, None]).sum()
        gradients = torch.autograd.grad(chosen, leaves[-1], allow_unused=True)[0] if chosen.requires_grad else None
    if gradients is None:
        raise ValueError(f"the model's output does not depend on layer {layer!r}.")
    weights = gradients.mean((2, 3))  # (N, C)
    result = torch.einsum("nk,nkhw->nhw", weights, leaves[-1].detach())
    return _present(result.relu() if relu else result, batch, single, upsample)


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= 1e-4 * second.abs().max())


def _last_layer(model: nn.Module, batch: Tensor) -> str:
    """The layer that makes the last feature maps."""
    stages = getattr(model, "stages", None)  # of a `models.Classifier`
    names = list(stages.values() if stages and isinstance(stages, dict) else layers.trace_maps(model, batch[:1]))
    if len(names) < 2:
        raise ValueError(f"no feature maps after the first layer ({', '.join(names) or 'none at all'}): name a layer.")
    return names[-1]


def _present(maps: Tensor, batch: Tensor, single: bool, upsample: bool) -> Tensor:
    if upsample:
        maps = F.interpolate(maps[:, None], size=batch.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return maps[0] if single else maps
