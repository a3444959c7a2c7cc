"""What comes from outside (pictures, addresses, weights, answers, notebooks) costs at most a documented error."""

from __future__ import annotations

import ast
import io
import itertools
import json
import os
import pickle
import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from safetensors.torch import save

from helpers import checks, models, photos
from helpers.checks import grading
from helpers.checks.__main__ import main
from helpers.checks.answers import Wrong
from helpers.reading import pictures

ROOT = Path(__file__).parent.parent


def fuzz(examples: int) -> settings:
    """Always the same examples, as slow as the machine is."""
    ignored = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    return settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=ignored)


@pytest.fixture(scope="module", autouse=True)
def this_machine_only() -> Iterator[None]:
    """A connection to any host but 127.0.0.1 fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
            raise OSError(f"the test asks for {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setenv("no_proxy", "*")
        yield


def encoded(kind: str = "PNG", size: int = 24) -> bytes:
    sheet = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(sheet, kind)
    return sheet.getvalue()


# ------------------------------------------------------------------------------------------ pictures


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of this size, one bit a pixel, all black, whose pixels stop after the first megabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(height * (width // 8 + 1), 2**24)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("width, height", [(10_000, 10_000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_before_its_pixels_are_decoded(width: int, height: int, monkeypatch) -> None:
    """The first is between Pillow's limit and twice the limit, where Pillow only warns."""
    data = png_bomb(width, height)
    assert len(data) < 50_000
    with monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the pixels are decoded"))
        with pytest.raises(ValueError, match="is no picture that can be read.*(bomb|exceeds)"):
            photos.decode(data)
    assert photos.decode(png_bomb(1000, 1000)).max() == 0


def test_a_picture_that_is_a_program_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("Ghostscript is started"))
    with pytest.raises(ValueError, match="EPS"):
        photos.decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%touch /tmp/x) run\n")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(pictures.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "open", lambda *arguments: pytest.fail("the file is opened"))
    with pytest.raises(ValueError, match="large.png has more than 20 MB"):
        photos.load_image(tmp_path / "large.png")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    start = time.monotonic()
    for place in (tmp_path / "pipe.png", tmp_path / "loop.png", tmp_path / "zero.png", "/dev/zero", tmp_path):
        with pytest.raises(FileNotFoundError, match="no file at"):
            photos.load_image(place)
    assert time.monotonic() - start < 5


SCHEMES = ["ftp://127.0.0.1/a.png", "file:///etc/passwd", "FILE:/etc/passwd", "data:image/png;base64,AAAA"]
SCHEMES += ["javascript:alert(1)", "gopher://127.0.0.1/", "blob:x", "http:a.png", "s3://bucket/a.png", "x-y+z.1://a"]


@pytest.mark.parametrize("address", SCHEMES)
def test_an_address_that_is_not_http_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not allowed.*https://"):
        photos.load_image(address)


@pytest.mark.parametrize("path", [r"C:\cat.jpg", "C:/cat.jpg", "c://cat.jpg", "cat: asleep.png", "12:30.png", "a:b"])
def test_a_path_with_a_colon_is_a_path(path: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no file at"):
        photos.load_image(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(encoded())
    assert photos.load_image(path).shape == (3, 224, 224)


def test_a_path_object_is_never_an_address(monkeypatch) -> None:
    monkeypatch.setattr(pictures, "_fetch", lambda url: pytest.fail("fetched"))
    with pytest.raises(FileNotFoundError, match="no file at"):
        photos.load_image(Path("http://127.0.0.1/a.png"))


def valid(image: torch.Tensor) -> bool:
    right = image.shape == (3, 224, 224) and image.dtype == torch.float32 and not image.isnan().any()
    return bool(right and image.min() >= 0 and image.max() <= 1)


def decodes_or_is_refused(data: bytes) -> None:
    try:
        assert valid(photos.decode(data))
    except ValueError as error:
        assert "is no picture that can be read" in str(error)


PICTURES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP")}
STARTS = [data[:count] for data in PICTURES.values() for count in (4, 16, 40)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@fuzz(150)
@given(st.sampled_from([b"", *STARTS]), st.binary(max_size=300))
def test_random_bytes_are_no_picture(start: bytes, rest: bytes) -> None:
    decodes_or_is_refused(start + rest)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", PICTURES)
@fuzz(80)
@given(
    length=st.none() | st.integers(0, 2000),
    flips=st.lists(st.tuples(st.integers(0, 200) | st.integers(0, 2000), st.integers(0, 255)), max_size=12),
)
def test_a_damaged_picture_is_decoded_or_refused(kind: str, length: int | None, flips: list) -> None:
    data = bytearray(PICTURES[kind])
    for place, value in flips:
        data[place % len(data)] = value
    decodes_or_is_refused(bytes(data[:length]))


@fuzz(200)
@given(st.sampled_from(["", "http://", "https:", "HTTPS://", "file:", "~", "/", "/dev/", "\0", "C:"]), st.text())
def test_random_text_is_no_picture(start: str, rest: str) -> None:
    def unreachable(url: str) -> bytes:
        pictures._allow(url)
        raise FileNotFoundError("the test has no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "_fetch", unreachable)
        with pytest.raises((FileNotFoundError, ValueError)):
            photos.load_image(start + rest)


@fuzz(200)
@given(st.text() | st.text("abc:/@[]%?#.0123456789\\ -", max_size=30))
def test_random_addresses_are_refused(rest: str) -> None:
    """Up to the socket, which the test does not open."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("the test has no network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "create_connection", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises((FileNotFoundError, ValueError)):
            photos.load_image("http://" + rest)


@pytest.mark.parametrize("place", ["a" * 300, "/".join(["a" * 200] * 40), "~nobody-of-this-name/a.png", "\udcff", "\0"])
def test_a_path_that_can_not_be_is_refused(place: str) -> None:
    with pytest.raises(FileNotFoundError):
        photos.load_image(place)


# ----------------------------------------------------------------------------------------- addresses


class Server(BaseHTTPRequestHandler):
    """Answers /NAME with the method NAME."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        with suppress(OSError):  # the reader has gone: that is what it should do
            getattr(self, self.path.partition("?")[0].strip("/"))()

    def head(self, code: int = 200, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def pour(self) -> None:
        """A gigabyte at most, counted."""
        for _ in range(2**14):
            self.wfile.write(bytes(2**16))
            self.server.sent += 2**16

    def drip(self) -> None:
        """A byte each tenth of a second, for half a minute at most."""
        for _ in range(300):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def picture(self) -> None:
        self.head(Content_Length=len(encoded()))
        self.wfile.write(encoded())

    def redirect(self) -> None:
        self.head(302, Location=self.path.partition("?")[2])

    def loop(self) -> None:
        self.head(302, Location="/loop")

    def longer(self) -> None:
        self.head(302, Location=self.path + ("x" if "?" in self.path else "?"))

    def pouring_redirect(self) -> None:
        self.head(302, Location="/picture")
        self.pour()

    def claims_much(self) -> None:
        self.head(Content_Length=10**12)
        self.pour()

    def claims_less(self) -> None:
        self.head(Content_Length=100)
        self.wfile.write(encoded())

    def claims_more(self) -> None:
        self.head(Content_Length=len(encoded()))
        self.wfile.write(encoded()[:-200])

    def endless(self) -> None:
        self.head()
        self.pour()

    def endless_chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.head(Transfer_Encoding="chunked")
        for _ in range(2**14):
            self.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
            self.server.sent += 2**16

    def dripping(self) -> None:
        self.head()
        self.drip()

    def dripping_head(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        self.drip()

    def silent(self) -> None:
        time.sleep(5)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """What a server was asked for, how many bytes it poured, and its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.asked, server.sent, server.daemon_threads = [], 0, True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}"
    yield server
    server.shutdown()
    server.server_close()


def test_a_picture_comes_through_also_from_where_it_has_moved(server) -> None:
    for address in ("/picture", "/redirect?/picture", f"/redirect?{server.url}/redirect?/picture", "/pouring_redirect"):
        assert torch.equal(photos.load_image(server.url + address), photos.decode(encoded()))
    assert photos.load_image(server.url.upper() + "/picture").shape == (3, 224, 224)
    assert server.sent < 2**25  # what comes along with a redirect is not read


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.png", "data:,x", "javascript:alert(1)"])
def test_a_redirect_leads_to_http_only(target: str, server) -> None:
    for address in (target, f"{server.url}/redirect?{target}"):
        with pytest.raises(ValueError, match=f"{target[:4]}.* is not allowed"):
            photos.load_image(f"{server.url}/redirect?{address}")
    assert len(server.asked) == 3


@pytest.mark.parametrize("address", ["/loop", "/longer"])
def test_redirects_without_end_are_refused(address: str, server) -> None:
    with pytest.raises(FileNotFoundError, match="redirect"):
        photos.load_image(server.url + address)
    assert 1 < len(server.asked) <= pictures.MAX_REDIRECTS + 1


def test_what_says_that_it_is_too_large_is_not_read(server) -> None:
    with pytest.raises(ValueError, match="claims_much has more than 20 MB"):
        photos.load_image(server.url + "/claims_much")
    assert server.sent < 2**25  # what the sockets hold


@pytest.mark.parametrize("address", ["/endless", "/endless_chunks"])
def test_what_has_no_end_is_not_read_for_long(address: str, server, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 10**6)
    with pytest.raises(ValueError, match="has more than 1 MB"):
        photos.load_image(server.url + address)
    assert server.sent < 2**25


@pytest.mark.parametrize("address", ["/claims_less", "/claims_more"])
def test_a_picture_that_is_shorter_or_longer_than_the_server_says_is_refused(address: str, server) -> None:
    with pytest.raises(ValueError, match="is no picture that can be read"):
        photos.load_image(server.url + address)


@pytest.mark.parametrize("address", ["/dripping", "/dripping_head", "/silent", "/redirect?/dripping"])
def test_a_slow_server_does_not_hold_us_beyond_the_limit(address: str, server, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "MAX_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="can't be reached.*(longer than 1 s|timed out).*give its path"):
        photos.load_image(server.url + address)
    assert 0.9 < time.monotonic() - start < 4


# -------------------------------------------------------------------------------------- source files

# What runs code that comes with data, unless the keyword has this value.
UNSAFE: dict[str, tuple[str, bool] | None] = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    **dict.fromkeys(["pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "dill.loads"]),
    **dict.fromkeys(["marshal.loads", "shelve.open", "pandas.read_pickle", "torch.hub.load", "eval", "exec"]),
    **dict.fromkeys(["yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "os.system"]),
}
JUSTIFIED = {
    ("helpers/checks/submission.py", "pickle.loads"): "the messages are the grader's; what a submission says is not",
}


def unsafe_calls(source: str) -> list[str]:
    """The dotted names of the unsafe functions that a program calls, hands on or imports under another name."""
    tree, origins, found = ast.parse(source), {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins |= {name.asname or name.name.partition(".")[0]: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom):
            origins |= {name.asname or name.name: f"{node.module}.{name.name}" for name in node.names}
    safe = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = {option.arg: getattr(option.value, "value", None) for option in node.keywords}
            name = _dotted(node.func, origins)
            # Without the keyword, NumPy is safe and PyTorch was not before 2.6.
            if name == "numpy.load" and given.get("allow_pickle", False) is False:
                safe.add(node.func)
            if name == "torch.load" and given.get("weights_only") is True:
                safe.add(node.func)
        if isinstance(node, ast.Name | ast.Attribute) and node not in safe and _dotted(node, origins) in UNSAFE:
            found.append(_dotted(node, origins))
    return found


def _dotted(node: ast.AST, origins: dict[str, str]) -> str:
    first, dot, rest = ast.unparse(node).partition(".")
    return origins.get(first, {"np": "numpy", "pd": "pandas"}.get(first, first)) + dot + rest


def programs() -> Iterator[tuple[str, str]]:
    """Every Python program of the project, the code of a notebook being one: (path, source)."""
    for folder in ("helpers", "tools", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").glob("*.ipynb")]):
        cells = nbformat.read(path, as_version=4).cells
        source = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        yield path.relative_to(ROOT).as_posix(), re.sub(r"^( *)[%!].*", r"\1pass", source, flags=re.MULTILINE)


def test_no_program_runs_code_that_comes_with_data() -> None:
    sources = list(programs())
    assert len(sources) > 40 and sum(name.endswith(".ipynb") for name, _ in sources) >= 11
    found = {(name, call) for name, source in sources for call in unsafe_calls(source)}
    assert found == set(JUSTIFIED)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f)",
        "import torch as t\nt.load(f, weights_only=False)",
        "from torch import load\nload(f, map_location='cpu')",
        "import torch\ntorch.load(f, weights_only=flag)",
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import pickle\nlist(map(pickle.loads, parts))",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import joblib\njoblib.load(f)",
        "eval(text)",
        "exec(text)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
    ],
)
def test_the_search_finds_it(source: str) -> None:
    assert len(unsafe_calls(source)) == 1


def test_the_search_finds_nothing_else() -> None:
    safe = (
        "import torch\ntorch.load(f, weights_only=True)\nnp.load(f)\nmodel.eval()\nyaml.safe_load(text)\njson.load(f)"
    )
    assert unsafe_calls(safe + "\nphotos.load('coffee')\nmodels.load()") == []


# ------------------------------------------------------------------------------------------- weights


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


FORMS: dict[str, Callable[[object, Any], None]] = {
    "zip": torch.save,
    "before 1.6": lambda found, file: torch.save(found, file, _use_new_zipfile_serialization=False),
    "pickle": lambda found, file: pickle.dump(found, file),
}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "lecturenet", "squeezenet1_1"])
@pytest.mark.parametrize("form", FORMS)
def test_weights_that_are_a_program_are_not_run(form: str, name: str, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    for number, content in enumerate([Malicious(executed), {"conv1.weight": Malicious(executed)}]):
        path = tmp_path / f"weights{number}.pth"
        with path.open("wb") as file:
            FORMS[form](content, file)
        with pytest.raises(ValueError, match=path.name):
            models.load(name, weights=path, device="cpu")
        assert not executed.exists()
    if form == "pickle":  # it would have worked
        pickle.loads(path.read_bytes())
        assert executed.exists()


NAMES = sorted(models.available())


@fuzz(100)
@given(
    st.one_of(
        st.text(),
        st.tuples(st.sampled_from(NAMES), st.text(max_size=3)).map("".join),
        st.sampled_from(NAMES).map(str.upper),
        st.none()
        | st.integers()
        | st.binary()
        | st.floats()
        | st.lists(st.text())
        | st.dictionaries(st.text(), st.text()),
    ).filter(lambda name: not isinstance(name, str) or name not in NAMES)
)
def test_a_random_name_is_unknown(name: Any) -> None:
    with pytest.raises(LookupError, match="unknown model"):
        models.load(name)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A file for the content at hand."""
    return tmp_path_factory.mktemp("fuzz") / "weights.bin"


def refused(name: str, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="weights"):
        models.load(name, weights=path, device="cpu")


SMALL = {"conv1.weight": torch.zeros(2, 3), "start": torch.zeros(2)}
SAFETENSORS = save(SMALL, metadata={"categories": '["cat"]'})
_sheet = io.BytesIO()
torch.save(SMALL, _sheet)
ZIP = _sheet.getvalue()


@pytest.mark.parametrize("name", ["lecturenet", "squeezenet1_1"])
@fuzz(30)
@given(start=st.sampled_from([SAFETENSORS, ZIP, b""]), length=st.integers(0, 2000), rest=st.binary(max_size=100))
def test_damaged_weights_are_refused(name: str, place: Path, start: bytes, length: int, rest: bytes) -> None:
    refused(name, place, start[:length] + rest)


@fuzz(60)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(-1, 2**70), st.booleans())
def test_a_header_that_claims_too_much_is_refused(place: Path, length: int, start: int, size: int, real: bool) -> None:
    tensor = {"dtype": "F32", "shape": [size], "data_offsets": [start, start + 4 * size]}
    header = json.dumps({"__metadata__": {"categories": '["cat"]'}, "start": tensor}).encode()
    refused("lecturenet", place, struct.pack("<Q", len(header) if real else length) + header)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
STATE = models.LectureNet(2).state_dict() | {"start": torch.zeros(64, 3, 11, 11)}


@fuzz(15)
@given(JSON.filter(lambda found: not (isinstance(found, list) and len(found) == 2)))
def test_categories_that_are_none_are_refused(place: Path, categories: Any) -> None:
    refused("lecturenet", place, save(STATE, metadata={"categories": json.dumps(categories)}))


@fuzz(15)
@given(
    st.sampled_from(sorted(STATE)),
    st.sampled_from(["missing", "renamed", "flat", "scalar", "empty", "one more"]),
)
def test_weights_with_other_names_or_shapes_are_refused(place: Path, key: str, change: str) -> None:
    state = dict(STATE)
    tensor = state[key] if change == "one more" else state.pop(key)
    new = {
        "missing": {},
        "renamed": {key + "x": tensor},
        "flat": {key: tensor.flatten()[:-1]},
        "scalar": {key: tensor.flatten()[0].clone()},
        "empty": {key: torch.zeros(0)},
        "one more": {"extra": tensor.clone()},
    }[change]
    refused("lecturenet", place, save(state | new, metadata={"categories": '["cat", "dog"]'}))


@pytest.mark.parametrize("path", ["a" * 300, "\0", "/dev/zero", "/", "\udcff"])
def test_weights_that_can_not_be_there_are_not_found(path: str) -> None:
    for name in ("lecturenet", "squeezenet1_1"):
        with pytest.raises(FileNotFoundError, match="no file of weights"):
            models.load(name, weights=path, device="cpu")


# ------------------------------------------------------------------------------------------- answers

LABELS = [f"{chapter}.{number}" for chapter in range(1, 11) for number in range(1, 4)]


@fuzz(150)
@given(
    st.one_of(
        st.text(),
        st.from_regex(r"-?[0-9]{1,3}\.[0-9]{1,3}\n?", fullmatch=True),
        JSON,
        st.binary(),
        st.sampled_from(
            [torch.zeros(2), np.array(LABELS), np.array("5.1"), object, len, "5.1\0", " 5.1", "٥.١", "\udcff"]
        ),
    ).filter(lambda label: not isinstance(label, str) or label not in LABELS)
)
def test_a_random_label_is_unknown(label: Any) -> None:
    with pytest.raises(LookupError, match="There is no exercise"):
        checks.check(label, len)


class Hostile(Exception):
    """Everything about it fails."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__

    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise self

    def __float__(self) -> float:
        raise SystemExit


def raising(error: BaseException) -> Callable:
    def answer(*arguments: Any) -> None:
        raise error

    return answer


ITSELF: list = []
ITSELF.append(ITSELF)
RETURNED = [None, ..., "", "text", "\udcff", b"\xff", 0, -1.5, 1j, 10**400, float("nan"), float("inf"), object(), len]
RETURNED += [[], {}, set(), [[]], [1, [2, 3]], [None], ITSELF, (1, "a"), Hostile(), Hostile, iter([]), range(3)]
RETURNED += [np.zeros(0), np.array(["a"]), np.array([{}, None]), np.array("2024", "datetime64"), np.zeros(2, "i4,f4")]
RETURNED += [torch.zeros(0), torch.ones(3, 4, dtype=torch.bool), torch.zeros(2, dtype=torch.complex64).conj()]
RETURNED += [torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(1).expand(10**15), nbformat]
RETURNED += [torch.quantize_per_tensor(torch.zeros(3), 1.0, 0, torch.qint8), torch.zeros(2, requires_grad=True)]
RETURNED += [{"found": torch.zeros(3)}, [torch.zeros(2), torch.zeros(3)], torch.nn.Linear(2, 2), Image.new("L", (2, 2))]
ERRORS = [
    Hostile(),
    Hostile,
    SystemExit(0),
    RecursionError(),
    MemoryError(),
    Exception("\udcff\x1b[2J\0"),
    StopIteration(),
]
ERRORS += [
    KeyError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
    AssertionError(),
    GeneratorExit,
    Wrong("\udcff"),
]
ANSWERS = [*RETURNED, *(raising(error) for error in ERRORS if error is not GeneratorExit)]
ANSWERS += [lambda *a, found=found: found for found in RETURNED]
ANSWERS += [lambda *a: a, lambda *a: a[0], lambda: 3, lambda *a, **k: k, lambda a: a, max, sum, repr, int, dict, type]
ANSWERS += [
    lambda *a: [part.zero_() for part in a if isinstance(part, torch.Tensor)],
    torch.zeros,
    np.array,
    Image.open,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("label", LABELS[::2])
@fuzz(25)
@given(answer=st.sampled_from(ANSWERS) | JSON)
def test_an_odd_answer_is_wrong(label: str, answer: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        patch.setattr("sys.stdout", printed)
        assert checks.check(label, answer) is False
        printed.flush()
    text = printed.buffer.getvalue().decode()
    assert f"{label} not yet: " in text and "\x1b" not in text and len(text) < 5000


def laughs(depth: int) -> list:
    found: list = [0.0] * 10
    for _ in range(depth):
        found = [found] * 10
    return found


@pytest.mark.parametrize("value", [torch.zeros(1).expand(3 * 10**9), {"a": laughs(30)}, "x" * 2**27])
@pytest.mark.parametrize("part", ["value", "wrong"])
def test_a_small_message_can_not_fill_the_graders_memory(part: str, value: Any) -> None:
    sheet = io.BytesIO()
    torch.save({part: value}, sheet)
    process = SimpleNamespace(ask=lambda *arguments: sheet.getvalue(), limits=grading.Limits())
    with pytest.raises(Wrong, match="too large"):
        grading.Remote(process, checks.find("5.1"))(1)


# ----------------------------------------------------------------------------------------- notebooks


@contextmanager
def nothing_runs(sources: list[str], limits: grading.Limits) -> Iterator[None]:
    assert all(isinstance(source, str) for source in sources)
    raise Wrong("not run")
    yield


def marked_or_refused(path: Path) -> None:
    """What `grade` promises, up to the process that it would start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grading, "running", nothing_runs)
        try:
            assert [result.passed for result in grading.grade(path)] == [False] * 3
        except ValueError as error:
            assert path.name in str(error)


@fuzz(100)
@given(
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | JSON.map(lambda x: json.dumps(x).encode())
)
def test_a_random_file_is_no_notebook(place: Path, content: bytes) -> None:
    place.write_bytes(content)
    with pytest.raises(ValueError, match="no notebook"):
        grading.grade(place)


CELL = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["code", "markdown"]) | JSON, "source": st.text() | st.lists(st.text()) | JSON},
    optional={"metadata": JSON, "outputs": JSON},
)


@fuzz(150)
@given(st.fixed_dictionaries({"cells": st.lists(CELL | JSON, max_size=3) | JSON}, optional={"metadata": JSON}))
def test_a_notebook_with_wrong_types_is_marked_or_refused(place: Path, notebook: Any) -> None:
    path = place.with_name("05_x.ipynb")
    path.write_text(json.dumps(notebook), encoding="utf-8")
    marked_or_refused(path)


@fuzz(100)
@given(
    st.text(max_size=5),
    st.from_regex(r"check\( *[\"'][0-9]{1,9}\.[0-9]", fullmatch=True) | st.just("check('" + "9" * 5000 + ".1"),
)
def test_a_chapter_is_told_or_asked_for(place: Path, name: str, source: str) -> None:
    path = place.with_name("".join(c for c in name if c.isalnum()) + "x.ipynb")
    path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": source}]}), encoding="utf-8")
    marked_or_refused(path)


def test_one_bad_file_costs_only_its_own_mark(tmp_path: Path, capfd) -> None:
    """Whatever lies in the folder, the one good notebook gets its marks, and the files with the marks are written."""
    drop = """
        def drop(model, image, target, box):
            raise Exception("\\udcff\\x1b[2J\\n  5.1  1  passed")
    """
    cells = [nbformat.v4.new_code_cell("import os\nif True:" + drop)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "05_good\udcff.ipynb")
    bad = {
        "bytes": bytes(range(256)),
        "utf16": '{"cells": []}'.encode("utf-16"),
        "invalid": b'{"cells": [{"cell_type": "code", "source": "\xff"}]}',
        "empty": b"",
        "deep": b"[" * 10**6,
        "deep cells": b'{"cells": ' + b'{"a":' * 10**5,
        "long number": b'{"cells": ' + b"9" * 10**4 + b"}",
        "cells": b'{"cells": {"a": 1}}',
        "cell": b'{"cells": [1, null]}',
        "source": b'{"cells": [{"cell_type": "code", "source": [1]}]}',
        "chapter": json.dumps({"cells": [{"cell_type": "code", "source": f"check('{'9' * 5000}.1"}]}).encode(),
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.ipynb").write_bytes(content)
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "loop.ipynb").symlink_to(tmp_path / "loop.ipynb")
    (tmp_path / "gone.ipynb").symlink_to(tmp_path / "nowhere")
    (tmp_path / "zero.ipynb").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.ipynb")
    with (tmp_path / "long.ipynb").open("wb") as file:
        file.truncate(grading.NOTEBOOK + 1)
    files = ["--json", str(tmp_path / "marks.json"), "--csv", str(tmp_path / "marks.csv")]
    assert main([str(tmp_path), "--call", "20", *files]) == 1
    rows = json.loads((tmp_path / "marks.json").read_text(encoding="utf-8"))
    assert [(row["exercise"], row["mark"]) for row in rows] == [("5.1", 0), ("5.2", 0), ("5.3", 0)]
    assert "Your code raised Exception" in rows[0]["message"] and (tmp_path / "marks.csv").stat().st_size > 100
    printed = capfd.readouterr()
    assert "\x1b" not in printed.out and "\n  5.1  1" not in printed.out
    for name in itertools.chain(bad, ("folder", "loop", "gone", "zero", "pipe", "long")):
        assert f"{name}.ipynb: " in printed.err
