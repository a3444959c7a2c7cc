"""Put the demos of ``helpers.demos`` on pages that have no kernel, with a host of our own.

While the site is built, a demo's output holds its scene. The page gets the scene's markup, with the first frame as an
ordinary picture; when the reader comes near, ``_static/demos/CHAPTER-1.js`` brings the other frames, and the front end,
``_static/demos/demos.js``, begins to work.

Why not Jupyter's own host, html-manager with require.js: it is 3.7 MB of script where this is 7 kB with the front end,
needed 1.9 s until a demo answered the first key where this needs 0.3 s (median of nine visits on two busy cores), and
writes nothing before it runs. It would show every widget; this shows ours alone, so any other is refused.

Everything is a classic script with a relative address, which works below any path and from a local file, where browsers
refuse modules and ``fetch``.
"""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat

PAGE = "application/vnd.helpers.demo+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
FRONT = Path(__file__).resolve().parents[2] / "helpers/demos/widget.js"
EXPORT = "export default { render };\n"  # its end
NOSCRIPT = "<noscript><p>This is the demo's first picture. The controls need JavaScript.</p></noscript>"


def write_front_end(folder: Path) -> str:
    """Write script and style sheet into ``folder``; return the script's address as seen from it."""
    folder.mkdir(parents=True, exist_ok=True)
    module = FRONT.read_text(encoding="utf-8")
    if not module.endswith(EXPORT):
        raise ValueError(f"{FRONT} must end in {EXPORT!r}.")
    host = Path(__file__).with_name("demos.js").read_text(encoding="utf-8")
    (folder / "demos.css").write_text(FRONT.with_suffix(".css").read_text(encoding="utf-8"), encoding="utf-8")
    return _write(folder / "demos.js", f"(() => {{\n{module.removesuffix(EXPORT)}{host}}})();\n")


def place_demos(
    notebook: nbformat.NotebookNode, chapter: str, folder: Path, front: str, save: Callable[[str, str, str], str]
) -> None:
    """Replace the demos in a notebook's outputs by HTML.

    Parameters
    ----------
    folder
        Becomes the site's ``_static/demos``.
    front
        What `write_front_end` returned.
    save
        Writes a picture (MIME type, base64, chapter) and returns its address as seen from a chapter.
    """
    count = 0
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PAGE in data:
                count += 1
                page = on_page(data[PAGE], f"{chapter}-{count}", folder, save)
                script = f'<script src="../_static/demos/{front}" defer></script>' if count == 1 else ""
                output.data, output.metadata = nbformat.from_dict({"text/html": page + script}), nbformat.from_dict({})
            elif WIDGET in data:
                sys.exit(f"{chapter}: the widget of cell {number} would be dead on a page without a kernel.")


def on_page(scene: dict, name: str, folder: Path, save: Callable[[str, str, str], str]) -> str:
    """The HTML of the demo ``CHAPTER-1``; writes its scene. ``folder`` and ``save`` are those of `place_demos`."""
    pictures, chapter = scene["pictures"], name.rpartition("-")[0]
    markup = re.sub(r"picture:(\d+)", lambda found: save("image/webp", pictures[int(found[1])], chapter), scene["html"])
    rest = {key: value for key, value in scene.items() if key not in ("html", "text")}
    text = json.dumps(rest, ensure_ascii=False, separators=(",", ":"))
    script = _write(folder / f"{name}.js", f'bookDemo("{name}",{text});\n')
    host = f'<div class="demo-host" data-demo="{name}" data-scene="../_static/demos/{script}">{markup}</div>'
    return host + NOSCRIPT


def _write(path: Path, text: str) -> str:
    """Write a script; return its name with a version, so that no page runs with a script of another build."""
    path.write_text(text, encoding="utf-8")
    return f"{path.name}?{hashlib.sha256(text.encode()).hexdigest()[:10]}"
