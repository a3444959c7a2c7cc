"""Look inside a network: record activations, stop at a layer, receptive fields, backward rules for ReLU.

A layer is named by its dotted path, as in ``nn.Module.get_submodule``; for a ``models.Classifier`` the leading
``network.`` may be left out. Every function leaves the network as it was, also after an error.
"""

from .folding import fold_batch_norm
from .operations import operation, tensors
from .receptive_fields import ReceptiveField, receptive_field
from .recording import evaluating, find, last_linear, pixel_gradient, record, run_to, trace_maps
from .relu_rules import RULES, rectifier_limits, relu_rule

__all__ = ["RULES", "ReceptiveField", "evaluating", "find", "fold_batch_norm", "last_linear", "operation"]
__all__ += ["pixel_gradient", "receptive_field", "record", "rectifier_limits", "relu_rule", "run_to", "tensors"]
__all__ += ["trace_maps"]
