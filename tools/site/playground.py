"""Put the playground on ``book/playground.md``: what tools/export_onnx.py wrote, what runs it, and its markup.

The line ``% playground`` of the page becomes playground.html with the sizes of the files and the SHA-256 of their list.
"""

import hashlib
import html
import json
import shutil
from pathlib import Path

LINE = "% playground"
MARKUP = Path(__file__).with_name("playground.html")
RUNTIME = Path("node_modules/onnxruntime-web/dist")
RUNS = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
METHODS = {  # from the name in playground.js to what the reader sees; a link to one is playground.md#try-NAME
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "occlusion": "occlusion",
    "gradient": "gradient",
    "smoothgrad": "SmoothGrad",
    "guided": "guided backpropagation",
    "guidedgradcam": "Guided Grad-CAM",
    "activations": "activation maps",
    "similar": "similar photographs",
}
# The chapters under whose title a link leads to the playground, with the chapter's method chosen
CHAPTERS = {
    "03_activation_maps": "activations",
    "05_occlusion": "occlusion",
    "06_saliency": "gradient",
    "07_cam_gradcam": "cam",
    "08_guided_gradcam": "guidedgradcam",
    "09_feature_embedding": "similar",
}


def place_playground(page: Path, exported: Path, folder: Path) -> None:
    """Fill in ``page``, and copy the graphs in ``exported`` and the runtime into ``folder``, beside the scripts."""
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    shutil.copytree(exported, folder, dirs_exist_ok=True)
    (folder / "ort").mkdir()
    for name in RUNS:
        data = (RUNTIME / name).read_bytes()
        (folder / "ort" / name).write_bytes(data)
        manifest["files"][f"ort/{name}"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps(manifest, ensure_ascii=False, separators=(",", ":"))
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    source = page.read_text(encoding="utf-8")
    if source.count(f"\n{LINE}\n") != 1:
        raise ValueError(f"{page} must have one line {LINE!r}.")
    markup = markup_of(manifest, hashlib.sha256(text.encode()).hexdigest())
    page.write_text(source.replace(f"\n{LINE}\n", f"\n```{{raw}} html\n{markup}\n```\n"), encoding="utf-8")


def markup_of(manifest: dict, sha256: str) -> str:
    """The playground as HTML, not yet alive."""
    first, second = manifest["networks"]

    def size(*starts: str) -> float:
        return sum(file["bytes"] for name, file in manifest["files"].items() if name.startswith(starts)) / 1e6

    say = html.escape
    thumbnails = "".join(
        f'<label><input type="radio" name="playground-picture" value="{name}"{" checked" * (number == 0)}>'
        f'<img src="../_static/playground/thumbnails/{name}.webp" alt="{say(title)}" width="72" height="72"></label>'
        for number, (name, title) in enumerate(manifest["photographs"].items())
    )
    methods = "".join(
        f'<label id="try-{name}"><input type="radio" name="playground-method" value="{name}"'
        f"{' checked' * (number == 0)}>{say(title)}</label>"
        for number, (name, title) in enumerate(METHODS.items())
    )
    networks = "".join(
        f'<option value="{name}">{say(network["title"])}</option>' for name, network in manifest["networks"].items()
    )
    begin = size("ort/", f"{first}/forward", f"{first}/weights")
    numbers = {
        "begin": begin,
        "weights": size(f"{first}/forward", f"{first}/weights"),
        "runtime": size("ort/"),
        "more": size(f"{first}/") - size(f"{first}/forward", f"{first}/weights"),
        "second": size(f"{second}/"),
        "total": size(""),
    }
    return MARKUP.read_text(encoding="utf-8").format(
        sha256=sha256,
        size=manifest["size"],
        thumbnails=thumbnails,
        methods=methods,
        networks=networks,
        poster=say(manifest["poster"]["class"]),
        poster_width=manifest["poster"]["width"],
        poster_height=manifest["poster"]["height"],
        **{name: f"{value:.1f}" for name, value in numbers.items()},
    )
