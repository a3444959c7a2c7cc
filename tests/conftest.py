"""Fixtures that several test modules share."""

import functools
import http.server
import os
import statistics
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
import torch
from chapters import CHECKED
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path[:0] = [str(TOOLS / group) for group in ("site", "release", "data", "")]  # for every test
from install_browser import find  # noqa: E402

# One thread unless asked for: the networks are small, and threads that wait for each other took six times as long.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

settings.register_profile("book", derandomize=True)  # the same examples in every run
settings.load_profile("book")

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


# ----------------------------------------------------------------------------- tests of a random outcome

THIN = 3  # standard deviations: a bound that is nearer to what is measured is a matter of luck


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=1, help="how many seeds each test marked `random` runs with")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    seeds = metafunc.config.getoption("--seeds")
    if seeds > 1 and metafunc.definition.get_closest_marker("random"):
        metafunc.parametrize("seed", range(seeds))


@pytest.fixture
def seed() -> int:
    """What a test marked `random` draws its numbers from: 0, or each of ``--seeds``."""
    return 0


@pytest.fixture(autouse=True)
def same_random_numbers(seed: int) -> None:
    """Networks that a test makes without a seed are the same in every run."""
    torch.manual_seed(seed)


@pytest.fixture
def claim(record_property) -> Callable[..., None]:
    """Assert that a number lies above or below a bound, and note it for the table of ``--seeds``."""

    def check(value: float, *, above: float | None = None, below: float | None = None) -> None:
        value, above, below = (None if one is None else float(one) for one in (value, above, below))
        record_property("claim", (value, above, below))
        assert above is None or value > above
        assert below is None or value < below

    return check


def margins(reporter: pytest.TerminalReporter) -> dict[str, tuple[int, int, float, str]]:
    """Of each marked test: runs, failures, and the smallest margin of its claims with the number nearest to a bound.

    A margin is the distance of the mean over the seeds from the bound, in standard deviations over the seeds.
    """
    reports = [report for kind in ("passed", "failed", "error") for report in reporter.stats.get(kind, [])]
    runs, failures, claims = defaultdict(int), defaultdict(int), defaultdict(lambda: defaultdict(list))
    for report in reports:
        if "random" not in report.keywords or (report.when != "call" and report.passed):
            continue
        test = report.nodeid.partition("[")[0]
        runs[test] += 1
        failures[test] += report.failed
        noted = [value for name, value in report.user_properties if name == "claim"]
        for place, (value, above, below) in enumerate(noted):
            for sign, bound in ((1, above), (-1, below)):
                if bound is not None:
                    claims[test][place, sign, bound].append(value)
    table = {}
    for test in runs:
        closest = (float("inf"), "")
        for (_, sign, bound), values in claims[test].items():
            distance, spread = sign * (statistics.fmean(values) - bound), statistics.pstdev(values)
            nearest = min(values, key=lambda value: sign * value)
            said = f"{nearest:.4g} {'>' if sign > 0 else '<'} {bound:.4g}"
            closest = min(closest, (distance / spread if spread else float("inf") * distance, said))
        table[test] = (runs[test], failures[test], *closest)
    return table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--seeds") > 1:
        terminalreporter.section("seeds: failures, smallest margin in standard deviations, number nearest to a bound")
        for test, (runs, failures, margin, said) in sorted(margins(terminalreporter).items()):
            line = f"{failures:3}/{runs:<4} {margin:6.1f}  {said:24} {test}" + ("  THIN" if margin < THIN else "")
            terminalreporter.line(line, red=bool(failures) or margin < THIN)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A thin margin fails the run, as a failure does."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--seeds") > 1 and reporter and exitstatus == 0:
        session.exitstatus = int(any(margin < THIN for _, _, margin, _ in margins(reporter).values()))


@pytest.fixture
def small(tmp_path: Path) -> tuple[nbformat.NotebookNode, Path]:
    """A notebook of one checked cell that was run, and where to write it."""
    output = nbformat.v4.new_output("stream", name="stdout", text="share: 0.72\n")
    cell = nbformat.v4.new_code_cell("print(f'share: {18 / 25:.2f}')", execution_count=1, outputs=[output])
    cell.metadata["tags"] = [CHECKED]
    return nbformat.v4.new_notebook(cells=[cell]), tmp_path / "small.ipynb"


FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream"]


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
