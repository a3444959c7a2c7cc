"""Print the built site as one PDF: ``pdf.py FILE.pdf``, as a rule into the site, whose pages then link to it.

The pages of ``_build/html`` are put one after the other into a single document, which headless Chromium prints with
print.css, so that outline, tags for screen readers and fonts are Chromium's own. It does not know on which page a
link's target is: it prints twice, and the second time the table of contents holds the numbers that pypdf found in the
first. Demos become their first picture, solutions move to the end, links that lead out become numbers with a list at
the end of a chapter.
"""

from __future__ import annotations

import functools
import http.server
import io
import re
import sys
import threading
from pathlib import Path
from urllib.parse import urldefrag, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

import helpers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/release"))

from address import find as find_address  # noqa: E402
from install_browser import find as find_browser  # noqa: E402
from offered import offer  # noqa: E402

SITE = ROOT / "_build" / "html"
STYLE = Path(__file__).with_name("print.css")
LEFT_OUT = ("book/playground", "book/timings")  # a program, and a table for those who change the book
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
TITLE = "Visualizing and Understanding CNNs"
COVER = """<section class="cover"><h1>{title}</h1><img src="/_static/methods.webp" alt="">
<p>Ten methods that look inside convolutional networks, each from scratch and each checked by a number.</p>
<p>Version {version}. Text and figures are under CC BY 4.0, code is under BSD-3-Clause; photographs and weights, see the
credits.</p>
<p>Folded code is left out here: it is in the notebooks, which lie beside the live pages.</p></section>
<nav class="contents"><h1>Contents</h1><ol>{rows}</ol></nav>"""


def pages() -> list[str]:
    """The pages of the book in its order, as ``notebooks/05_occlusion``."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [name for name in files if name not in LEFT_OUT]


def key(page: str, anchor: str = "") -> str:
    """The id in the document of what has the id ``anchor`` on a page."""
    return f"{page.replace('/', '-')}{'--' * bool(anchor)}{anchor}"


class Book:
    """The document in the making."""

    def __init__(self, address: str) -> None:
        self.address = address  # of the live site
        self.pages = pages()
        self.soup = BeautifulSoup("", "html.parser")
        self.solutions: dict[str, list[Tag]] = {}
        self.titles: dict[str, str] = {}

    def chapter(self, page: str) -> Tag:
        """A page as a section, with its links led to where they lead in the document."""
        text = (SITE / f"{page}.html").read_text(encoding="utf-8")
        article = BeautifulSoup(text, "html.parser").find("article", class_="bd-article")
        section = self.soup.new_tag("section", attrs={"class": "chapter", "id": key(page), "data-page": page})
        section.extend(list(article.children))
        for found in section.select(
            "[hidden], .headerlink, .launches, script, style, link, noscript, .prev-next-area, button"
        ):
            found.decompose()
        self._demos(section, page)
        self._folded(section)
        for found in section.find_all(id=True):
            if found is not section:
                found["id"] = key(page, found["id"])
        for picture in section.select(".only-dark"):
            picture.decompose()
        for strips in section.select(".strips"):
            for picture in strips.find_all("img"):
                picture["style"] = f"width: {95 / min(4, len(strips.find_all('img'))):.0f}%"
        for picture in section.find_all("img"):
            picture["src"] = urljoin(f"/{page}.html", picture["src"])
            picture.attrs.pop("loading", None)
        self._links(section, page)
        self.titles[page] = section.find("h1").get_text().strip()
        self.solutions[page] = [found.extract() for found in section.select("div.admonition.solution")]
        return section

    def _demos(self, section: Tag, page: str) -> None:
        """A demo's first picture, its sentence, and where the live one is."""
        for host in section.select(".demo-host"):
            figure = self.soup.new_tag("figure", attrs={"class": "demo-print"})
            stand = self.soup.new_tag("div", attrs={"class": "demo-stand"})
            ground = host.select_one(".demo-picture")
            under = re.search(r"background-image:\s*url\(([^)]+)\)", ground.get("style", ""))
            if under:
                stand.append(self.soup.new_tag("img", attrs={"src": under[1].strip("'\""), "alt": ""}))
            stand.append(host.find("img").extract())
            caption = self.soup.new_tag("figcaption")
            where = f"{self.address}{page}.html" if self.address else "on the book's page"
            caption.string = f"Demo. {host.select_one('.demo-says').get_text()} Live: {where}"
            figure.extend([stand, caption])
            host.replace_with(figure)

    def _folded(self, section: Tag) -> None:
        """Folded code stays in the notebooks, and so does the set-up; other asides are opened."""
        if setup := section.select_one("div.cell"):
            setup.decompose()
        for cell in section.select("div.cell details"):
            cell.decompose()
        for details in section.find_all("details"):
            details["open"] = ""
        for found in section.select(".toggle, .dropdown"):
            found["class"] = [name for name in found["class"] if name not in ("toggle", "toggle-hidden", "dropdown")]

    def _links(self, section: Tag, page: str) -> None:
        outside: dict[str, int] = {}
        for link in section.find_all("a", href=True):
            address, anchor = urldefrag(urljoin(f"/{page}.html", link["href"]))
            target = address.removeprefix("/").removesuffix(".html")
            if not urlsplit(address).scheme and target in self.pages:
                link["href"] = f"#{key(target, anchor)}"
                continue
            if not urlsplit(address).scheme:
                link["href"] = address = f"{self.address}{address.removeprefix('/')}{'#' * bool(anchor)}{anchor}"
            if link.get_text().strip() == address:
                continue
            mark = self.soup.new_tag("sup", attrs={"class": "address"})
            mark.string = str(outside.setdefault(link["href"], len(outside) + 1))
            link.insert_after(mark)
        if outside:
            listed = self.soup.new_tag("ol", attrs={"class": "addresses", "aria-label": "Addresses of the links"})
            for address in outside:
                item = self.soup.new_tag("li")
                item.string = address
                listed.append(item)
            section.append(listed)

    def document(self, numbers: dict[str, int]) -> str:
        """All of the book; ``numbers``: from a section's id to its page."""
        chapters = [self.chapter(page) for page in self.pages]
        answers = self.soup.new_tag("section", attrs={"class": "chapter", "id": "solutions"})
        heading = self.soup.new_tag("h1")
        heading.string = "Solutions"
        answers.append(heading)
        for page, found in self.solutions.items():
            if found:
                heading = self.soup.new_tag("h2")
                heading.string = self.titles[page]
                answers.extend([heading, *found])
        chapters.append(answers)
        titles = self.titles | {"solutions": "Solutions"}
        rows = "".join(
            f'<li><a href="#{key(page)}">{title}</a><span>{numbers.get(key(page), "")}</span></li>'
            for page, title in titles.items()
        )
        heads = "".join(
            f'@page p{number} {{ @top-left {{ content: "{title}"; }} }}\n#{key(page)} {{ page: p{number}; }}\n'
            for number, (page, title) in enumerate(titles.items())
        )
        cover = COVER.format(title=TITLE, version=helpers.__version__, rows=rows)
        body = "".join(map(str, chapters))
        styles = "".join(
            f'<link rel="stylesheet" href="/_static/{path}">'
            for path in ("pygments.css", "book.css", "demos/demos.css")
        )
        classes = "ignoreHtmlClass: 'mathjax_ignore', processHtmlClass: 'math'"  # as Sphinx has them
        math = f"<script>MathJax = {{options: {{enableMenu: false, {classes}}}}};</script>"
        math += '<script src="/_static/mathjax/tex-mml-chtml.js"></script>'
        return (
            f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{TITLE}</title>'
            f"{styles}<style>{STYLE.read_text(encoding='utf-8')}{heads}</style>{math}</head>"
            f'<body><main class="bd-content"><div class="bd-article">{cover}{body}</div></main></body></html>'
        )


def starts(pdf: bytes) -> dict[str, int]:
    """From the name of each target in the PDF to its page, counted from 1."""
    reader = PdfReader(io.BytesIO(pdf))
    found = {}
    for name, target in reader.named_destinations.items():
        found[name.removeprefix("/")] = reader.get_destination_page_number(target) + 1
    return found


class _Site(http.server.SimpleHTTPRequestHandler):
    document = ""

    def do_GET(self) -> None:
        if self.path != "/print.html":
            return super().do_GET()
        data = self.document.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments) -> None:
        pass


def print_book(address: str) -> bytes:
    """The PDF."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Site, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    numbers: dict[str, int] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=FLAGS)
        for _ in range(2):
            _Site.document = Book(address).document(numbers)
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/print.html", wait_until="networkidle", timeout=120_000)
            page.evaluate("MathJax.startup.promise")
            page.evaluate("Promise.all([...document.images].map((picture) => picture.decode().catch(() => {})))")
            pdf = page.pdf(prefer_css_page_size=True, print_background=True, tagged=True, outline=True)
            page.close()
            numbers = starts(pdf)
        browser.close()
    server.shutdown()
    return pdf


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    address = find_address()
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(print_book(address.pages if address else ""))
    if path.resolve().parent == SITE:
        offer(SITE)
    print(f"{path}: {len(PdfReader(path).pages)} pages, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
