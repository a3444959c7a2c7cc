"""Export the book's networks and explanations as ONNX graphs, which the playground runs in the reader's browser.

``export_onnx.py FOLDER`` writes what the site serves as ``_static/playground/``, and ``manifest.json`` with the size
and SHA-256 of each file. A network has three graphs of an image (1, 3, 224, 224) in [0, 1]:

========== =============== =============================================================================
graph      second input    outputs
========== =============== =============================================================================
forward                    logits, the features before the linear layer, the activation maps of every stage
backward   class (1, C)    gradient of the class's logit, its CAM, Grad-CAM of every stage
guided     class (1, C)    guided backpropagation
========== =============== =============================================================================

A backward pass is exported as what it is, one more computation: `make_fx` records the operations of
``torch.autograd.grad``, in which that of a convolution is a transposed convolution. The graphs of a network share one
file of weights. Each is compared with `helpers` on the packaged photographs before anything is written.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from PIL import Image
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torchvision.transforms.v2.functional import to_pil_image

from helpers import activations, cam, datasets, embedding, figures, guided, layers, models, photos, saliency, scoring
from helpers.demos.widget import heat, photo, sheet

NETWORKS = {
    "efficientnet_lite0": "EfficientNet-Lite0: 1,000 classes of ImageNet",
    "lecturenet": "LectureNet: 43 classes of groceries",
}
PHOTOGRAPHS = {
    "chelsea": "a cat",
    "coffee": "a cup of coffee",
    "rocket": "a rocket",
    "camera": "a man with a camera",
    "flower": "a flower",
    "china": "a temple",
    "motorcycle_left": "a motorcycle",
    "hopper": "a woman in uniform",
}
SIZE = 224  # pixels
CLASS = 1  # in the order of probability: the one that maps are compared for
LARGEST_DIFFERENCE = 1e-3  # of a probability
# Of the ranks in a map. Grad-CAM far from the last layer hangs on ReLUs that are on or off by the last bit: in 64 bits
# PyTorch's own maps of stage 2 agree with those in 32 bits to 0.9986.
LEAST_CORRELATION, LEAST_OF_EARLY_STAGES = 0.999, 0.995
SHARED = 1024  # bytes: smaller constants stay in their graph

Graphs = dict[str, tuple[Callable[..., tuple[Tensor, ...]], list[str]]]  # name: (function, names of its outputs)


def graphs(model: models.Classifier) -> Graphs:
    """The functions that are exported; ``model`` is folded and its weights lie contiguously."""
    stages, linear = model.stages, layers.last_linear(model)

    def forward(image: Tensor) -> tuple[Tensor, ...]:
        features: list[Tensor] = []
        handle = linear.register_forward_pre_hook(lambda module, arguments: features.append(arguments[0]))
        with layers.record(model, list(stages.values())) as maps:
            logits = model(image)
        handle.remove()
        return logits, features[0], *maps.values()

    def backward(image: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
        image = image.detach().requires_grad_()
        with layers.record(model, list(stages.values())) as recorded:
            score = (model(image) * chosen).sum()
        maps = list(recorded.values())
        pixels, *gradients = torch.autograd.grad(score, [image, *maps])
        of_class = torch.einsum("nk,nkhw->nhw", chosen @ linear.weight, maps[-1])
        of_stages = (
            torch.einsum("nk,nkhw->nhw", gradient.mean((2, 3)), map_).relu() for gradient, map_ in zip(gradients, maps)
        )
        return pixels, of_class, *of_stages

    def backward_guided(image: Tensor, chosen: Tensor) -> tuple[Tensor, ...]:
        image = image.detach().requires_grad_()
        with layers.relu_rule(model, "guided"):
            score = (model(image) * chosen).sum()
        return torch.autograd.grad(score, image)

    return {
        "forward": (forward, ["logits", "features", *stages]),
        "backward": (backward, ["gradient", "cam", *stages]),
        "guided": (backward_guided, ["gradient"]),
    }


def prepared(classifier: models.Classifier, image: Tensor) -> models.Classifier:
    """The same function with few operations: batch norms folded, weights contiguous, of which no gradient is asked."""
    model = layers.fold_batch_norm(classifier, image).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
        # Strides as of channels_last, which 1×1 kernels keep even when they are contiguous, have no word in ONNX.
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return model


def _convolution_backward(gradient, image, weight, bias_sizes, stride, padding, dilation, transposed, _, groups, mask):
    """The gradient of a convolution's input is a transposed convolution of the gradient that arrives."""
    if transposed or mask[1] or mask[2]:
        raise NotImplementedError("only the gradient of a plain convolution with respect to its input is exported.")
    rest = [
        image.shape[2 + i]
        - ((gradient.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1)
        for i in (0, 1)
    ]
    pixels = torch.ops.aten.convolution(gradient, weight, None, stride, padding, dilation, True, rest, groups)
    return pixels, None, None


def traced(function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]) -> GraphModule:
    """The operations of ``function``, backward passes too, as a graph of operations that ONNX knows."""
    aten = torch.ops.aten
    rules = get_decompositions([aten.hardtanh_backward, aten.threshold_backward])
    rules[aten.convolution_backward.default] = _convolution_backward
    with torch.enable_grad():
        program = make_fx(function, decomposition_table=rules)(*inputs)
    program.graph.eliminate_dead_code()
    program.recompile()
    return program


def exported(program: GraphModule, inputs: tuple[Tensor, ...], outputs: list[str]) -> onnx.ModelProto:
    """``program`` as an ONNX model with named inputs and outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        names = {"input_names": ["image", "class"][: len(inputs)], "output_names": outputs}
        # Not optimised here: that would compute more constants, and the runtime does it anyway.
        model = torch.onnx.export(program, inputs, dynamo=True, optimize=False, verbose=False, **names).model_proto
    for value in (*model.graph.input, *model.graph.output):
        assert value.name in names["input_names"] + outputs, value.name
    del model.graph.value_info[:], model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    return model


class Weights:
    """The constants of several graphs, each once, in one file."""

    def __init__(self) -> None:
        self.data, self.places = io.BytesIO(), {}

    def share(self, model: onnx.ModelProto) -> None:
        """Move the large constants of ``model`` here; in half precision, where that loses nothing."""
        casts = []
        for constant in model.graph.initializer:
            values = numpy_helper.to_array(constant)
            if values.nbytes < SHARED:
                continue
            name, half = constant.name, values.astype(np.float16) if values.dtype == np.float32 else None
            if half is not None and np.array_equal(half.astype(np.float32), values):
                casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
                name, values = f"{name}.half", half
            constant.CopyFrom(numpy_helper.from_array(values, name))
            self._move(constant)
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    def _move(self, constant: onnx.TensorProto) -> None:
        data = constant.raw_data
        if data not in self.places:
            self.data.write(bytes(-self.data.tell() % 64))  # aligned
            self.places[data] = self.data.tell()
            self.data.write(data)
        constant.ClearField("raw_data")
        constant.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", self.places[data]), ("length", len(data))):
            constant.external_data.add(key=key, value=str(value))


def compare(classifier: models.Classifier, folder: Path, names: list[str]) -> dict[str, float]:
    """The worst agreement of each result of the graphs with `helpers` on photographs; too bad a one is an error."""
    run = {name: onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in ("forward", "backward", "guided")}
    stages = classifier.stages
    worst = {"probability": 0.0}
    for name in names:
        image = photos.load(name, SIZE)
        inputs = {"image": image[None].numpy()}
        logits, features, *maps = run["forward"].run(None, inputs)
        with layers.evaluating(classifier):
            expected = classifier(image[None]).softmax(1)
        difference = (torch.from_numpy(logits).softmax(1) - expected).abs().max().item()
        worst["probability"] = max(worst["probability"], difference)
        pairs = [("features", features, embedding.features(classifier, image[None]))]
        pairs += [
            ("maps", map_, activations.maps(classifier, image, path)) for map_, path in zip(maps, stages.values())
        ]
        target = int(expected[0].argsort(descending=True)[CLASS])
        inputs["class"] = np.eye(logits.shape[1], dtype=np.float32)[[target]]
        pixels, of_class, *of_stages = run["backward"].run(None, inputs)
        (positive,) = run["guided"].run(None, inputs)
        pairs.append(("gradient", pixels, saliency.gradient(classifier, image, target, signed=True)))
        pairs.append(("CAM", of_class, cam.cam(classifier, image, target, upsample=False)))
        pairs.append(("guided", positive, guided.backprop(classifier, image, target)))
        for (stage, path), found in zip(stages.items(), of_stages):
            known = cam.gradcam(classifier, image, target, layer=path, upsample=False)
            pairs.append((f"Grad-CAM, {stage}", found, known))
        for result, found, known in pairs:
            worst[result] = min(worst.get(result, 1.0), _agreement(found, known))
    late = list(stages)[-2:]
    for result, value in worst.items():
        early = result.startswith("Grad-CAM") and not result.endswith(tuple(late))
        least = LEAST_OF_EARLY_STAGES if early else LEAST_CORRELATION
        if value > LARGEST_DIFFERENCE if result == "probability" else value < least:
            raise ValueError(f"the graphs of {classifier.name} differ from helpers: {result} {value:.5g}.")
    return worst


def _agreement(found: np.ndarray, known: Tensor) -> float:
    """Rank correlation of all values; 1 where both are constant, as the Grad-CAM of a class that nothing speaks for."""
    flat = torch.from_numpy(found).reshape(1, -1), known.cpu().reshape(1, -1)
    if all((values == 0).all() for values in flat):
        return 1.0
    return scoring.rank_correlation(*flat)


def neighbours(classifier: models.Classifier) -> np.ndarray:
    """The features of the embedded set's training photographs, (N, D), of length 1, in half precision."""
    features = embedding.features(classifier, datasets.groceries("train", size=SIZE))
    return nn.functional.normalize(features, dim=1).half().numpy()


def write_graphs(classifier: models.Classifier, folder: Path, image: Tensor) -> None:
    """Write the graphs, for images of the size of ``image`` (1, 3, H, W), and their weights into ``folder``."""
    weights, model = Weights(), prepared(classifier, image)
    chosen = torch.eye(layers.last_linear(model).out_features)[:1]
    for graph, (function, outputs) in graphs(model).items():
        inputs = (image,) if graph == "forward" else (image, chosen)
        proto = exported(traced(function, inputs), inputs, outputs)
        weights.share(proto)
        (folder / f"{graph}.onnx").write_bytes(proto.SerializeToString())
    (folder / "weights.bin").write_bytes(weights.data.getvalue())


def write_network(name: str, folder: Path) -> dict:
    """Write the graphs of a network into ``folder`` and return what the manifest says of it."""
    folder.mkdir(parents=True)
    classifier = models.load(name, device="cpu")
    image = torch.rand(1, 3, SIZE, SIZE)
    write_graphs(classifier, folder, image)
    shapes = layers.trace_maps(classifier, image)
    (folder / "neighbours.bin").write_bytes(neighbours(classifier).tobytes())
    return {
        "title": NETWORKS[name],
        "categories": classifier.categories,
        "stages": {stage: shapes[path] for stage, path in classifier.stages.items()},
        "compared": compare(classifier, folder, list(PHOTOGRAPHS)),
    }


def write_pictures(folder: Path) -> dict:
    """The photographs that the page offers, without loss, and the embedded set's, as they are."""
    for place in ("photographs", "thumbnails", "groceries"):
        (folder / place).mkdir(parents=True)
    for name in PHOTOGRAPHS:
        picture = to_pil_image(photos.load(name, SIZE))
        picture.save(folder / "photographs" / f"{name}.png", optimize=True)
        picture.resize((72, 72), Image.Resampling.LANCZOS).save(folder / "thumbnails" / f"{name}.webp", quality=80)
    groceries = datasets.groceries("train")
    for number, image in enumerate(groceries.images):
        to_pil_image(image).save(folder / "groceries" / f"{number}.webp", quality=80, method=4)
    classes = [groceries.classes[label] for label in groceries.labels]
    return {"photographs": PHOTOGRAPHS, "groceries": classes, "poster": write_poster(folder / "poster.webp")}


def write_poster(path: Path) -> dict:
    """What the playground shows before it is started: the first photograph and its CAM."""
    classifier, image = models.load(), photos.load(next(iter(PHOTOGRAPHS)), SIZE)
    map_ = cam.cam(classifier, image).clamp(min=0).cpu()
    explained = photo(image, pale=True).convert("RGBA")
    explained.alpha_composite(heat(map_, (0, map_.max().item())))
    both = sheet([photo(image).convert("RGBA"), explained], 2)
    both.save(path, quality=80, method=4)
    return {"class": classifier.predict(image, 1)[0][0], "width": both.width, "height": both.height}


def colours(name: str) -> list[int]:
    """256 colours, one after the other: red, green, blue."""
    return [round(255 * part) for colour in mpl.colormaps[name](np.arange(256)) for part in colour[:3]]


def listed(folder: Path) -> Iterator[tuple[str, dict]]:
    """Size and SHA-256 of each file that the page loads."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".onnx", ".bin"):
            data = path.read_bytes()
            name = path.relative_to(folder).as_posix()
            yield name, {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write(folder: Path) -> None:
    """All that the playground needs, into a new ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    networks = {name: write_network(name, folder / name) for name in NETWORKS}
    manifest = {
        "size": SIZE,
        "networks": networks,
        **write_pictures(folder),
        "colours": {"heat": colours(figures.HEAT), "signed": colours(figures.SIGNED)},
        "files": dict(listed(folder)),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    for name, network in networks.items():
        print(f"{name}: {network['compared']}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
