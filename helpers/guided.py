"""Chapter 8: guided backpropagation and Guided Grad-CAM."""

from __future__ import annotations

from torch import Tensor, nn

from . import cam, layers
from .inputs import Target, as_batch, as_logits, as_targets


def backprop(model: nn.Module, image: Tensor, target: Target = None) -> Tensor:
    """Guided backpropagation (Springenberg et al. 2015): the gradient of the target's logit under the guided rule.

    At every ReLU, ReLU6 and hardtanh only what is positive passes, and only where the unit was on
    (`layers.relu_rule`), however the network calls them.

    Parameters
    ----------
    model
        Any network from (N, 3, H, W) to (N, classes) whose activations are of these kinds.
    image
        (3, H, W) or (N, 3, H, W) in [0, 1].
    target
        Class index, one for each image, or None for the predicted class.

    Returns
    -------
    Tensor
        (3, H, W), or (N, 3, H, W) for a batch; signed.

    Raises
    ------
    ValueError
        The network has another activation, such as SiLU or GELU, or none at all: the rule would do nothing.
    """
    batch, single = as_batch(model, image)
    with layers.relu_rule(model, "guided"):
        result = layers.pixel_gradient(model, batch, target)
    return result[0] if single else result


def gradcam(model: nn.Module, image: Tensor, target: Target = None, *, layer: str | None = None) -> Tensor:
    """Guided Grad-CAM (Selvaraju et al. 2017, section 3.2): `backprop` times `cam.gradcam` at image size.

    Parameters
    ----------
    layer
        Where Grad-CAM looks; default: the last maps.

    Other parameters and the result are those of `backprop`.
    """
    batch, single = as_batch(model, image)
    with layers.evaluating(model):
        targets = as_targets(target, as_logits(model(batch)))
    result = backprop(model, batch, targets) * cam.gradcam(model, batch, targets, layer=layer)[:, None]
    return result[0] if single else result
