"""Loading networks: the embedded one by what it says, torchvision's by a small file on disk, downloads without any."""

import hashlib
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path

import networks
import pytest
import torch
import torchvision
from networks import CLASSES, images, tiny
from safetensors.torch import save_file
from torch import nn

from helpers import layers, models, photos


@pytest.fixture
def no_network(monkeypatch):
    """Whoever asks for an address is told that there is no network."""

    def refuse(*arguments, **options):
        raise OSError("the test has no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def classifiers_by_signature():
    """torchvision's classifiers, by another way than `models` takes: ImageNet's classes; the quantised ones apart."""
    names = []
    for name in torchvision.models.list_models(exclude="quantized_*"):
        weights = torchvision.models.get_model_weights(name)
        if "categories" in weights.DEFAULT.meta and len(weights.DEFAULT.meta["categories"]) == 1000:
            names.append(name)
    return names


def test_every_classifier_of_torchvision_is_available():
    expected = classifiers_by_signature()
    assert len(expected) > 75
    available = models.available()
    assert set(expected) == {name for name, download in available.items() if download}
    assert {name for name, download in available.items() if not download} == {"efficientnet_lite0", "lecturenet"}


def test_every_published_file_carries_its_checksum():
    for name, download in models.available().items():
        if download:
            weights = torchvision.models.get_model_weights(name).DEFAULT
            digest = Path(weights.url).stem.rpartition("-")[2]
            assert len(digest) >= 8 and int(digest, 16) >= 0, weights.url
            preset = weights.transforms()
            assert len(preset.mean) == len(preset.std) == 3 and preset.crop_size[0] >= 224


def test_the_embedded_network_knows_the_photographs(device):
    model = models.load(device=device)
    assert model.name == "efficientnet_lite0" and model.input_size == 224 and len(model.categories) == 1000
    assert not model.training and next(model.parameters()).device.type == device.type
    (label, probability), *rest = model.predict(photos.load("coffee"))
    assert label == "espresso" and probability == pytest.approx(0.82, abs=0.02) and len(rest) == 4
    assert probability > rest[0][1] >= rest[-1][1]
    batch = torch.stack([photos.load(name) for name in ("camera", "rocket", "hopper")])
    assert [best[0][0] for best in model.predict(batch, k=1)] == ["tripod", "missile", "military uniform"]


def test_the_tensors_of_the_file_are_those_of_the_network():
    """The names differ; order, shapes and values are the same."""
    state = torch.load(models.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = models.load(device="cpu").network.state_dict()
    assert len(ours) == len(state) == 296
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), state.values()))
    assert [key.split(".")[-1] for key in ours] == [key.split(".")[-1] for key in state]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_other_precisions(dtype, device):
    if device.type == "mps" and dtype is torch.float64:
        pytest.skip("MPS has no float64")
    model = models.load(device=device).to(dtype)
    assert model.mean.dtype == dtype
    (label, probability), *_ = model.predict(photos.load("coffee"))
    assert label == "espresso" and probability == pytest.approx(0.82, abs=0.06)


def test_normalisation_is_inside():
    body, batch = tiny(), images(2).float()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    model = models.Classifier(body, mean=mean, std=std)
    by_hand = torch.stack([(batch[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(model(batch), body(by_hand))
    assert model.network is body
    integers = models.Classifier(body, mean=(0, 0, 0), std=(1, 1, 1), input_size=32)
    assert torch.equal(integers(batch), body(batch))
    assert list(integers.stages.values()) == ["relu1", "relu2"]


def test_names_of_classes():
    model = models.Classifier(tiny(), categories=["cat", "dog", "ant"])
    assert model.label(1) == "dog" and model.label(5) == "class 5"
    assert model.index("ant") == 2
    with pytest.raises(LookupError, match="near matches: .*cat"):
        model.index("cart")
    with pytest.raises(LookupError):
        model.index(1)
    predicted = model.predict(images(1)[0].float(), k=100)
    assert len(predicted) == CLASSES
    assert sum(probability for _, probability in predicted) == pytest.approx(1, abs=1e-5)
    expected = model(images(1).float()).softmax(1)[0].sort(descending=True)
    assert [value for _, value in predicted] == pytest.approx(expected.values.tolist(), abs=1e-6)
    assert [label for label, _ in predicted] == [model.label(i) for i in expected.indices.tolist()]


@pytest.mark.parametrize("k", [0, -1, 2.5, "5"])
def test_predict_refuses_k(k):
    with pytest.raises(ValueError, match="k must be"):
        models.Classifier(tiny()).predict(images(1)[0].float(), k=k)


def test_stages_are_the_last_layers_at_each_size():
    model = models.load(device="cpu")
    stages = model.stages
    assert list(stages) == [f"stage {number}" for number in range(1, len(stages) + 1)]
    sizes = []

    def note(module, inputs, output):
        sizes.append(output.shape[-1])

    handles = [model.network.get_submodule(path).register_forward_hook(note) for path in stages.values()]
    with torch.no_grad():
        model(torch.zeros(1, 3, 224, 224))
    for handle in handles:
        handle.remove()
    assert sizes == [112, 56, 28, 14, 7]


@pytest.mark.parametrize("name", ["resnet5O", "efficientnet_lite", "ResNet50", "", None, 7])
def test_an_unknown_model_is_refused(name):
    with pytest.raises(LookupError, match="unknown model") as caught:
        models.load(name)
    if name == "resnet5O":
        assert "resnet50" in str(caught.value)


# ------------------------------------------------------------------------------------ weights on disk


@pytest.fixture(scope="module")
def squeezenet_file(tmp_path_factory):
    """A small network's state dict, 5 MB, as torchvision publishes it."""
    network = networks.seeded(torchvision.models.squeezenet1_1).eval()
    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.save(network.state_dict(), path)
    return path, network


def test_weights_from_a_file(squeezenet_file, no_network, device):
    path, network = squeezenet_file
    for place in (path, str(path)):
        model = models.load("squeezenet1_1", weights=place, device=device)
    assert not model.training and model.name == "squeezenet1_1" and len(model.categories) == 1000
    batch = images(2, 64).float()
    mean, std = torch.tensor(models.IMAGENET_MEAN).view(3, 1, 1), torch.tensor(models.IMAGENET_STD).view(3, 1, 1)
    with torch.no_grad():
        expected, actual = network((batch - mean) / std), model(batch.to(device)).cpu()
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("with_heads", [True, False], ids=["as published", "without the auxiliary heads"])
def test_googlenet_is_loaded_with_and_without_its_auxiliary_heads(with_heads, tmp_path, no_network):
    options = {"aux_logits": with_heads, "transform_input": True, "init_weights": False}
    network = networks.seeded(torchvision.models.googlenet, **options).eval()
    torch.save(network.state_dict(), tmp_path / "googlenet.pth")
    model = models.load("googlenet", weights=tmp_path / "googlenet.pth", device="cpu")
    batch = images(1, 64).float()
    mean, std = torch.tensor(models.IMAGENET_MEAN).view(3, 1, 1), torch.tensor(models.IMAGENET_STD).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), network((batch - mean) / std))
    torch.save(model.network.state_dict(), tmp_path / "again.pth")
    models.load("googlenet", weights=tmp_path / "again.pth", device="cpu")


def test_weights_for_the_embedded_network_from_a_file(tmp_path):
    network = models.load(device="cpu").network
    state = network.state_dict()
    state["classifier.bias"] = state["classifier.bias"] + 1
    torch.save(state, tmp_path / "mine.pt")
    mine = models.load(weights=tmp_path / "mine.pt", device="cpu")
    assert torch.equal(mine.network.classifier.bias, network.classifier.bias + 1)


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("executed"),)


def damaged_files():
    good = networks.seeded(torchvision.models.squeezenet1_1).state_dict()
    wrong_shape = {**good, "classifier.1.weight": torch.zeros(10, 512, 1, 1)}
    missing = {key: value for key, value in good.items() if key != "features.0.weight"}
    return {
        "another shape": wrong_shape,
        "a tensor is missing": missing,
        "a tensor too many": {**good, "extra": torch.zeros(1)},
        "another network": torchvision.models.mnasnet0_5().state_dict(),
        "no dict": [1, 2, 3],
        "one tensor": torch.zeros(3),
        "numbers for names": {0: torch.zeros(1)},
        "numbers for tensors": {key: 3 for key in good},
        "empty dict": {},
    }


@pytest.mark.parametrize("kind", list(damaged_files()))
def test_a_file_that_does_not_fit_is_refused(kind, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(damaged_files()[kind], path)
    with pytest.raises(ValueError, match="weights.pth"):
        models.load("squeezenet1_1", weights=path, device="cpu")


def test_a_file_that_is_no_weights_is_refused(squeezenet_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = squeezenet_file[0].read_bytes()
    for name, content in {
        "half": data[: len(data) // 2],
        "empty": b"",
        "text": b"not weights",
        "head": data[:100],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            models.load("squeezenet1_1", weights=tmp_path / name, device="cpu")
    torch.save(Malicious(), tmp_path / "code")
    with pytest.raises(ValueError, match="code"):
        models.load("squeezenet1_1", weights=tmp_path / "code", device="cpu")
    assert not (tmp_path / "executed").exists()
    torch.save({"features.0.weight": Malicious()}, tmp_path / "code")
    with pytest.raises(ValueError, match="code"):
        models.load("squeezenet1_1", weights=tmp_path / "code", device="cpu")
    assert not (tmp_path / "executed").exists()
    for missing in (tmp_path / "nowhere.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=str(missing)):
            models.load("squeezenet1_1", weights=missing, device="cpu")


def test_a_damaged_embedded_file_is_refused(tmp_path, monkeypatch):
    """The checksum is looked at before the file is read as weights."""
    copy = tmp_path / "weights.pth"
    data = bytearray(Path(models.EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    data[len(data) // 2] ^= 1  # one bit
    copy.write_bytes(data)
    monkeypatch.setattr(models.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(copy))
    monkeypatch.setattr(torch, "load", lambda *arguments, **options: pytest.fail("read before it was checked"))
    with pytest.raises(ValueError, match="damaged.*SHA-256"):
        models.load(device="cpu")
    copy.unlink()
    with pytest.raises(FileNotFoundError, match=str(copy)):
        models.load(device="cpu")


# ------------------------------------------------------------------------------------------ lecturenet


def test_lecturenet_comes_with_the_package(device, no_network):
    model = models.load("lecturenet", device=device)
    assert model.name == "lecturenet" and not model.training and model.input_size == 224
    assert len(model.categories) == len(set(model.categories)) == 43 and model.index("Leek") < 43
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {device.type}
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    start = model.network.start
    assert start.shape == model.network.conv1.weight.shape == (64, 3, 11, 11)
    assert not torch.equal(start, model.network.conv1.weight) and "start" not in model.network.state_dict()
    assert list(model.stages.values()) == ["relu1", "relu2", "relu5"]
    assert [maps[1] for maps in layers.trace_maps(model, images(1, 224).float()).values()][::9] == [56, 14]
    probabilities = [probability for _, probability in model.predict(photos.load("chelsea"), k=43)]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)


def test_lecturenets_checksum_is_that_of_its_file():
    if not models.EMBEDDED["lecturenet"]:
        pytest.skip("its training goes on")
    assert hashlib.sha256(models.LECTURENET.read_bytes()).hexdigest() == models.EMBEDDED["lecturenet"]


def test_a_damaged_or_missing_lecturenet_is_refused(tmp_path, monkeypatch):
    data = bytearray(models.LECTURENET.read_bytes())
    copy = tmp_path / "net.safetensors"
    monkeypatch.setattr(models, "LECTURENET", copy)
    monkeypatch.setitem(models.EMBEDDED, "lecturenet", hashlib.sha256(data).hexdigest())
    copy.write_bytes(data)
    models.load("lecturenet", device="cpu")
    data[len(data) // 2] ^= 1  # one bit, of a weight
    copy.write_bytes(data)
    with pytest.raises(ValueError, match="damaged.*SHA-256"):
        models.load("lecturenet", device="cpu")
    models.load("lecturenet", weights=copy, device="cpu")  # a file of one's own has no known checksum
    copy.unlink()
    with pytest.raises(FileNotFoundError, match=str(copy)):
        models.load("lecturenet", device="cpu")


def test_lecturenet_with_other_classes_from_a_file(tmp_path):
    network = networks.seeded(models.LectureNet, 3)
    state = network.state_dict() | {"start": torch.zeros(64, 3, 11, 11)}
    categories = {"categories": json.dumps(["cat", "dog", "ant"])}
    save_file({key: tensor.half() for key, tensor in state.items()}, tmp_path / "mine", metadata=categories)
    model = models.load("lecturenet", weights=str(tmp_path / "mine"), device="cpu")
    assert model.categories == ["cat", "dog", "ant"]
    assert torch.equal(model.network.conv3.weight, network.conv3.weight.half().float())


@pytest.mark.parametrize("kind", ["text", "half", "pickle", "no categories", "no start", "missing", "shape", "classes"])
def test_a_file_that_is_no_lecturenet_is_refused(kind, tmp_path):
    state = models.LectureNet(3).state_dict() | {"start": torch.zeros(64, 3, 11, 11)}
    metadata = {"categories": json.dumps(["cat", "dog", "ant"])}
    if kind in ("no start", "missing"):
        del state["start" if kind == "no start" else "conv2.bias"]
    if kind == "shape":
        state["conv2.weight"] = torch.zeros(160, 64, 3, 3)
    if kind == "classes":
        metadata = {"categories": json.dumps(["cat", "dog"])}
    if kind == "no categories":
        metadata = {}
    save_file(state, tmp_path / "weights", metadata=metadata)
    if kind == "text":
        (tmp_path / "weights").write_text("not weights")
    if kind == "half":
        data = (tmp_path / "weights").read_bytes()
        (tmp_path / "weights").write_bytes(data[: len(data) // 2])
    if kind == "pickle":
        torch.save(state, tmp_path / "weights")
    with pytest.raises(ValueError, match=f"{tmp_path / 'weights'}.*lecturenet"):
        models.load("lecturenet", weights=tmp_path / "weights", device="cpu")


def test_lecturenets_layers():
    """Batch norms belong to the training; without them the biases are there."""
    plain, training = models.LectureNet(4), models.LectureNet(4, batch_norm=True)
    expected = "conv1 relu1 pool1 conv2 relu2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 gap flatten classes".split()
    assert [name for name, _ in plain.named_children()] == expected
    assert sum(isinstance(module, nn.BatchNorm2d) for module in training) == 5
    assert plain.conv3.bias is not None and training.conv3.bias is None
    assert plain(images(2, 64).float()).shape == (2, 4)


# ------------------------------------------------------------------------------------------- downloads


class Published:
    """Stands for torchvision's entry of a network whose weights lie at ``url``."""

    meta = {"categories": [f"thing {number}" for number in range(1000)]}

    def __init__(self, url):
        self.url = url

    def transforms(self):
        return torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()


@pytest.fixture
def published(squeezenet_file, tmp_path, monkeypatch):
    """squeezenet1_1 published at a file:// address; nothing cached."""
    data = squeezenet_file[0].read_bytes()
    digest = hashlib.sha256(data).hexdigest()[:8]
    source = tmp_path / "site" / f"squeezenet1_1-{digest}.pth"
    source.parent.mkdir()
    source.write_bytes(data)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))

    class Weights:
        DEFAULT = Published(source.as_uri())

    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda name: Weights)
    return source


def test_weights_are_downloaded_once(published, tmp_path, capsys):
    model = models.load("squeezenet1_1", device="cpu")
    assert model.categories[3] == "thing 3"
    cached = tmp_path / "hub" / "checkpoints" / published.name
    assert cached.read_bytes() == published.read_bytes()
    published.unlink()
    again = models.load("squeezenet1_1", device="cpu")
    assert torch.equal(again.network.features[0].weight, model.network.features[0].weight)


def test_a_damaged_download_is_refused_and_says_what_to_do(published, tmp_path):
    published.write_bytes(published.read_bytes()[:-1])
    with pytest.raises(ValueError, match="SHA-256.*Delete it and retry"):
        models.load("squeezenet1_1", device="cpu")


def test_a_damaged_cached_file_is_refused(published, tmp_path):
    models.load("squeezenet1_1", device="cpu")
    cached = tmp_path / "hub" / "checkpoints" / published.name
    cached.write_bytes(b"truncated")
    with pytest.raises(ValueError, match="SHA-256"):
        models.load("squeezenet1_1", device="cpu")


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), TimeoutError("timed out"), ConnectionResetError()]
)
def test_without_a_network_the_message_says_what_to_do(error, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"alexnet-owt-7be5be79.pth.*can't be reached.*models.load\(\)"):
        models.load("alexnet", device="cpu")
    assert list(tmp_path.rglob("*.pth")) == [] and list(tmp_path.rglob("*.partial")) == []


def test_without_a_network_by_the_socket(no_network, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="put the file into"):
        models.load("resnet18", device="cpu")
    assert models.load(device="cpu").name == "efficientnet_lite0"  # needs none


def test_any_network_can_be_wrapped():
    model = models.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)))
    assert len(model.predict(images(1, 8)[0].float())) == 4
