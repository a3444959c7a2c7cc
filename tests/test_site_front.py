"""The front page of the built site in headless Chromium: its cards, its weight, its demo on a phone.

That the demo shows what was embedded, by mouse and by keyboard, is in test_site_demos.py.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PATH = "book/index.html"
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
AXE = ROOT / "node_modules/axe-core/axe.min.js"
DEMO = '.demo-host[data-demo="index-1"]'


@pytest.fixture(scope="module")
def base(serve: Callable[[Path], str]) -> str:
    return serve(SITE)


def ready(page: Page, base: str) -> None:
    page.goto(base + PATH)
    page.wait_for_selector(f"{DEMO}[data-ready]")


def to_the_end(page: Page) -> None:
    for top in range(0, page.evaluate("document.documentElement.scrollHeight"), 500):
        page.evaluate("top => scrollTo(0, top)", top)
        page.wait_for_timeout(50)
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chapter_has_a_card_with_its_picture(browser: Browser, base: str, theme: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=theme)
    page.goto(base + PATH)
    to_the_end(page)
    found = page.locator(".cards > li").evaluate_all(
        """all => all.map(card => {
            const seen = [...card.querySelectorAll('img')].filter(one => one.getClientRects().length);
            return [card.querySelector('a').getAttribute('href'), card.querySelector('a').textContent,
                seen.length, seen[0].naturalWidth, seen[0].alt.split(' ').length];
        })"""
    )
    page.close()
    addresses = [f"../notebooks/{name}.html" for name in CHAPTERS] + ["../book/scoreboard.html", "atlas.html"]
    assert [address for address, *_ in found] == addresses
    for address, title, count, width, words in found:
        heading = re.search(r"<h1>(.*?)<(?:a|/h1)", (SITE / "book" / address).read_text("utf-8"), re.S)[1]
        assert title == heading.strip()
        assert (count, width) == (1, 360) and words > 3


def test_a_click_anywhere_on_a_card_leads_to_its_chapter(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base + PATH)
    page.locator(".cards > li").nth(4).click(position={"x": 20, "y": 20})
    page.wait_for_url(f"{base}notebooks/{CHAPTERS[4]}.html")
    page.close()


def test_a_card_shows_its_focus(browser: Browser, base: str) -> None:
    page = browser.new_page()
    page.goto(base + PATH)
    card = page.locator(".cards > li").first
    style = "one => getComputedStyle(one).outlineStyle"
    assert card.evaluate(style) == "none"
    page.locator(".cards > li").first.evaluate("one => { one.tabIndex = -1; one.focus(); }")
    page.keyboard.press("Tab")
    expect(card.locator("a")).to_be_focused()
    assert card.evaluate(style) == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}notebooks/{CHAPTERS[0]}.html")
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_all_of_it_weighs_less_than_a_megabyte(browser: Browser, base: str, width: int) -> None:
    """The whole visit with what the theme brings, read to the end, as servers of pages send it."""
    page, answers = browser.new_page(viewport={"width": width, "height": 844}), []
    page.on("response", lambda answer: answers.append(answer))
    ready(page, base)
    page.locator(DEMO).get_by_label("espresso").check()
    to_the_end(page)
    sizes = {}
    for answer in answers:
        path = urlsplit(answer.url).path
        if not answer.url.startswith(("data:", "blob:")) and answer.status == 200:
            body = answer.body()
            text = path.endswith((".html", ".js", ".css", ".svg"))
            sizes[path] = len(gzip.compress(body, 6)) if text else len(body)
    page.close()
    assert any("index-1.js" in path for path in sizes) and sum(".webp" in path for path in sizes) >= 14
    assert sum(sizes.values()) < 1e6, sorted(sizes.items(), key=lambda one: -one[1])[:8]


def test_on_a_phone_the_class_is_chosen_beside_the_maps(browser: Browser, base: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    ready(page, base)
    host = page.locator(DEMO)
    choices, picture = host.locator(".demo-control").first, host.locator(".demo-picture")
    choices.scroll_into_view_if_needed()
    above, below = choices.bounding_box(), picture.bounding_box()
    assert 0 < below["y"] - above["y"] < 120, "the buttons stand just above"
    assert below["y"] + below["height"] - above["y"] < 600, "both fit on the screen"
    says = host.locator(".demo-says")
    host.get_by_label("flamingo").tap()
    expect(says).to_contain_text("All methods for flamingo (probability below 0.01)")
    host.get_by_label("guided backpropagation").tap()
    expect(says).to_contain_text("Guided backpropagation for flamingo (probability below 0.01)")
    to_the_end(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_keeps_a_reader_out_of_a_running_demo(browser: Browser, base: str, theme: str) -> None:
    page = browser.new_page(color_scheme=theme)
    ready(page, base)
    page.locator(DEMO).get_by_label("Grad-CAM", exact=True).check()
    page.add_style_tag(content="* { transition: none !important }")
    page.add_script_tag(path=AXE)
    found = page.evaluate(
        """async () => (await axe.run({resultTypes: ['violations']})).violations
            .filter(({impact}) => ['serious', 'critical'].includes(impact))
            .map(({id, nodes}) => `${id}: ${nodes[0].html.slice(0, 200)}`)"""
    )
    page.close()
    assert found == []


def test_without_scripts_the_first_picture_and_the_cards_are_there(browser: Browser, base: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base + PATH)
    expect(page.locator(f"{DEMO} img")).to_be_visible()
    expect(page.locator(f"{DEMO} .demo-says")).to_contain_text("All methods for tiger cat (probability 0.")
    assert page.locator(".cards a").count() == len(CHAPTERS) + 2
    context.close()
