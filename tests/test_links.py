"""The register of links that lead out: complete, well formed, and right about what it finds."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import links
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
ENTRIES = json.loads((ROOT / links.REGISTER).read_text(encoding="utf-8"))
PLAIN = {"http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/"}  # as scikit-image names the origin


def test_the_register_has_every_link_and_no_other() -> None:
    assert [(entry["url"], entry["where"]) for entry in ENTRIES] == list(links.collect().items()), (
        "run `.venv/bin/python tools/release/links.py`"
    )
    assert len(ENTRIES) > 80


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["url"])
def test_an_entry_is_well_formed_and_honest(entry: dict) -> None:
    assert set(entry) == {"url", "where", "checked", "result"}
    parts = urlsplit(entry["url"])
    assert parts.scheme == "https" or entry["url"] in PLAIN
    assert "." in parts.netloc and not parts.username
    assert (entry["checked"] is None) == (entry["result"] == "not checked")
    if entry["checked"]:
        time.strptime(entry["checked"], "%Y-%m-%d")
        assert entry["result"] == "refused" or entry["result"].startswith("ok")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/")
        if name == "silent":
            time.sleep(3)
        if name == "moved":
            self.send_response(301)
            self.send_header("Location", "/200")
        elif name == "get-only":
            self.send_response(405 if self.command == "HEAD" else 200)
        else:
            self.send_response(int(name) if name.isdigit() else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("200", "ok"),
        ("moved", "ok, moved to "),
        ("get-only", "ok"),
        ("403", "refused"),
        ("429", "refused"),
        ("404", "broken: 404"),
        ("500", "broken: 500"),
        ("silent", "not reached: "),
    ],
)
def test_what_a_link_leads_to(base: str, path: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "LIMIT", 0.5)
    found = links.check(base + path)
    assert found == expected or (expected.endswith(" ") and found.startswith(expected))


def test_a_host_that_is_not_there() -> None:
    assert links.check("http://127.0.0.1:9/").startswith("not reached: ")


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book of one page."""
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "book/references.bib", tmp_path / "book")
    (tmp_path / "README.md").write_text("See [a](https://example.org/a_(b)), (https://example.org/c). <https://d.org/>")
    return tmp_path


def test_links_are_found_and_kept_and_dropped(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [url for url, names in links.collect(book).items() if names == ["README.md"]]
    assert urls == ["https://d.org/", "https://example.org/a_(b)", "https://example.org/c"]
    monkeypatch.setattr(links, "check", lambda url: "broken: 404" if url.endswith("/c") else "ok")
    assert links.main(["--check"], book) == 1
    entries = {entry["url"]: entry for entry in json.loads((book / links.REGISTER).read_text())}
    assert entries["https://example.org/c"]["result"] == "broken: 404"
    (book / "README.md").write_text("<https://d.org/> and https://new.org.")
    assert links.main([], book) == 0
    entries = {entry["url"]: entry for entry in json.loads((book / links.REGISTER).read_text())}
    assert entries["https://d.org/"]["result"] == "ok"  # it is still known
    assert entries["https://new.org"]["checked"] is None
    assert "https://example.org/c" not in entries


def test_no_network_says_nothing_about_a_link(book: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(links, "check", lambda url: "not reached: no route")
    links.main([], book)
    before = (book / links.REGISTER).read_text()
    assert links.main(["--check"], book) == 2
    assert "No network" in capsys.readouterr().out
    assert (book / links.REGISTER).read_text() == before


def test_a_proxy_that_refuses_is_no_network(book: Path, base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers http itself, and opens no tunnel for https."""
    proxy = urllib.request.ProxyHandler({"http": base, "https": base})
    monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(proxy))
    (book / "README.md").write_text("<http://d.org/> <https://d.org/>")
    (book / "book/references.bib").write_text("")
    assert links.check("http://d.org/") == "ok"  # from the proxy, not from the host
    assert links.check("https://d.org/").startswith("not reached")
    assert links.main(["--check"], book) == 2
    assert not (book / links.REGISTER).exists()


def test_one_host_that_is_not_reached_is_a_fault(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "check", lambda url: "not reached: no such host" if "d.org" in url else "ok")
    assert links.main(["--check"], book) == 1


def test_every_source_is_read_and_examples_are_not_links(book: Path) -> None:
    cells = [nbformat.v4.new_markdown_cell("<https://a.org/notebook>")]
    for folder in ("notebooks", "book"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells), book / folder / "x.ipynb")
    (book / "helpers").mkdir()
    names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "book/x.md", "helpers/x.py"]
    for name in names:
        (book / name).write_text("https://a.org/text http://localhost:8/a.html https://127.0.0.1/ https://example.com/")
    found = {url: where for url, where in links.collect(book).items() if "book/references.bib" not in where}
    assert found == {
        "https://a.org/notebook": ["book/x.ipynb", "notebooks/x.ipynb"],
        "https://a.org/text": sorted(names),
    }
