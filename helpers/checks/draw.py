"""Small inputs for the checks: a network and images, the same in every run."""

import torch
from torch import Tensor, nn

from helpers import runtime


def network(seed: int = 0, *, classes: int = 5) -> nn.Sequential:
    """Two convolutions with random weights, on this machine's device: images (N, 3, H, W) to logits (N, classes).

    The layers are ``conv1``, ``relu1``, ``pool``, ``conv2``, ``relu2``, ``gap``, ``flatten`` and ``classes``. Over
    random images each logit has mean 0 and standard deviation 2, so that no class always wins.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        drawn = nn.Sequential()
        for name, layer in {
            "conv1": nn.Conv2d(3, 6, 3, padding=1),
            "relu1": nn.ReLU(),
            "pool": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(6, 8, 3, padding=1),
            "relu2": nn.ReLU(),
            "gap": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "classes": nn.Linear(8, classes),
        }.items():
            drawn.add_module(name, layer)
        logits = drawn(torch.stack([image(number) for number in range(32)]))
        drawn.classes.weight *= 2 / logits.std(0)[:, None]
        drawn.classes.bias -= logits.mean(0)
        drawn.classes.bias *= 2 / logits.std(0)
    return drawn.eval().to(runtime.device())


def image(seed: int = 0, size: int = 32) -> Tensor:
    """A smooth random image (3, size, size) with values in [0.05, 0.95], on the CPU."""
    coarse = torch.rand(1, 3, max(size // 8, 2), max(size // 8, 2), generator=torch.Generator().manual_seed(seed))
    return 0.05 + 0.9 * nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")[0]
