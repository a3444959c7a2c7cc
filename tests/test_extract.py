"""tools/extract.py: two processes give what one gives, also after one was killed; nothing grows with the set."""

import contextlib
import gzip
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import traceback
from pathlib import Path

import extract
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import activations, datasets, embedding, models, photos
from helpers.reading.shards import DATA

TOOL = Path(__file__).parents[1] / "tools" / "extract.py"

OPTIONS = ["--network", "lecturenet", "--layer", "relu2", "--k", "3", "--size", "64", "--shard", "4", "--batch", "3"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def picture(number, side=72):
    random = np.random.default_rng(number)
    coarse = random.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A hundred pictures in two folders, and a file that is none."""
    root = tmp_path_factory.mktemp("photographs")
    for number in range(100):
        path = root / ("a" if number < 50 else "b") / f"{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number))
    (root / "a" / "010x.png").write_bytes(b"no picture")
    return root


def command(source, out, *options, processes=1):
    return [*([sys.executable] if processes == 1 else TORCHRUN), str(TOOL), str(source), str(out), *OPTIONS, *options]


def run(*arguments, **options):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command(*arguments, **options), env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def refuse(monkeypatch):
    """What a run that ends in an error says, without another process that would first import PyTorch for seconds."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", command(*arguments)[1:])
        monkeypatch.setenv("TQDM_DISABLE", "1")
        with contextlib.redirect_stderr(io.StringIO()) as said:
            try:
                code = extract.main()
            except Exception:
                code = 1
                traceback.print_exc()
        assert code == 1
        return said.getvalue()

    return call


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    result = run(folder, out)
    assert result.returncode == 0, result.stderr
    return out


def same(first, second):
    assert (first / "names.txt").read_text() == (second / "names.txt").read_text()
    np.testing.assert_allclose(np.load(first / "features.npy"), np.load(second / "features.npy"), rtol=1e-6, atol=1e-6)
    ours, theirs = (torch.load(out / "top_patches.pt", weights_only=True) for out in (first, second))
    for name in ("index", "boxes"):
        assert torch.equal(ours[name], theirs[name])
    torch.testing.assert_close(ours["values"], theirs["values"])
    assert (first / "broken.txt").read_text() == (second / "broken.txt").read_text()


def test_one_process_gives_what_the_functions_give(folder, alone):
    names = (alone / "names.txt").read_text().splitlines()
    assert names == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png") if p.name != "010x.png")
    images = torch.stack([photos.load_image(folder / name, 64) for name in names])
    model = models.load("lecturenet", device="cpu")
    np.testing.assert_allclose(np.load(alone / "features.npy"), embedding.features(model, images).numpy(), atol=1e-5)
    top = activations.top_patches(model, "relu2", images, 3)
    found = torch.load(alone / "top_patches.pt", weights_only=True)
    assert torch.equal(found["index"], top.index)
    assert found["boxes"].tolist() == [[list(box) for box in row] for row in top.boxes]
    torch.testing.assert_close(found["values"], top.values)
    assert "010x.png" in (alone / "broken.txt").read_text()


def test_two_processes_give_the_same(folder, alone, tmp_path):
    result = run(folder, tmp_path, processes=2)
    assert result.returncode == 0, result.stderr
    assert "2 processes" in result.stdout
    same(alone, tmp_path)


def kill(word):
    """Kill, without a chance to tidy up, every process that was started with ``word`` as a part of its command."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)


def test_a_killed_run_goes_on(folder, alone, tmp_path):
    """Both processes are killed at the first finished shards; one process alone finishes, and repeats none of them."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    started = subprocess.Popen(
        command(folder, tmp_path, processes=2), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("shards/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.001)
    kill(str(tmp_path))
    started.wait()
    time.sleep(0.5)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shards/*.pt")}
    assert 0 < len(before) < 26 and not (tmp_path / "names.txt").exists()
    result = run(folder, tmp_path)
    assert result.returncode == 0, result.stderr
    assert {name: (tmp_path / "shards" / name).stat().st_mtime_ns for name in before} == before
    assert re.search(r"100 pictures, (\d+) of them", result.stdout)[1] != "100"
    same(alone, tmp_path)


def test_tar_files_are_shards(folder, alone, tmp_path):
    (tmp_path / "tars").mkdir()
    for part in ("a", "b"):
        with tarfile.open(tmp_path / "tars" / f"{part}.tar", "w") as archive:
            for path in sorted((folder / part).iterdir()):
                archive.add(path, path.name)
                label = tarfile.TarInfo(path.stem + ".cls")
                label.size = 1
                archive.addfile(label, io.BytesIO(b"7"))
    result = run(tmp_path / "tars", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "out/features.npy"), np.load(alone / "features.npy"), rtol=1e-6, atol=1e-6
    )
    assert (tmp_path / "out/names.txt").read_text() == (alone / "names.txt").read_text().replace("/", ".tar/")


def test_it_runs_on_the_shards_of_the_package(tmp_path):
    """On one of them: its rows are the features of what `datasets.groceries` gives."""
    (tmp_path / "in").mkdir()
    shard = "groceries-test-000002.tar"
    shutil.copy(DATA / shard, tmp_path / "in")
    result = run(tmp_path / "in", tmp_path / "out", "--batch", "32")
    assert result.returncode == 0, result.stderr
    names = (tmp_path / "out/names.txt").read_text().splitlines()
    data = datasets.groceries("test", size=64)
    first = len(data) - len(names)
    assert 100 < len(names) < len(data) and (tmp_path / "out/broken.txt").read_text() == ""
    assert names == [f"{shard}/{Path(name).name}" for name in data.names[first:]]
    expected = embedding.features(models.load("lecturenet", device="cpu"), data.images[first:])
    np.testing.assert_allclose(np.load(tmp_path / "out/features.npy"), expected.numpy(), atol=1e-5)


def hostile(content):
    """A tar file: cut, compressed, or with one member that claims to be a picture of a petabyte, all of it a hole."""
    header = tarfile.TarInfo("large.png")
    header.size = 2**31
    data = header.tobuf(tarfile.GNU_FORMAT)
    if content == "sparse":  # GNU's old format: no data, real size at offset 483
        data = bytearray(data)
        data[156:157], data[124:136], data[483:495] = b"S", b"%011o\0" % 0, b"\x80" + (2**50).to_bytes(11)
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    return {"cut": bytes(data), "sparse": bytes(data) + bytes(1024), "gzip": gzip.compress(bytes(10**6))}[content]


@pytest.mark.parametrize("content", ["cut", "gzip", "sparse"])
def test_a_hostile_tar_file_costs_an_error(refuse, tmp_path, content):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(hostile(content))
    said = refuse(tmp_path / "in", tmp_path / "out")
    if content == "sparse":
        assert "none of the files is a picture" in said
        assert "a.tar/large.png has more than 20 MB" in (tmp_path / "out/broken.txt").read_text()
    else:
        assert "a.tar is damaged" in said


def test_another_run_is_refused(refuse, folder, alone, tmp_path):
    shutil.copytree(alone, tmp_path / "copy")
    assert "other size" in refuse(folder, tmp_path / "copy", "--size", "32")
    said = refuse(tmp_path, tmp_path / "copy")
    assert "no pictures" in said or "other" in said


@pytest.mark.parametrize("option, value, near", [("--layer", "rulu2", "relu2"), ("--network", "lecture", "lecturenet")])
def test_a_wrong_name_begins_no_run(refuse, folder, tmp_path, option, value, near):
    """So that the corrected command finds no other run in its way."""
    said = refuse(folder, tmp_path, option, value)
    assert value in said and near in said
    assert "Traceback" not in said and not list(tmp_path.iterdir())


def test_without_any_picture_it_says_why(refuse, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "in" / name).write_bytes(b"no picture")
    assert "broken.txt" in refuse(tmp_path / "in", tmp_path / "out")
    assert [name in (tmp_path / "out/broken.txt").read_text() for name in ("a.png", "b.jpg")] == [True, True]


def test_memory_does_not_grow_with_the_set(tmp_path):
    """Six hundred pictures more would be 118 MB as tensors."""
    data, peaks = picture(0, 128), []
    for count in (60, 660):
        (tmp_path / str(count)).mkdir()
        for number in range(count):
            (tmp_path / str(count) / f"{number}.png").write_bytes(data)
        result = run(
            tmp_path / str(count), tmp_path / f"out{count}", "--size", "128", "--shard", "330", "--batch", "16"
        )
        assert result.returncode == 0, result.stderr
        peaks.append(int(re.search(r"at most (\d+) MB", result.stdout)[1]))
    assert peaks[1] - peaks[0] < 50
