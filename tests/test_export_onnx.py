"""The graphs of the playground: a small network with everything that the book's have, in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import export_onnx
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from helpers import cam, guided, models, saliency

SIZE, CLASSES = 32, 5


@pytest.fixture(scope="module")
def classifier() -> models.Classifier:
    """Strides, groups, both rectifiers, a batch norm, padding on one side, overlapping max pools, a sum of two ways."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.act = nn.ReLU6(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.act(self.conv(x))

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1), Sum(), nn.Conv2d(16, 24, 5, 2, 2), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(24, CLASSES),
    )  # fmt: skip
    model = models.Classifier(network, input_size=SIZE).train()
    with torch.no_grad():
        model(torch.rand(64, 3, SIZE, SIZE))  # the batch norm's statistics
    network[-1].weight.data *= 20
    return model.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def folder(classifier: models.Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_onnx.write_graphs(classifier, folder, torch.rand(1, 3, SIZE, SIZE))
    return folder


def run(folder: Path, graph: str, **inputs: Tensor) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(folder / f"{graph}.onnx")
    names = [output.name for output in session.get_outputs()]
    values = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    return dict(zip(names, map(torch.from_numpy, values)))


def test_the_graphs_are_the_functions_of_helpers(classifier: models.Classifier, folder: Path) -> None:
    image = torch.rand(1, 3, SIZE, SIZE)
    forward = run(folder, "forward", image=image)
    with torch.no_grad():
        assert torch.allclose(forward["logits"], classifier(image), atol=1e-4)
    assert list(forward) == ["logits", "features", *classifier.stages]
    for target in range(CLASSES):
        chosen = torch.eye(CLASSES)[[target]]
        backward, positive = (run(folder, graph, image=image, **{"class": chosen}) for graph in ("backward", "guided"))
        near = {"atol": 1e-3, "rtol": 1e-3}
        known = saliency.gradient(classifier, image, target, signed=True)
        assert torch.allclose(backward["gradient"], known, **near) and known.abs().max() > 0.1
        assert torch.allclose(backward["cam"], cam.cam(classifier, image, target, upsample=False), **near)
        assert torch.allclose(positive["gradient"], guided.backprop(classifier, image, target), **near)
        assert not torch.allclose(positive["gradient"], backward["gradient"], **near)
        for stage, path in classifier.stages.items():
            known = cam.gradcam(classifier, image, target, layer=path, upsample=False)
            assert torch.allclose(backward[stage], known, **near), stage


def test_graphs_share_their_weights_and_hold_none(folder: Path) -> None:
    kernels = 4 * (3 * 16 * 9 + 16 * 24 * 25)  # bytes of the two large ones
    size = (folder / "weights.bin").stat().st_size
    assert kernels <= size < 1.2 * kernels
    for graph in ("forward", "backward", "guided"):
        model = onnx.load(folder / f"{graph}.onnx", load_external_data=False)
        assert max(len(constant.raw_data) for constant in model.graph.initializer) < export_onnx.SHARED


def test_what_half_precision_holds_is_stored_in_it_and_comes_back_exactly(tmp_path: Path) -> None:
    exact = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float16).astype(np.float32)
    other = exact + np.float32(1e-6)
    sizes = []
    for values in (exact, other):
        node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
        infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [32, 32]) for name in "xy"]
        constant = onnx.numpy_helper.from_array(values, "w")
        graph = onnx.helper.make_graph([node], "sum", infos[:1], infos[1:], [constant])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
        weights = export_onnx.Weights()
        weights.share(model)
        (tmp_path / "sum.onnx").write_bytes(model.SerializeToString())
        (tmp_path / "weights.bin").write_bytes(weights.data.getvalue())
        sizes.append(len(weights.data.getvalue()))
        found = run(tmp_path, "sum", x=torch.zeros(32, 32))["y"]
        assert torch.equal(found, torch.from_numpy(values))
    assert sizes == [2048, 4096]


def test_a_graph_that_says_something_else_is_refused(
    classifier: models.Classifier, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_onnx, "SIZE", SIZE)
    found = export_onnx.compare(classifier, folder, ["coffee", "rocket"])
    assert found["probability"] < 1e-4 and min(value for name, value in found.items() if name != "probability") > 0.999
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = np.frombuffer((tmp_path / "weights.bin").read_bytes(), np.float32).copy()
    data[: len(data) // 4] *= 1.5
    (tmp_path / "weights.bin").write_bytes(data.tobytes())
    with pytest.raises(ValueError, match="differ from helpers"):
        export_onnx.compare(classifier, tmp_path, ["coffee", "rocket"])


def test_a_backward_pass_of_weights_is_refused() -> None:
    convolution = nn.Conv2d(3, 4, 3)

    def of_weights(image: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(convolution(image).sum(), [convolution.weight])

    with pytest.raises(NotImplementedError, match="only the gradient of a plain convolution"):
        export_onnx.traced(of_weights, (torch.rand(1, 3, 8, 8),))
