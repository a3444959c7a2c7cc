"""The atlas of the built site in headless Chromium: by mouse, keyboard and link, on a phone, without scripts."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PATH = "book/atlas.html"
HTML = (SITE / PATH).read_text("utf-8") if (SITE / PATH).is_file() else ""
CHANNELS = re.findall(r'<section class="atlas-channel" id="([^"]+)"', HTML)
TWO = ["lecturenet-relu5-12", "efficientnet_lite0-stage3-17"]  # one that a chapter names, and one below another stage
AXE = ROOT / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def base(serve: Callable[[Path], str]) -> str:
    return serve(SITE)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page whose errors, and whose requests to other hosts, fail the test."""
    page, faults = browser.new_page(viewport={"width": 1280, "height": 900}), []
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda response: response.status >= 400 and faults.append(f"{response.status} {response.url}"))
    yield page
    page.close()
    assert faults == []


def loaded(page: Page, selector: str) -> int:
    """How many pictures the selector finds; all of them must come."""
    pictures = page.locator(selector).all()
    for picture in pictures:
        picture.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
    return len(pictures)


def shown(page: Page) -> list[str]:
    """The channels that are open."""
    return page.locator(".atlas-channel:visible").evaluate_all("all => all.map(one => one.id)")


def test_the_page_is_there() -> None:
    assert len(CHANNELS) > 200 and set(TWO[:1]) <= set(CHANNELS), "run `make site` first"


def test_a_click_opens_a_channel_and_another_one_closes_it(page: Page, base: str) -> None:
    page.goto(base + PATH)
    assert shown(page) == []
    for channel in (CHANNELS[3], CHANNELS[100], TWO[0]):
        tile = page.locator(f"#at-{channel}")
        tile.click()
        assert shown(page) == [channel]
        assert loaded(page, f"#{channel} img") == 2
        above, below = tile.bounding_box(), page.locator(f"#{channel}").bounding_box()
        assert 0 <= below["y"] - above["y"] - above["height"] < 20, "it opens below the row of its picture"
    tile.click()
    assert shown(page) == []
    tile.click()
    page.locator(f"#{channel} .atlas-close").click()
    assert shown(page) == []
    expect(tile).to_be_focused()
    page.go_back()
    assert shown(page) != []


def test_by_keyboard_alone(page: Page, base: str) -> None:
    page.goto(base + PATH)
    first = page.locator(".atlas-tile").first
    page.locator("h3").first.evaluate("one => { one.tabIndex = -1; one.focus(); }")
    for _ in range(5):  # the heading's own link comes first
        page.keyboard.press("Tab")
        if first.evaluate("one => one === document.activeElement"):
            break
    expect(first).to_be_focused()
    assert first.evaluate("one => getComputedStyle(one).outlineStyle") != "none", "the focus can't be seen"
    tiles = page.locator(".atlas").first.locator(".atlas-tile")
    columns = len(set(tiles.evaluate_all("all => all.map(one => one.offsetLeft)")))
    for key, place in (("Right", 1), ("Down", 1 + columns), ("Left", columns), ("Up", 0), ("Left", 0), ("Right", 1)):
        page.keyboard.press(f"Arrow{key}")
        expect(tiles.nth(place)).to_be_focused()
    page.keyboard.press("Enter")
    assert shown(page) == [CHANNELS[1]]
    expect(page.locator(f"#{CHANNELS[1]}")).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert shown(page) == [CHANNELS[2]]
    expect(page.locator(f"#{CHANNELS[2]}")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "atlas-close"
    page.keyboard.press("Escape")
    assert shown(page) == []
    expect(tiles.nth(2)).to_be_focused()


@pytest.mark.parametrize("way", ["server", "file"])
@pytest.mark.parametrize("channel", TWO)
def test_a_link_opens_its_channel(page: Page, base: str, channel: str, way: str) -> None:
    page.goto(f"{base if way == 'server' else f'{SITE.as_uri()}/'}{PATH}#{channel}")
    assert shown(page) == [channel]
    expect(page.locator(f"#{channel}")).to_be_focused()
    expect(page.locator(f"#{channel}")).to_be_in_viewport()
    assert loaded(page, f"#{channel} img") == 2
    page.keyboard.press("Escape")
    assert shown(page) == []
    expect(page.locator(f"#at-{channel}")).to_be_focused()
    expect(page.locator(f"#at-{channel}")).to_be_in_viewport()


def test_without_scripts_it_opens_and_closes(browser: Browser, base: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base + PATH)
    page.locator(f"#at-{TWO[0]}").click()
    assert page.locator(".atlas-channel:visible").count() == 1
    expect(page.locator(f"#{TWO[0]}")).to_be_visible()
    page.locator(f"#{TWO[0]} .atlas-close").click()
    assert page.locator(".atlas-channel:visible").count() == 0
    context.close()


def test_on_a_phone(browser: Browser, base: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(base + PATH)
    for channel in TWO:
        tile = page.locator(f"#at-{channel}")
        assert min(tile.bounding_box()[side] for side in ("width", "height")) >= 44, "too small for a thumb"
        tile.tap()
        assert shown(page) == [channel]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for link in page.locator(f"#{channel} a").all():
            assert link.bounding_box()["height"] >= 34
    context.close()


def test_every_picture_comes_and_says_what_it_shows(page: Page, base: str) -> None:
    """The grids by looking at them; the pictures of closed channels by asking for them."""
    page.goto(base + PATH)
    assert loaded(page, ".atlas-tile img") == len(CHANNELS)
    missing = page.locator(".atlas-channel img").evaluate_all(
        """async all => (await Promise.all(all.map(async one => {
            const copy = new Image();
            copy.src = one.src;
            await copy.decode().catch(() => {});
            return copy.naturalWidth === Number(one.getAttribute('width')) ? [] : one.src;
        }))).flat()"""
    )
    assert missing == []
    texts = page.locator(".atlas img").evaluate_all("all => all.map(one => one.alt)")
    assert len(texts) == 3 * len(CHANNELS) and all(len(text.split()) > 5 for text in texts)
    tiles = page.locator(".atlas-tile img").evaluate_all("all => all.map(one => one.alt)")
    assert len(set(tiles)) == len(CHANNELS)


def test_a_visit_is_light_until_one_looks_further(page: Page, base: str) -> None:
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(base + PATH, wait_until="networkidle")
    pictures = [answer for answer in answers if "/_static/atlas/" in answer.url]
    assert not [answer for answer in pictures if answer.url.endswith(".webp")]
    texts = [answer for answer in answers if urlsplit(answer.url).path.endswith((".html", ".js", ".css", ".svg"))]
    size = sum(len(gzip.compress(answer.body(), 6) if answer in texts else answer.body()) for answer in answers)
    assert size < 1e6  # as servers of pages send it
    folder = SITE / "_static" / "atlas"
    assert sum(file.stat().st_size for file in folder.iterdir()) + (SITE / PATH).stat().st_size < 6e6


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_a_reader_out_of_an_open_channel(page: Page, base: str, theme: str) -> None:
    page.goto(f"{base}{PATH}#{TWO[0]}", wait_until="networkidle")
    page.add_style_tag(content="* { transition: none !important }")
    page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
    page.add_script_tag(path=AXE)
    found = page.evaluate(
        """async () => (await axe.run('.bd-article', {resultTypes: ['violations']})).violations
            .filter(({impact}) => ['serious', 'critical'].includes(impact))
            .map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)}`)"""
    )
    assert found == []
