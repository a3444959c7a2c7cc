"""The built site in headless Chromium, served from a sub-path: every page, wide and narrow, light and dark."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob("*.html")
    if not path.relative_to(SITE).parts[0].startswith("_")
    and path != SITE / "index.html"  # it leads to book/index.html
)
CONTENT = [page for page in PAGES if page.startswith(("book/", "notebooks/"))]


def test_the_site_is_there() -> None:
    assert CONTENT, "run `make site` first"
    assert {page for page in PAGES if page.startswith("notebooks/")} == {
        f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")
    }


def test_the_root_leads_on_and_has_an_icon() -> None:
    """Else a browser asks for a favicon.ico that is not there. (A headless one asks for none, so the file is read.)"""
    root = (SITE / "index.html").read_text(encoding="utf-8")
    targets = re.findall(r'(?:url=|rel="icon"[^>]*href=")([^"]+)"', root)
    assert [(SITE / target).is_file() for target in targets] == [True, True], root


@pytest.fixture(scope="module")
def base(serve: Callable[[Path], str]) -> str:
    return serve(SITE)


@pytest.fixture(params=[(1280, "light"), (390, "dark")], ids=["desktop", "phone"])
def view(request: pytest.FixtureRequest) -> tuple[int, str]:
    """Width and colours. Layout does not depend on colours, so that two pairs show what four would."""
    return request.param


@pytest.fixture
def mode(view: tuple[int, str]) -> str:
    return view[1]


@pytest.fixture
def page(browser: Browser, view: tuple[int, str]) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": view[0], "height": 844}, color_scheme=view[1])
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_page_opens_whole(page: Page, base: str, path: str, mode: str) -> None:
    """One visit: no error, no other host, nothing wider than the screen, every picture described and the mode's own."""
    faults = []
    page.on("console", lambda message: message.type in ("error", "warning") and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda response: response.status >= 400 and faults.append(f"{response.status} {response.url}"))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda request: request.url.startswith((base, "data:", "blob:")) or faults.append(f"other host: {request.url}"),
    )
    assert page.goto(base + path, wait_until="load").status == 200
    page.wait_for_load_state("networkidle")
    for details in page.locator("details").all():  # what is folded must fit, too
        details.evaluate("element => element.open = true")
    assert _too_wide(page) == []
    pictures = page.locator(".bd-article img").all()
    if path.startswith("notebooks/"):
        assert len(pictures) >= 2
    other = {"light": "only-dark", "dark": "only-light"}[mode]
    for picture in pictures:
        alt = "image => image.closest('[role=img]')?.getAttribute('aria-label') ?? image.alt"  # strips share one
        assert len(picture.evaluate(alt).split()) >= 2
        style = picture.evaluate(
            "image => (({display, backgroundColor}) => [display, backgroundColor])(getComputedStyle(image))"
        )
        hidden = style[0] == "none"
        assert style[1] == "rgba(0, 0, 0, 0)", "the theme frames the picture"
        assert hidden == (other in (picture.get_attribute("class") or ""))
        if picture.is_visible():
            picture.scroll_into_view_if_needed()
            page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
    assert faults == []


def test_panels_wrap_on_a_phone(browser: Browser, base: str) -> None:
    """A figure of three panels shows all of them: nothing has to be pushed sideways."""
    page, cut = browser.new_context(viewport={"width": 390, "height": 844}).new_page(), 0
    for path in (path for path in CONTENT if path.startswith("notebooks/")):
        page.goto(base + path, wait_until="load")
        for figure in page.locator(".book-figure.strips").all():
            if figure.is_visible():
                cut += 1
                assert figure.evaluate("box => box.scrollWidth <= box.clientWidth"), path
    page.set_viewport_size({"width": 1280, "height": 844})
    for figure in page.locator(".book-figure.strips").all():  # side by side where there is room
        tops = figure.locator("img:visible").evaluate_all("images => images.map(image => image.offsetTop)")
        assert len(set(tops)) <= 1
    assert cut >= 20
    page.context.close()


def _too_wide(page: Page) -> list[str]:
    """The parts of the article that reach over the right edge of the screen, unless they scroll inside something."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const page = document.documentElement.scrollWidth > width ? ['the whole page'] : [];
            return page.concat([...document.querySelectorAll('.bd-article *')].filter(element => {
                for (let box = element; box && !box.matches('.bd-article'); box = box.parentElement)
                    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(box).overflowX)) return false;
                return element.getBoundingClientRect().right > width + 1;
            }).map(element => element.outerHTML.slice(0, 120)));
        }"""
    )


@pytest.mark.parametrize("path", CONTENT)
def test_formulas_are_set(browser: Browser, base: str, path: str) -> None:
    page = browser.new_page()
    page.goto(base + path, wait_until="networkidle")
    formulas = page.locator(".math")
    if formulas.count():
        page.wait_for_function("document.querySelectorAll('.math mjx-container').length > 0")
        assert page.locator(".math mjx-container").count() >= formulas.count()
        assert page.locator("mjx-merror").count() == 0
    assert not re.search(r"\$\$|\\begin\{|\{(term|cite|ref|doc)[:}]", page.locator(".bd-article").inner_text())
    page.close()


@pytest.mark.parametrize("path", [page for page in CONTENT if page.startswith("notebooks/")])
def test_exercises_carry_the_chapters_number(path: str) -> None:
    numbers = re.findall(r'class="caption-number">Exercise ([\d.]+)', (SITE / path).read_text(encoding="utf-8"))
    chapter = int(Path(path).name[:2])
    assert numbers
    assert numbers == [f"{chapter}.{number}" for number in range(1, len(numbers) + 1)]


def test_the_first_page_leads_to_the_book(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base)
    page.wait_for_url(base + "book/index.html")
    assert "Visualizing" in page.title()
    page.close()


def test_too_wide_a_thing_is_noticed(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base + CONTENT[0])
    assert _too_wide(page) == []
    page.evaluate("document.querySelector('.bd-article').insertAdjacentHTML('beforeend', '<p style=width:3000px>wide')")
    assert any("3000px" in element for element in _too_wide(page))
    page.close()


def test_the_mode_can_be_switched_by_keyboard(browser: Browser, base: str) -> None:
    page = browser.new_context(color_scheme="light").new_page()
    page.goto(base + CONTENT[-1], wait_until="networkidle")
    seen = set()
    button = page.locator("button.theme-switch-button:visible").first
    for _ in range(3):
        button.focus()
        page.keyboard.press("Enter")
        seen.add(page.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"light", "dark"}


def test_search_finds_a_word(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base + "search.html?q=occlusion", wait_until="networkidle")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li").count() >= 2
    page.close()


AXE = ROOT / "node_modules/axe-core/axe.min.js"


def _barriers(page: Page, rules: str = "") -> list[str]:
    """What axe-core finds that is serious or critical, but in the thousands of elements that MathJax makes."""
    page.add_script_tag(path=AXE)
    return page.evaluate(
        """async rules => (await axe.run({exclude: ['mjx-container']},
            {resultTypes: ['violations'], ...(rules && {runOnly: rules})})).violations
            .filter(({impact}) => ['serious', 'critical'].includes(impact))
            .map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)}`)""",
        rules,
    )


@pytest.mark.parametrize("path", PAGES)
def test_nothing_serious_keeps_a_reader_out(browser: Browser, base: str, path: str) -> None:
    page = browser.new_page()
    page.goto(base + path, wait_until="networkidle")
    page.add_style_tag(content="* { transition: none !important }")  # else axe measures colours that are on the way
    for theme, rules in (("light", ""), ("dark", "color-contrast")):  # the themes differ in their colours only
        page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        assert _barriers(page, rules) == [], theme
    page.close()


def test_a_barrier_is_noticed(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base + CONTENT[0])
    page.evaluate("document.querySelector('.bd-article').insertAdjacentHTML('beforeend', '<button></button>')")
    assert any("button-name" in barrier for barrier in _barriers(page))
    page.close()


def _anchors(text: str) -> set[str]:
    return set(re.findall(r'\sid="([^"]+)"', text))


@pytest.mark.parametrize("path", PAGES)
def test_links_inside_the_site_lead_somewhere(path: str) -> None:
    """No browser needed: every address on the page is a file of the site, every fragment an id in it."""
    broken = []
    for link in re.findall(r'\s(?:href|src)="([^"]+)"', (SITE / path).read_text(encoding="utf-8")):
        address, fragment = urldefrag(urljoin(f"http://site/{path}", link.replace("&amp;", "&")))
        parts = urlsplit(address)
        if parts.netloc != "site" or parts.scheme not in ("http", "https"):
            continue
        target = SITE / unquote(parts.path).lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        anchors = _anchors(target.read_text("utf-8")) if target.is_file() and target.suffix == ".html" else {fragment}
        if not target.is_file() or fragment and unquote(fragment) not in anchors:
            broken.append(link)
    assert broken == []


def test_nothing_of_other_hosts_is_loaded() -> None:
    """Only what the reader clicks may lead elsewhere: no script, style or picture has another host's address."""
    pattern = re.compile(
        r'<(?:script|img|iframe|source|link rel="(?!canonical))[^>]*(?:src|href)="(?:https?:)?//[^"]+"'
    )
    for path in PAGES:
        assert pattern.findall((SITE / path).read_text(encoding="utf-8")) == [], path


WATCH = """
window.shift = 0; window.largest = 0;
const watch = (type, see) =>
    new PerformanceObserver(list => list.getEntries().forEach(see)).observe({type, buffered: true});
watch('layout-shift', entry => window.shift += entry.hadRecentInput ? 0 : entry.value);
watch('largest-contentful-paint', entry => window.largest = entry.startTime);
"""


def _visit(browser: Browser, address: str, width: int, before: str = "") -> tuple[float, float, float]:
    """Read a page to its end: seconds to the largest paint, cumulative layout shift, MB as servers send them."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.add_init_script(WATCH + before)
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(address, wait_until="networkidle")
    page.wait_for_function("window.largest > 0")
    seconds = page.evaluate("window.largest") / 1000
    for top in range(0, page.evaluate("document.documentElement.scrollHeight"), 600):
        page.evaluate("top => scrollTo(0, top)", top)
        page.wait_for_timeout(40)
    page.wait_for_load_state("networkidle")
    shift, size = page.evaluate("window.shift"), 0
    for answer in answers:
        body = b"" if answer.url.startswith(("data:", "blob:")) else answer.body()
        text = urlsplit(answer.url).path.endswith((".html", ".js", ".css", ".svg"))
        size += len(gzip.compress(body, 6) if text else body)  # http.server does not, the servers of pages do
    page.close()
    return seconds, shift, size / 1e6


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", CONTENT)
def test_page_is_quick_steady_and_light(browser: Browser, base: str, path: str, width: int) -> None:
    visits = []
    for _ in range(5):  # other work on the machine can disturb a visit
        seconds, shift, size = _visit(browser, base + path, width)
        assert size <= 3.5
        if seconds <= 1.5 and shift <= 0.05:
            return
        visits.append(f"largest paint after {seconds:.1f} s, layout shift {shift:.2f}")
    pytest.fail("; ".join(visits))


def test_a_late_paint_a_shift_and_weight_are_noticed(browser: Browser, base: str) -> None:
    late = """addEventListener('load', () => setTimeout(() => document.querySelector('.bd-article').insertAdjacentHTML(
        'afterbegin', `<p style="font-size: 40px">${'late '.repeat(200)}</p>`), 300));"""
    address = base + "book/setup.html"
    slow, shifted, _ = _visit(browser, address, 1280, late)
    visits = [_visit(browser, address, 1280) for _ in range(3)]  # other work on the machine can disturb a visit
    quick, steady, light = map(min, zip(*visits))
    assert quick < slow and steady < 0.05 < shifted
    heavy = _visit(browser, address, 1280, f"fetch('{base}_static/mathjax/tex-mml-chtml.js')")[2]
    assert 0.2 < heavy - light < 1
