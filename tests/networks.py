"""Small networks for the tests, and the proof that a function left a network as it came."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from helpers import models

CLASSES = 7


def seeded(build, *arguments, seed: int = 0, **options):
    """``build(…)`` with weights that are the same in every run; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*arguments, **options)


def images(count: int = 2, size: int = 32, seed: int = 0) -> Tensor:
    """Random smooth images (count, 3, size, size), float64, within [0.05, 0.95]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size // 4, size // 4, generator=generator, dtype=torch.float64)
    return 0.05 + 0.9 * F.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


def calibrated(model: nn.Module, size: int = 64, seed: int = 0) -> nn.Module:
    """Give every batch norm statistics that suit its input, and weights that are not 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.bias.data = 0.3 * torch.randn(norm.bias.shape, generator=generator)
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model.train()(images(8, size, seed).float())
    return model.eval()


def head(channels: int, classes: int = CLASSES) -> list[tuple[str, nn.Module]]:
    """Global average pooling and one linear layer."""
    return [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("linear", nn.Linear(channels, classes))]


def _tiny() -> nn.Module:
    layers = [
        ("conv1", nn.Conv2d(3, 8, 3, padding=1, bias=False)),
        ("norm1", nn.BatchNorm2d(8)),
        ("relu1", nn.ReLU(inplace=True)),
        ("pool1", nn.MaxPool2d(2)),
        ("conv2", nn.Conv2d(8, 12, 3, padding=1)),
        ("norm2", nn.BatchNorm2d(12)),
        ("relu2", nn.ReLU(inplace=True)),
    ]
    return nn.Sequential(OrderedDict(layers + head(12)))


_TINY = calibrated(seeded(_tiny), 32)


def tiny() -> nn.Module:
    """A new copy of two convolutions with batch norm and in-place ReLU, global average pooling, one linear layer."""
    return copy.deepcopy(_TINY)


class Functional(nn.Module):
    """A network whose rectifier is the function ``rectify``, not a module."""

    def __init__(self, rectify=F.relu) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, CLASSES)
        self.rectify = rectify

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.rectify(self.conv1(pixels) - 0.1)
        return self.linear(self.rectify(self.conv2(hidden)).mean((2, 3)))


class Modular(nn.Module):
    """`Functional` with modules in place of functions: the same weights give the same numbers."""

    def __init__(self, functional: Functional, rectifier=nn.ReLU) -> None:
        super().__init__()
        self.conv1, self.conv2, self.linear = functional.conv1, functional.conv2, functional.linear
        self.relu1, self.relu2 = rectifier(), rectifier()

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.relu1(self.conv1(pixels) - 0.1)
        return self.linear(self.relu2(self.conv2(hidden)).mean((2, 3)))


class Twice(nn.Module):
    """The output of ``conv`` goes through the batch norm and past it; ``again`` runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        first = self.conv(pixels)
        hidden = self.relu(self.norm(first)) + first
        hidden = self.again(self.relu(self.again(hidden)))
        return self.linear(hidden.relu().mean((2, 3)))


class Pair(nn.Module):
    """Has a layer that returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3), nn.MaxPool2d(2, return_indices=True)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.linear(self.pool(self.conv(pixels))[0].mean((2, 3)))


def resnet18() -> nn.Module:
    return calibrated(seeded(torchvision.models.resnet18, num_classes=20))


def vgg11() -> nn.Module:
    """VGG-11's convolutions with a smaller head: its own has 120 million weights."""

    def build() -> nn.Module:
        small = nn.Sequential(nn.Linear(512 * 4, 64), nn.ReLU(), nn.Linear(64, 20))
        parts = [("features", make_layers(cfgs["A"])), ("avgpool", nn.AdaptiveAvgPool2d(2)), ("flatten", nn.Flatten())]
        model = nn.Sequential(OrderedDict([*parts, ("classifier", small)]))
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        return model.eval()

    return seeded(build)


def googlenet() -> nn.Module:
    build = torchvision.models.googlenet
    return calibrated(seeded(build, num_classes=20, aux_logits=False, init_weights=False))


def densenet121() -> nn.Module:
    return calibrated(seeded(torchvision.models.densenet121, num_classes=20))


def mobilenet_v2() -> nn.Module:
    return calibrated(seeded(torchvision.models.mobilenet_v2, num_classes=20))


def lite0() -> nn.Module:
    """The embedded network with its real weights."""
    return models.load(device="cpu")


# -------------------------------------------------------------------------------------- left as it came

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def _same(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.dtype == second.dtype and first.shape == second.shape and bool((first == second).all())


def state(model: nn.Module) -> dict[str, object]:
    """All that a function must leave alone: from what it is to its value."""
    found: dict[str, object] = {
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "random numbers": torch.get_rng_state().numpy().tobytes(),
    }
    for path, module in model.named_modules():
        found[f"{path}: module"] = id(module)
        found[f"{path}: training"] = module.training
        found[f"{path}: own forward"] = "forward" in vars(module)
        found[f"{path}: in place"] = getattr(module, "inplace", None)
        for hooks in _HOOKS:
            found[f"{path}: {hooks}"] = list(getattr(module, hooks).values())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found[f"{name}: tensor"] = id(tensor)
        found[f"{name}: requires_grad"] = tensor.requires_grad
        found[f"{name}: tensor hooks"] = len(tensor._backward_hooks or ())
        found[f"{name}: layout"] = tensor.stride()
    return found


def values(model: nn.Module) -> dict[str, Tensor | None]:
    """Copies of the weights, buffers and gradients."""
    copies: dict[str, Tensor | None] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        copies[name] = tensor.detach().clone()
        copies[f"{name}.grad"] = None if tensor.grad is None else tensor.grad.clone()
    return copies


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Fail if the block changes anything of ``model``, or of PyTorch's global state; the global state is repaired."""
    before, copies = state(model), values(model)
    try:
        yield
    finally:
        after, now = state(model), values(model)
        while torch._C._len_torch_function_stack() > before["function modes"]:
            torch._C._pop_torch_function_stack()
        torch.set_grad_enabled(before["gradient mode"])
    changed = [key for key in before.keys() | after.keys() if before.get(key, "?") != after.get(key, "?")]
    changed += [name for name in copies.keys() | now.keys() if not _same(copies.get(name), now.get(name))]
    assert not changed, f"changed: {sorted(changed)}"
