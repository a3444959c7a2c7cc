"""The register of links that lead out of the book, in book/links.json: ``links.py`` or ``links.py --check``.

Without an option it is brought up to date: new links come in as not checked, and those that are gone leave it. With
``--check`` each is followed, and the date and what was found are written down; the exit status is 1 if a link is
broken, and 2 if there is no network, which says nothing about any link.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from pybtex.database import parse_file
from tqdm.auto import tqdm

ROOT = Path(__file__).resolve().parents[2]
REGISTER = Path("book/links.json")
LIMIT = 20  # seconds for one answer
AGENT = "Mozilla/5.0 (compatible; visualizing-cnns link check)"
NOT_CHECKED = {"checked": None, "result": "not checked"}
URL = re.compile(r"https?://[^\s<>\"'`{}|\\^\]]+")
PUNCTUATION = ".,;:!?*"
OWN = (
    "https://github.com/owner",
    "https://github.com/OWNER",
    "https://github.com/{",
    *(f"{scheme}://{host}" for scheme in ("http", "https") for host in ("localhost", "127.", "example.com")),
)


def texts(root: Path) -> dict[str, str]:
    """What readers see, by the name of the file that it stands in."""
    names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-TEXT", "_config.yml"]
    paths = [root / name for name in names] + [*root.glob("book/*.md"), *root.glob("helpers/**/*.py")]
    found = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths if path.exists()}
    for path in [*root.glob("notebooks/*.ipynb"), *root.glob("book/*.ipynb")]:
        cells = nbformat.read(path, as_version=4).cells
        found[path.relative_to(root).as_posix()] = "\n\n".join(cell.source for cell in cells)
    return found


def collect(root: Path = ROOT) -> dict[str, list[str]]:
    """Every address that leads out of the book, and the files that name it."""
    where: dict[str, set[str]] = {}
    for name, text in texts(root).items():
        for match in URL.findall(text):
            url = match.rstrip(PUNCTUATION)
            while url.count(")") > url.count("("):  # Markdown's, not the address's
                url = url[: url.rindex(")")].rstrip(PUNCTUATION)
            if "." in url and "…" not in match and not url.startswith(OWN):
                where.setdefault(url, set()).add(name)
    for work in parse_file(root / "book/references.bib").entries.values():
        fields = work.fields
        made = {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}
        for url in (form.format(fields[field]) for field, form in made.items() if field in fields):
            where.setdefault(url, set()).add("book/references.bib")
    return {url: sorted(names) for url, names in sorted(where.items())}


def updated(root: Path = ROOT) -> list[dict]:
    """The register for the links that are there now, with what is known of each."""
    path = root / REGISTER
    known = {entry["url"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))} if path.exists() else {}
    return [NOT_CHECKED | known.get(url, {}) | {"url": url, "where": names} for url, names in collect(root).items()]


def check(url: str) -> str:
    """What came of following the link: "ok", "refused" (a host that wants no programs), or what went wrong."""
    for method in ("HEAD", "GET"):
        request = urllib.request.Request(url, method=method, headers={"User-Agent": AGENT})
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return "ok" if answer.url.rstrip("/") == url.rstrip("/") else f"ok, moved to {answer.url}"
        except urllib.error.HTTPError as error:
            if method == "GET":
                return "refused" if error.code in (401, 403, 418, 429, 999) else f"broken: {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            if method == "GET":
                return f"not reached: {getattr(error, 'reason', error)}"
    raise AssertionError("GET returns")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="follow each link")
    follow = parser.parse_args(arguments).check
    register = updated(root)
    status = 0
    if follow:
        with ThreadPoolExecutor(8) as pool:
            urls = [entry["url"] for entry in register]
            results = list(tqdm(pool.map(check, urls), total=len(urls), desc="links", unit="link"))
        answers = [result for url, result in zip(urls, results) if url.startswith("https:")]  # a proxy can't give these
        if all(result.startswith("not reached") for result in answers):
            print(f"No network: none of {len(results)} links could be followed, and nothing was written.")
            return 2
        for entry, result in zip(register, results):
            entry |= {"checked": datetime.date.today().isoformat(), "result": result}
        faults = [entry for entry in register if entry["result"].startswith(("broken", "not reached"))]
        for entry in faults:
            print(f"{entry['url']} ({', '.join(entry['where'])}): {entry['result']}")
        status = 1 if faults else 0
        print(f"{len(register)} links, {len(faults)} of them broken.")
    (root / REGISTER).write_text(json.dumps(register, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
