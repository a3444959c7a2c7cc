"""Every demo of the built site in headless Chromium: with the mouse, with the keyboard alone, by touch.

`play` is the check. It holds what the page shows against the scene that the build embedded, and it is shown to fail on
copies of the site that are broken in one place each.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Error, Page

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PAGES = [*sorted(SITE.glob("notebooks/*.html")), SITE / "book/index.html"]
MARK = re.compile(r'class="demo-host" data-demo="([^"]+)"')
DEMOS = [name for path in PAGES if path.is_file() for name in MARK.findall(path.read_text("utf-8"))]
MOST = 12  # choices tried of one control, spots of one pad


def page_of(name: str) -> str:
    chapter = name.rpartition("-")[0]
    return f"{'book' if chapter == 'index' else 'notebooks'}/{chapter}.html"


def scene_of(name: str, site: Path = SITE) -> dict:
    text = (site / f"_static/demos/{name}.js").read_text("utf-8")
    return json.loads(text.removeprefix(f'bookDemo("{name}",').removesuffix(");\n"))


def test_every_demo_of_a_chapter_is_on_its_page() -> None:
    made = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        texts = [
            output.get("data", {}).get("text/plain", "")
            for cell in nbformat.read(path, as_version=4).cells
            for output in cell.get("outputs", [])
        ]
        made += [f"{path.stem}-{number}" for number in range(1, sum(text.startswith("Demo: ") for text in texts) + 1)]
        code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
        assert len(re.findall(r"(?m)^demos\.\w+\.show\(", code)) == sum(name.startswith(path.stem) for name in made)
    assert made
    assert [*made, "index-1"] == DEMOS


class Player:
    """A demo on an open page, and the choices that it should show."""

    def __init__(self, page: Page, name: str, scene: dict) -> None:
        self.page, self.scene, self.choice = page, scene, list(scene["start"])
        self.host = page.locator(f'.demo-host[data-demo="{name}"]')
        self.seen: dict[tuple, tuple] = {}

    @property
    def frame(self) -> dict:
        place = 0
        for names, choice in zip(self.scene["controls"], self.choice):
            place = place * len(names) + choice
        return self.scene["frames"][place]

    def holds(self) -> None:
        """The page shows the frame of `choice`: picture, what is under it, numbers, texts, state of the controls."""
        frame, host = self.frame, self.host
        shown = host.evaluate(
            """async host => {
                const bytes = async address => {
                    const data = new Uint8Array(await (await fetch(address)).arrayBuffer());
                    return btoa(Array.from(data, byte => String.fromCharCode(byte)).join(''));
                };
                const picture = host.querySelector('img'), text = place => place.textContent;
                await picture.decode();
                const under = getComputedStyle(picture.parentElement).backgroundImage;
                return {
                    picture: await bytes(picture.currentSrc),
                    under: under === 'none' ? null : await bytes(under.slice(5, -2)),
                    alt: picture.alt,
                    says: text(host.querySelector('.demo-says')),
                    rows: [...host.querySelectorAll('tbody tr')].map(row => [
                        text(row.cells[0]), text(row.cells[2]), row.cells[1].style.cssText.replace(/[\\s;]/g, '')]),
                    bars: [...host.querySelectorAll('.demo-bar')].map(bar => {
                        const drawn = getComputedStyle(bar, '::before').width;
                        const room = getComputedStyle(bar).paddingRight;
                        return parseFloat(drawn) / (bar.clientWidth - parseFloat(room));
                    }),
                };
            }"""
        )
        pictures = self.scene["pictures"]
        assert shown["picture"] == pictures[frame["picture"]], "the picture shown is not this frame's"
        assert shown["under"] == (None if frame["under"] is None else pictures[frame["under"]])
        assert (shown["alt"], shown["says"]) == (frame["alt"], frame["says"])
        assert shown["rows"] == [[label, text, bar.replace(";", "")] for label, text, bar in frame["rows"]]
        for (_, _, style), width in zip(frame["rows"], shown["bars"]):
            share = re.search(r"--share:([\d.]+)", style)
            assert share is None or abs(float(share[1]) - width) < 0.02, "the bar is not as long as its number"
        for number in self.controls():
            value, text = self.host.locator(f'[data-control="{number}"]').evaluate_all(
                """inputs => {
                    const input = inputs.find(one => one.type !== 'radio' || one.checked);
                    const say = {
                        radio: () => input.parentElement.textContent,
                        range: () => input.nextElementSibling.value,
                        'select-one': () => input.selectedOptions[0].textContent,
                    };
                    return [Number(input.value), say[input.type]()];
                }"""
            )
            assert value == self.choice[number]
            assert text == self.scene["controls"][number][value]
        if self.scene["pad"]:
            pad = self.host.locator(".demo-pad")
            names = [self.scene["controls"][number][self.choice[number]] for number in self.scene["pad"]["controls"]]
            assert pad.get_attribute("aria-valuetext") == ", ".join(names)
            assert self.spot() == self.scene["pad"]["spots"][int(pad.get_attribute("aria-valuenow")) - 1]
        self.seen[tuple(self.choice)] = (shown["picture"], shown["under"], str(shown["rows"]))

    def controls(self) -> list[int]:
        """The controls that can be seen."""
        numbers = self.host.locator("[data-control]").evaluate_all("all => all.map(one => Number(one.dataset.control))")
        return sorted(set(numbers))

    def spot(self) -> list:
        """Where the pad is, by `choice`."""
        values = [self.choice[number] for number in self.scene["pad"]["controls"]]
        return next(spot for spot in self.scene["pad"]["spots"] if spot[2:] == values)

    def spots(self) -> list[list]:
        """Where the pad can go: spots that the controls which it does not set leave."""
        pad = self.scene["pad"]
        given = [self.choice[number] for number in pad["controls"][: pad["given"]]]
        return [spot for spot in pad["spots"] if spot[2 : 2 + pad["given"]] == given]

    def go(self, spot: list) -> None:
        for number, value in zip(self.scene["pad"]["controls"], spot[2:]):
            self.choice[number] = value


def some(values: list) -> list:
    """At most MOST of them, first and last included."""
    step = max(1, -(-(len(values) - 1) // (MOST - 1)))
    return [*values[:-1:step], values[-1]]


def with_mouse(player: Player) -> None:
    host, page = player.host, player.page
    for number in player.controls():
        inputs = host.locator(f'[data-control="{number}"]')
        kind = inputs.first.evaluate("input => input.type")
        names = player.scene["controls"][number]
        for value in some(list(range(len(names)))):
            if kind == "radio":
                inputs.nth(value).click()
            elif kind == "range":
                box, thumb = inputs.bounding_box(), 16
                along = thumb / 2 + value / max(len(names) - 1, 1) * (box["width"] - thumb)
                inputs.click(position={"x": along, "y": box["height"] / 2})
            else:
                inputs.select_option(str(value))
            player.choice[number] = value
            player.holds()
    if player.scene["pad"]:
        pad = host.locator(".demo-pad")
        pad.scroll_into_view_if_needed()
        box = pad.bounding_box()
        for spot in some(player.spots()):
            page.mouse.move(box["x"] + spot[0] * box["width"], box["y"] + spot[1] * box["height"])
            page.mouse.down()
            page.mouse.up()
            player.go(spot)
            player.holds()
        page.mouse.down()  # and dragging
        for spot in some(player.spots())[:3]:
            page.mouse.move(box["x"] + spot[0] * box["width"], box["y"] + spot[1] * box["height"], steps=5)
            player.go(spot)
            player.holds()
        page.mouse.up()


WAYS = {"ArrowRight": (1, 0), "ArrowDown": (0, 1), "ArrowLeft": (-1, 0), "ArrowUp": (0, -1)}


def with_keyboard(player: Player) -> None:
    """Tab into the demo and through it, arrow keys at each stop. The pointer is not touched."""
    host, page = player.host, player.page
    host.evaluate("host => { host.tabIndex = -1; host.focus(); }")
    stops = len(player.controls()) + bool(player.scene["pad"])
    for _ in range(stops):
        page.keyboard.press("Tab")
        focused = host.locator(":focus")
        assert focused.count() == 1, "Tab does not reach every control"
        assert focused.evaluate(
            "one => [one, one.closest('label') ?? one].some(part => getComputedStyle(part).outlineStyle !== 'none')"
        ), "the focus can't be seen"
        if "demo-pad" in (focused.get_attribute("class") or ""):
            moved = 0
            for key, _ in product(WAYS, range(4)):
                before = player.spot()
                page.keyboard.press(key)
                index = int(focused.get_attribute("aria-valuenow")) - 1
                after = player.scene["pad"]["spots"][index]
                player.go(after)
                player.holds()
                if after != before:
                    moved += 1
                    assert sum(w * (b - a) for w, a, b in zip(WAYS[key], before, after)) > 0, "it went the wrong way"
            assert moved >= 4, "the arrow keys do not move it"
            continue
        number = int(focused.get_attribute("data-control"))
        names = player.scene["controls"][number]
        while player.choice[number] < len(names) - 1:
            page.keyboard.press("ArrowDown" if focused.evaluate("one => one.type") != "range" else "ArrowRight")
            player.choice[number] += 1
            if player.choice[number] in some(list(range(len(names)))):
                player.holds()
        while player.choice[number] > 0:
            page.keyboard.press(
                "ArrowUp" if host.locator(":focus").evaluate("one => one.type") != "range" else "ArrowLeft"
            )
            player.choice[number] -= 1
        player.holds()


def play(
    browser: Browser, base: str, name: str, way: Callable[[Player], None], scene: dict, patience: int = 20_000
) -> list[str]:
    """Use a demo and hold all that it shows against ``scene``; return the pictures that were seen, in their order."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(patience)
    page.set_default_navigation_timeout(30_000)
    page.on("console", lambda message: message.type == "error" and faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(f"failed: {request.url[:100]}"))
    page.on("response", lambda response: response.status >= 400 and faults.append(f"{response.status} {response.url}"))
    page.on(
        "request",
        lambda request: (
            request.url.startswith((base, "data:", "blob:")) or faults.append(f"other host: {request.url[:100]}")
        ),
    )
    try:
        page.goto(base + page_of(name))
        player = Player(page, name, scene)
        player.host.scroll_into_view_if_needed()
        page.wait_for_selector(f'.demo-host[data-demo="{name}"][data-ready]')
        player.holds()
        way(player)
        assert faults == []
        changing = set(player.controls()) | set(scene["pad"]["controls"] if scene["pad"] else ())
        assert changing == set(range(len(scene["controls"]))), "a control can't be reached"
        for number in changing:
            assert len({choice[number] for choice in player.seen}) >= 2
        assert len({picture for picture, _, _ in player.seen.values()}) >= 2, "the picture never changes"
        assert len({rows for _, _, rows in player.seen.values()}) >= 2, "the numbers never change"
        return list(dict.fromkeys(picture for picture, _, _ in player.seen.values()))
    finally:
        page.close()


@pytest.fixture(scope="module")
def base(serve: Callable[[Path], str]) -> str:
    return serve(SITE)


@pytest.mark.parametrize("way", [with_mouse, with_keyboard])
@pytest.mark.parametrize("name", DEMOS)
def test_demo_shows_what_was_embedded(browser: Browser, base: str, name: str, way: Callable[[Player], None]) -> None:
    play(browser, base, name, way, scene_of(name))


@pytest.mark.parametrize("name", DEMOS)
def test_every_spot_is_reached_by_keys(browser: Browser, base: str, name: str) -> None:
    """From each spot, where do the arrows lead? The spots that follow from the first must be all."""
    scene = scene_of(name)
    if not scene["pad"]:
        return
    page = browser.new_page()
    page.goto(base + page_of(name))
    player = Player(page, name, scene)
    player.host.scroll_into_view_if_needed()
    page.wait_for_selector(f'.demo-host[data-demo="{name}"][data-ready]')
    leads = player.host.evaluate(
        """(host, [spots, ways]) => {
            const pad = host.querySelector('.demo-pad'), box = pad.getBoundingClientRect();
            pad.setPointerCapture = () => {};
            const now = () => Number(pad.getAttribute('aria-valuenow')) - 1;
            return spots.map(([x, y]) => ways.map(key => {
                pad.dispatchEvent(new PointerEvent('pointerdown', {
                    clientX: box.left + x * box.width, clientY: box.top + y * box.height, buttons: 1}));
                const from = now();
                pad.dispatchEvent(new KeyboardEvent('keydown', {key}));
                return [from, now()];
            })).flat();
        }""",
        [player.spots(), list(WAYS)],
    )
    page.close()
    all_spots = {scene["pad"]["spots"].index(spot) for spot in player.spots()}
    assert {before for before, _ in leads} == all_spots, "a spot lies under another one"
    reached = {scene["pad"]["spots"].index(player.spot())}
    while more := {after for before, after in leads if before in reached} - reached:
        reached |= more
    assert reached == all_spots


@pytest.mark.parametrize("name", DEMOS)
def test_first_frame_is_there_with_scripts_off(browser: Browser, base: str, name: str) -> None:
    scene = scene_of(name)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(base + page_of(name))
    player = Player(page, name, scene)
    picture = player.host.locator("img")
    file = SITE / "notebooks" / picture.get_attribute("src")
    assert base64.b64encode(file.read_bytes()).decode() == scene["pictures"][player.frame["picture"]]
    picture.scroll_into_view_if_needed()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
    assert picture.get_attribute("alt") == player.frame["alt"]
    assert player.host.locator(".demo-says").inner_text() == player.frame["says"]
    assert player.host.locator("tbody tr").first.inner_text().split("\t")[0] == player.frame["rows"][0][0]
    assert "<noscript><p>This is the demo's first picture." in page.content()
    context.close()


@pytest.mark.parametrize("name", DEMOS)
def test_phone(browser: Browser, base: str, name: str) -> None:
    """By touch, at 390 pixels: nothing wider than the screen, targets that a thumb hits, the demo answers."""
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(base + page_of(name))
    player = Player(page, name, scene_of(name))
    player.host.scroll_into_view_if_needed()
    page.wait_for_selector(f'.demo-host[data-demo="{name}"][data-ready]')
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert player.host.evaluate("host => host.scrollWidth <= host.clientWidth + 1")
    for number in player.controls():
        inputs = player.host.locator(f'[data-control="{number}"]')
        for box in [one.bounding_box() for one in inputs.all()]:
            assert box["height"] >= 34 and box["width"] >= 34, "too small for a thumb"
        if inputs.first.evaluate("one => one.type") == "radio":
            inputs.last.tap()
            player.choice[number] = len(player.scene["controls"][number]) - 1
            player.holds()
    if player.scene["pad"]:
        pad, spot = player.host.locator(".demo-pad"), player.spots()[-1]
        box = pad.bounding_box()
        pad.tap(position={"x": spot[0] * box["width"], "y": spot[1] * box["height"]})
        player.go(spot)
        player.holds()
    context.close()


def damage(site: Path, path: str, old: str, new: str) -> None:
    file = site / path
    text = file.read_text("utf-8")
    assert old in text
    file.unlink()  # it may be the site's own file by another name
    file.write_text(text.replace(old, new), "utf-8")


def in_scene(site: Path, name: str, old: str, new: str) -> None:
    damage(site, f"_static/demos/{name}.js", json.dumps(old), json.dumps(new))


def swap_frames(site: Path, name: str, seen: list[str]) -> None:
    for old, new in ((seen[1], "one"), (seen[2], seen[1]), ("one", seen[2])):
        in_scene(site, name, old, new)


def lose_first(site: Path, name: str, seen: list[str]) -> None:
    for file in (site / "_static/figures").glob(f"{name.rpartition('-')[0]}-*.webp"):
        file.unlink()


def in_front_end(old: str, new: str) -> Callable[[Path, str, list[str]], None]:
    return lambda site, name, seen: damage(site, "_static/demos/demos.js", old, new)


DRAWN = "picture.alt = frame.alt;"
FAULTS = {
    "a frame is missing": lambda site, name, seen: in_scene(site, name, seen[-1], ""),
    "two frames are swapped": swap_frames,
    "the scene is not served": lambda site, name, seen: (site / f"_static/demos/{name}.js").unlink(),
    "the front end is not served": lambda site, name, seen: (site / "_static/demos/demos.js").unlink(),
    "the first picture is not served": lose_first,
    "controls are not linked": in_front_end('addEventListener("input"', 'addEventListener("no input"'),
    "controls are linked wrongly": in_front_end("choice[input.dataset.control] = ", "choice[0] = "),
    "the picture stays": in_front_end("picture.src = addresses[frame.picture]", "0"),
    "the numbers stay": in_front_end("row.children[2].textContent = text;", ""),
    "the bars stay": in_front_end("row.children[1].style.cssText = bar;", ""),
    "the sentence stays": in_front_end('find(".demo-says").textContent = frame.says;', ""),
    "an error in the console": in_front_end(DRAWN, f"{DRAWN} console.error('no');"),
    "another host is asked": in_front_end(DRAWN, f"{DRAWN} new Image().src = '//127.0.0.1:9/';"),
}


@pytest.fixture(scope="module", params=[with_mouse, with_keyboard])
def healthy(request: pytest.FixtureRequest, browser: Browser, base: str) -> tuple[Callable[[Player], None], list[str]]:
    """A way to use the demo, and the pictures that it sees when nothing is broken."""
    return request.param, play(browser, base, DEMOS[0], request.param, scene_of(DEMOS[0]))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_site_is_noticed(
    browser: Browser,
    serve: Callable[[Path], str],
    tmp_path: Path,
    fault: str,
    healthy: tuple[Callable[[Player], None], list[str]],
) -> None:
    way, seen = healthy
    shutil.copytree(SITE, tmp_path / "site", copy_function=os.link)
    FAULTS[fault](tmp_path / "site", DEMOS[0], seen)
    with pytest.raises((AssertionError, Error)):
        play(browser, serve(tmp_path / "site"), DEMOS[0], way, scene_of(DEMOS[0]), patience=5_000)
