"""Fixtures that several test modules share."""

import functools
import http.server
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from chapters import CHECKED
from playwright.sync_api import Browser, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from install_browser import find  # noqa: E402

# One thread unless asked for: the networks are small, and threads that wait for each other took six times as long.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """Every device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture
def exact_device(device) -> torch.device:
    """Every device that computes in float64."""
    if device.type == "mps":
        pytest.skip("MPS has no float64")
    return device


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Networks that a test makes without a seed are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def small(tmp_path: Path) -> tuple[nbformat.NotebookNode, Path]:
    """A notebook of one checked cell that was run, and where to write it."""
    output = nbformat.v4.new_output("stream", name="stdout", text="share: 0.72\n")
    cell = nbformat.v4.new_code_cell("print(f'share: {18 / 25:.2f}')", execution_count=1, outputs=[output])
    cell.metadata["tags"] = [CHECKED]
    return nbformat.v4.new_notebook(cells=[cell]), tmp_path / "small.ipynb"


FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium."""
    path = find()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium: under CI the browser tests must run")
        pytest.skip("no Chromium on this machine: install the package `chromium`")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """From a folder with a site to the site's address, below /some/path/."""
    servers = []

    def start(site: Path) -> str:
        folder = tmp_path_factory.mktemp("www")
        (folder / "some").mkdir()
        (folder / "some" / "path").symlink_to(site, target_is_directory=True)
        handler = functools.partial(_Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/some/path/"

    yield start
    for server in servers:
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass
