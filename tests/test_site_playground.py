"""The playground of the built site in headless Chromium, against `helpers` on pictures that it was not built with."""

from __future__ import annotations

import base64
import io
import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from torchvision.transforms.v2.functional import to_pil_image

from helpers import (
    activations,
    cam,
    datasets,
    embedding,
    guided,
    models,
    occlusion,
    photos,
    saliency,
    scoring,
    transfer,
)

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PLACE = SITE / "_static" / "playground"
AXE = ROOT / "node_modules/axe-core/axe.min.js"
MANIFEST = json.loads((PLACE / "manifest.json").read_text(encoding="utf-8")) if PLACE.is_dir() else {}
OTHERS = ("astronaut", "horse", "hubble_deep_field", "motorcycle_right", "retina")  # not on the page
WINDOW = 64


@pytest.fixture(scope="module")
def base(serve: Callable[[Path], str]) -> str:
    return serve(SITE)


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    yield context
    context.close()


def started(page: Page, base: str, fragment: str = "") -> Page:
    page.goto(f"{base}book/playground.html{fragment}")
    page.click(".playground-begin")
    expect(page.locator(".playground .demo-says")).not_to_be_empty(timeout=60_000)
    return page


def test_what_start_loads_is_said_before_and_is_no_more_than_40_mb() -> None:
    page = (SITE / "book/playground.html").read_text(encoding="utf-8")
    start = re.search(r"Start loads (.*?) MB.*?all together (.*?) MB", page, re.S)
    files = {path.relative_to(PLACE).as_posix(): path.stat().st_size for path in PLACE.rglob("*")}
    loaded = [name for name in MANIFEST["files"]]
    assert {name: MANIFEST["files"][name]["bytes"] for name in loaded} == {name: files[name] for name in loaded}
    first = [
        name for name in loaded if name.startswith("ort/") or re.match("efficientnet_lite0/(forward|weights)", name)
    ]
    assert float(start[1]) == pytest.approx(sum(files[name] for name in first) / 1e6, abs=0.05)
    assert float(start[2]) == pytest.approx(sum(files[name] for name in loaded) / 1e6, abs=0.05)
    scripts = sum(path.stat().st_size for path in PLACE.iterdir() if path.is_file())
    photographs = sum(path.stat().st_size for path in (PLACE / "photographs").iterdir())
    assert (
        sum(files[name] for name in loaded)
        + scripts
        + photographs
        + 5 * max(path.stat().st_size for path in (PLACE / "groceries").iterdir())
        < 41e6
    )


# ------------------------------------------------------------------------- the worker's results, against the package

ASK = """([address, tasks]) => new Promise((resolve, reject) => {
    const worker = new Worker(address, { type: "module" }), results = [];
    const blob = ({ data, type }) => new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], { type });
    const text = (view) => {
        const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength), parts = [];
        for (let i = 0; i < bytes.length; i += 8192) parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
        return { type: view.constructor.name, data: btoa(parts.join("")) };
    };
    const plain = (value) => {
        if (ArrayBuffer.isView(value)) return text(value);
        if (value?.constructor !== Object) return value;
        return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, plain(part)]));
    };
    const next = () => {
        if (results.length === tasks.length) { worker.terminate(); return resolve(results); }
        const { file, ...task } = tasks[results.length];
        worker.postMessage({ id: results.length, ...task, ...(file && { blob: blob(file) }) });
    };
    worker.onerror = (event) => reject(new Error(event.message));
    worker.onmessage = ({ data: { error, result, progress } }) => {
        if (progress !== undefined) return;
        results.push(error === undefined ? { result: plain(result ?? null) } : { error });
        next();
    };
    next();
})"""


def ask(page: Page, network: str | None, tasks: list[dict]) -> list[dict]:
    """The answers of the playground's worker: to one task after the other, {result} or {error}."""
    sha256 = page.locator(".playground").get_attribute("data-manifest")
    first = [{"task": "begin", "sha256": sha256}] + [{"task": "open", "name": network}] * bool(network)
    address = "../_static/playground/worker.js"
    answers = page.evaluate(ASK, [page.evaluate("a => new URL(a, location).href", address), first + tasks])
    return [unpacked(answer) for answer in answers[len(first) :]]


ARRAYS = {"Float32Array": np.float32, "Float64Array": np.float64, "Uint8ClampedArray": np.uint8}


def unpacked(value: object) -> object:
    """The same with tensors in place of JavaScript's arrays of numbers."""
    if isinstance(value, dict) and value.get("type") in ARRAYS:
        return torch.from_numpy(np.frombuffer(base64.b64decode(value["data"]), ARRAYS[value["type"]]).copy())
    return {key: unpacked(part) for key, part in value.items()} if isinstance(value, dict) else value


def rgb(answer: dict) -> torch.Tensor:
    """The pixels that the worker made of a picture, (3, 224, 224), 0 to 255."""
    return answer["result"]["pixels"].view(224, 224, 4)[..., :3].permute(2, 0, 1).float()


def file(data: bytes, kind: str = "") -> dict:
    return {"data": base64.b64encode(data).decode(), "type": kind}


def png(image: torch.Tensor | Image.Image) -> bytes:
    buffer = io.BytesIO()
    (to_pil_image(image) if isinstance(image, torch.Tensor) else image).save(buffer, "PNG")
    return buffer.getvalue()


def original(name: str) -> bytes:
    """The file of a packaged photograph, as it is."""
    from importlib.resources import files

    package, path = photos._FILES[name]
    return (files(package) / path).read_bytes()


@pytest.fixture(scope="module")
def loaded(browser: Browser, base: str) -> Iterator[Page]:
    """The page, not started: the files that its workers load are kept."""
    page = browser.new_page()
    page.goto(f"{base}book/playground.html")
    yield page
    page.close()


@pytest.fixture(scope="module")
def classifiers() -> dict[str, models.Classifier]:
    return {name: models.load(name, device="cpu") for name in MANIFEST["networks"]}


@pytest.mark.parametrize(
    ("network", "name"), [("lecturenet", OTHERS[0]), *(("efficientnet_lite0", name) for name in OTHERS)]
)
def test_every_method_gives_what_helpers_give(
    loaded: Page, classifiers: dict[str, models.Classifier], network: str, name: str
) -> None:
    classifier, image = classifiers[network], photos.decode(original(name))
    with torch.no_grad():
        probabilities = classifier(image[None])[0].softmax(0)
    target, stages = int(probabilities.argsort()[-2]), list(classifier.stages)  # the second: no method's default
    tasks = [{"task": "picture", "file": file(original(name))}, {"task": "nearest"}]
    tasks += [{"task": "cover", "left": 40, "top": 96, "window": WINDOW}]
    simple = ["cam", "gradient", "guided"] + ["smoothgrad", "occlusion"] * (name == OTHERS[0])
    tasks += [{"task": "explain", "method": method, "target": target, "window": WINDOW} for method in simple]
    for method in ("gradcam", "guidedgradcam"):
        tasks += [{"task": "explain", "method": method, "target": target, "stage": stage} for stage in stages]
    tasks += [{"task": "explain", "method": "activations", "stage": stage, "channel": 5} for stage in stages]
    answers = [answer["result"] for answer in ask(loaded, network, tasks)]
    seen, similar, covered = answers[:3]
    maps = {
        (task["method"], task.get("stage")): found["values"].view(-1, found["height"], found["width"])
        for task, found in zip(tasks[3:], answers[3:])
    }

    assert (rgb({"result": seen}) - (image * 255).round()).abs().max() <= 1, "decoded and resized as Pillow does"
    assert (seen["probabilities"] - probabilities).abs().max() <= 1e-3
    grey = image.clone()
    grey[:, 96 : 96 + WINDOW, 40 : 40 + WINDOW] = 0.5
    with torch.no_grad():
        assert (covered - classifier(grey[None])[0].softmax(0)).abs().max() <= 1e-3

    known = {
        "cam": cam.cam(classifier, image, target),
        "gradient": saliency.gradient(classifier, image, target),
        "guided": guided.backprop(classifier, image, target),
    }
    if name == OTHERS[0]:
        known["smoothgrad"] = saliency.smoothgrad(classifier, image, target)
        known["occlusion"] = occlusion.sensitivity(classifier, image, target, window=WINDOW, stride=WINDOW // 2).heatmap
    known = {(method, None): map_ for method, map_ in known.items()}
    for stage, path in classifier.stages.items():
        known["gradcam", stage] = cam.gradcam(classifier, image, target, layer=path)
        known["guidedgradcam", stage] = guided.gradcam(classifier, image, target, layer=path)
        known["activations", stage] = activations.maps(classifier, image, path)[5]
    assert maps.keys() == known.keys()
    for key, map_ in known.items():
        method, stage = key
        early = stage is not None and "gradcam" in method and stage not in stages[-2:]
        assert maps[key].numel() == map_.numel(), key
        assert agreement(maps[key], map_) >= (0.995 if early else 0.999), key

    features = embedding.features(classifier, image[None])
    stored = np.fromfile(PLACE / classifier.name / "neighbours.bin", np.float16).astype(np.float32)
    expected = transfer.nearest(features[0], torch.from_numpy(stored).view(730, -1))
    assert [found["index"] for found in similar] == expected.index.tolist()
    assert [found["similarity"] for found in similar] == pytest.approx(expected.similarity.tolist(), abs=1e-3)


def agreement(found: torch.Tensor, known: torch.Tensor) -> float:
    """Rank correlation; 1 where both are zero everywhere."""
    if not found.any() and not known.any():
        return 1.0
    return scoring.rank_correlation(found.reshape(1, -1), known.reshape(1, -1))


def test_neighbours_are_the_packages(classifiers: dict[str, models.Classifier]) -> None:
    gallery, few = datasets.groceries("train", size=224), range(0, 730, 73)
    for name, classifier in classifiers.items():
        features = torch.nn.functional.normalize(embedding.features(classifier, gallery.images[few]), dim=1)
        stored = np.fromfile(PLACE / name / "neighbours.bin", np.float16).reshape(730, -1)
        assert (torch.from_numpy(stored[few].astype(np.float32)) - features).abs().max() < 1e-3
    assert MANIFEST["groceries"] == [gallery.classes[label] for label in gallery.labels]


# -------------------------------------------------------------------------------------------------------- bad input


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Blobs of colour, which every format keeps."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, len(Image.new(mode, (1, 1)).getbands())), np.uint8)
    return Image.fromarray(small.squeeze(), mode).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(300, 200), "JPEG", quality=95, exif=exif)


def header_only(width: int, height: int) -> bytes:
    """A PNG that says that it has so many pixels, and ends."""
    return png(Image.new("1", (8, 8)))[:16] + width.to_bytes(4) + height.to_bytes(4) + png(Image.new("1", (8, 8)))[24:]


LIKE_PILLOW = {
    "small": png(picture(40, 30)),
    "one pixel": png(Image.new("RGB", (1, 1), (200, 30, 90))),
    "one row": png(picture(500, 1)),
    "odd sizes": png(picture(701, 333)),
    "exactly its size": png(picture(224, 224)),
    "large": png(picture(3000, 2000)),
    "grey": png(picture(300, 200, "L")),
    "palette": png(picture(300, 200).convert("P", palette=Image.Palette.ADAPTIVE)),
    "a GIF that moves": saved(
        picture(300, 200).convert("P", palette=Image.Palette.ADAPTIVE),
        "GIF",
        save_all=True,
        append_images=[picture(300, 200, seed=1).convert("P", palette=Image.Palette.ADAPTIVE)],
    ),
    "WebP": saved(picture(300, 200), "WEBP", lossless=True),
    "BMP": saved(picture(300, 200), "BMP"),
    "transparent": png(picture(300, 200, "RGBA")),
    **{f"EXIF orientation {number}": rotated(number) for number in range(1, 9)},
}


@pytest.fixture(scope="module")
def decoded(loaded: Page) -> dict[str, dict]:
    """All pictures of `LIKE_PILLOW` through one worker."""
    tasks = [{"task": "picture", "file": file(data)} for data in LIKE_PILLOW.values()]
    return dict(zip(LIKE_PILLOW, ask(loaded, "lecturenet", tasks)))


@pytest.mark.parametrize("name", LIKE_PILLOW)
def test_a_picture_is_decoded_as_helpers_do(decoded: dict[str, dict], name: str) -> None:
    assert "result" in decoded[name], decoded[name]
    difference = (rgb(decoded[name]) - (photos.decode(LIKE_PILLOW[name]) * 255).round()).abs()
    # Formats that lose something are decoded with other roundings; what is half transparent is mixed with others.
    allowed = 4 if name.startswith("EXIF") or name == "transparent" else 1
    assert difference.max() <= allowed, difference.max()


def test_a_cmyk_picture_is_shown(loaded: Page) -> None:
    """Its colours hang on the browser's idea of ink: the picture is the same, not each value."""
    data = saved(picture(300, 200).convert("CMYK"), "JPEG", quality=95)
    [answer] = ask(loaded, "lecturenet", [{"task": "picture", "file": file(data)}])
    assert np.corrcoef(rgb(answer).flatten(), photos.decode(data).flatten())[0, 1] > 0.9


REFUSED = {
    "a text called .jpg": (b"This is no picture at all.\n" * 20, "no picture that can be read"),
    "nothing": (b"", "no picture that can be read"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>', "without pixels"),
    "100 megapixels": (png(Image.new("1", (10_000, 10_000))), "100 million pixels"),
    "a bomb": (header_only(2**31 - 1, 2**31 - 1), "million pixels"),
    "cut off": (png(picture(300, 200))[:20], "ends too early"),
    "damaged": (png(picture(300, 200))[:60] + bytes(500), "no picture that can be read"),
    "21 MB": (bytes(21_000_000), "more than 20 MB"),
    "a PNG with no pixels": (header_only(0, 5), "no pixels"),
}


def test_bad_pictures_get_a_message_and_the_page_goes_on(context: BrowserContext, base: str) -> None:
    page = started(context.new_page(), base)
    fault, shown = page.locator(".playground-fault"), page.locator(".playground-photograph")
    for number, (name, (data, message)) in enumerate(REFUSED.items()):
        before = shown.evaluate("canvas => canvas.toDataURL()")
        page.set_input_files(".playground-file", {"name": "cat.jpg", "mimeType": "image/jpeg", "buffer": data})
        awake = page.evaluate("() => new Promise((done) => setTimeout(() => done(true), 50))")
        expect(fault, name).to_contain_text(message)
        assert awake and shown.evaluate("canvas => canvas.toDataURL()") == before, name
        page.locator("[name=playground-picture]").nth(1 + number % 2).check(force=True)
        expect(fault, name).to_be_empty()
        expect(shown, name).to_have_attribute("aria-label", ["a cup of coffee", "a rocket"][number % 2])


def test_files_that_are_not_the_sites_are_refused(context: BrowserContext, base: str) -> None:
    page = context.new_page()
    page.route(
        "**/forward.onnx*",
        lambda route: route.fulfill(body=b"x" * MANIFEST["files"]["efficientnet_lite0/forward.onnx"]["bytes"]),
    )
    page.goto(f"{base}book/playground.html")
    page.click(".playground-begin")
    expect(page.locator(".playground-fault")).to_contain_text(
        "is not the file that this page was built with", timeout=30_000
    )
    page.unroute("**/forward.onnx*")
    page.click(".playground-begin")  # nothing false was kept
    expect(page.locator(".playground .demo-says")).not_to_be_empty(timeout=60_000)


def test_a_file_that_is_missing_is_named(context: BrowserContext, base: str) -> None:
    page = context.new_page()
    page.route("**/weights.bin*", lambda route: route.abort())
    page.goto(f"{base}book/playground.html")
    page.click(".playground-begin")
    expect(page.locator(".playground-fault")).to_contain_text("weights.bin could not be loaded", timeout=30_000)


def test_opened_from_a_file_it_says_what_to_do(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto((SITE / "book/playground.html").as_uri())
    # Modules are not loaded from files, so that the page itself must say it.
    expect(page.locator(".playground-start")).to_contain_text("make serve")
    expect(page.locator(".playground-begin")).to_be_disabled()


# --------------------------------------------------------------------------------------------------------- the page

POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
POLICY += "img-src 'self'; style-src 'self'"


def test_it_runs_under_the_policy_that_the_page_states(context: BrowserContext, base: str) -> None:
    page = context.new_page()
    page.add_init_script(
        "window.refused = []; addEventListener('securitypolicyviolation', (event) =>"
        "refused.push([event.sourceFile, event.violatedDirective, event.blockedURI]))"
    )

    def with_policy(route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers=answer.headers | {"content-security-policy": POLICY})

    page.route(lambda url: url.endswith((".html", "worker.js")), with_policy)
    started(page, base)
    stated = page.locator(".bd-article code", has_text="script-src").inner_text()
    assert set(stated.split("; ")) == set(POLICY.split("; ")) - {"default-src 'none'"}
    for method in ("guided", "similar"):
        page.locator(f"#try-{method} input").check(force=True)
        expect(page.locator(".playground .demo-says")).to_contain_text(
            re.compile("guided|similar", re.I), timeout=20_000
        )
    # The theme's own inline scripts are refused; nothing of the playground is.
    ours = [found for found in page.evaluate("refused") if "/_static/playground/" in f"{found[0]} {found[2]}"]
    assert ours == []


def test_a_picture_is_sent_nowhere(context: BrowserContext, base: str) -> None:
    page, asked = started(context.new_page(), base), []
    for method in ("guided", "gradient", "similar"):  # whatever these load comes first
        page.locator(f"#try-{method} input").check(force=True)
        expect(page.locator(".playground .demo-says")).to_contain_text(re.compile(f"^{method}", re.I), timeout=20_000)
    page.wait_for_load_state("networkidle")
    page.on("request", lambda request: asked.append((request.method, request.url)))
    page.set_input_files(
        ".playground-file", {"name": "mine.png", "mimeType": "image/png", "buffer": png(picture(400, 300))}
    )
    expect(page.locator(".playground-photograph")).to_have_attribute("aria-label", "your picture")
    for method in ("cam", "guided", "gradient"):
        page.locator(f"#try-{method} input").check(force=True)
        expect(page.locator(".playground .demo-says")).to_contain_text(re.compile(f"^{method}", re.I), timeout=20_000)
    page.wait_for_timeout(300)
    assert [url for method, url in asked if method != "GET" or "groceries/" not in url] == []


def test_the_first_result_and_the_square_are_quick(browser: Browser, base: str) -> None:
    """At most 5 s and 0.3 s on two idle cores; here beside another test, so that the best of six counts."""
    first, answers = [], []
    while len(first) < 6 and min(first, default=5) >= 5:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{base}book/playground.html")
        begun = time.monotonic()
        page.click(".playground-begin")
        expect(page.locator(".playground .demo-says")).not_to_be_empty(timeout=60_000)
        first.append(time.monotonic() - begun)
        answers += page.evaluate(
            """async () => {
                const find = (name) => document.querySelector(`.playground .${name}`), waits = [];
                const pad = find("demo-pad"), says = find("demo-says");
                pad.focus();
                for (let i = 0; i < 8; i++) {
                    const begun = performance.now(), changed = new Promise((done) => new MutationObserver((_, seen) => {
                        seen.disconnect(); done();
                    }).observe(says, { childList: true, characterData: true, subtree: true }));
                    const key = i % 2 ? "ArrowLeft" : "ArrowRight";
                    pad.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
                    await changed;
                    waits.push(performance.now() - begun);
                }
                return waits;
            }"""
        )
        context.close()
    assert min(first) < 5, first
    assert statistics.median(answers) < 300, answers


def test_two_hundred_pictures_do_not_fill_the_memory(browser: Browser, base: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{base}book/playground.html")
    page.evaluate(
        """async ([address, sha256, data]) => {
            const worker = new Worker(new URL(address, location), { type: "module" });
            const ask = (task, more) => new Promise((resolve, reject) => {
                worker.onmessage = ({ data: { result, error, progress } }) =>
                    progress === undefined && (error === undefined ? resolve(result) : reject(new Error(error)));
                worker.postMessage({ id: 1, task, ...more });
            });
            const blob = new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))]);
            await ask("begin", { sha256 });
            await ask("open", { name: "lecturenet" });
            window.many = async (count) => {
                for (let i = 0; i < count; i++) {
                    await ask("picture", { blob });
                    if (i % 10 === 0) await ask("explain", { method: "gradcam", target: i % 43, stage: "stage 2" });
                }
            };
            await many(20);
        }""",
        [
            "../_static/playground/worker.js",
            page.locator(".playground").get_attribute("data-manifest"),
            base64.b64encode(png(picture(600, 450))).decode(),
        ],
    )
    before = resident()
    page.evaluate("many(200)")
    grown = resident() - before
    context.close()
    assert grown < 80e6, f"{grown / 1e6:.0f} MB"


def resident() -> int:
    """Bytes that the pages' processes hold, of every browser on this machine."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            command = status.with_name("cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if b"--type=renderer" in command and (found := re.search(r"VmRSS:\s+(\d+) kB", text)):
            total += 1024 * int(found[1])
    return total


def test_every_choice_changes_the_sentence(context: BrowserContext, base: str) -> None:
    page = started(context.new_page(), base)
    says, seen = page.locator(".playground .demo-says"), []

    def heard() -> None:
        expect(says).not_to_have_text(seen[-1] if seen else "", timeout=60_000)
        seen.append(says.inner_text())

    heard()
    for method in ("gradcam", "gradient", "guided", "guidedgradcam", "activations", "similar"):
        page.locator(f"#try-{method} input").check(force=True)
        heard()
    page.locator("#try-gradcam input").check(force=True)
    heard()
    page.select_option(".playground-class", index=700)
    heard()
    page.select_option(".playground-layer", "stage 3")
    heard()
    page.locator("#try-activations input").check(force=True)
    heard()
    page.fill(".playground-channel", "17")
    page.locator(".playground-channel").press("Enter")
    heard()
    page.locator("#try-cam input").check(force=True)
    heard()
    page.locator("[name=playground-picture]").nth(1).check(force=True)
    heard()
    page.select_option(".playground-network", "lecturenet")
    heard()


def test_the_square_moves_by_mouse_and_keyboard_and_goes(context: BrowserContext, base: str) -> None:
    page = started(context.new_page(), base)
    pad, says = page.locator(".playground .demo-pad"), page.locator(".playground .demo-says")
    box = pad.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(says).to_contain_text("square 50 % from the left, 50 % from the top")
    pad.press("ArrowRight")
    expect(says).to_contain_text("square 54 % from the left, 50 % from the top")
    assert page.locator(".playground-photograph").evaluate(
        "canvas => Array.from(canvas.getContext('2d').getImageData(120, 112, 1, 1).data)"
    ) == [128, 128, 128, 255]
    for _ in range(40):
        pad.press("Shift+ArrowLeft")
    expect(says).to_contain_text("square 11 % from the left")  # its middle, at the edge
    pad.press("Escape")
    expect(says).to_contain_text("Nothing is covered")


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_serious(browser: Browser, base: str, width: int, theme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{base}book/playground.html")
    faults = []
    page.add_script_tag(path=AXE)
    for ready in (False, True):
        if ready:
            page.click(".playground-begin")
            expect(page.locator(".playground .demo-says")).not_to_be_empty(timeout=60_000)
            page.locator("#try-similar input").check(force=True)
            expect(page.locator(".playground .demo-says")).to_contain_text("Similar", timeout=20_000)
        found = page.evaluate("axe.run('.playground')")["violations"]
        faults += [
            (one["id"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0
    context.close()
    assert faults == []


def test_a_link_chooses_the_method_and_chapters_have_one(context: BrowserContext, base: str) -> None:
    page = context.new_page()
    page.goto(f"{base}notebooks/05_occlusion.html")
    page.get_by_role("link", name="Try it on your own photograph").click()
    page.wait_for_url("**/playground.html#try-occlusion")
    page.click(".playground-begin")
    expect(page.locator(".playground .demo-says")).to_contain_text("Occlusion for", timeout=60_000)
    chapters = [
        path.name for path in (SITE / "notebooks").glob("*.html") if "playground.html#try-" in path.read_text("utf-8")
    ]
    assert len(chapters) == 6


def test_drop_paste_and_camera(browser: Browser, base: str) -> None:
    context = browser.new_context(permissions=["camera"])
    page = started(context.new_page(), base)
    shown = page.locator(".playground-photograph")
    give = """(kind) => {
        const data = new DataTransfer();
        const canvas = document.createElement("canvas");
        canvas.toBlob((blob) => {
            data.items.add(new File([blob], "a.png", { type: "image/png" }));
            const target = kind === "drop" ? document.querySelector(".playground") : document;
            target.dispatchEvent(kind === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
        });
    }"""
    page.evaluate(give, "drop")
    expect(shown).to_have_attribute("aria-label", "your picture")
    page.evaluate(give, "paste")
    expect(shown).to_have_attribute("aria-label", "the pasted picture")
    page.click(".playground-camera")
    page.click(".playground-take")
    expect(shown).to_have_attribute("aria-label", "the camera's picture")
    expect(page.locator("video")).to_be_hidden()
    context.close()
