"""Sphinx extension: what has an id in raw HTML can be linked to from Markdown, as ``atlas.md#lecturenet-relu5-12``.

MyST knows the headings of a page only, and warns of every other fragment.
"""

import re

from docutils import nodes
from sphinx.application import Sphinx


def note_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Add the ids to what MyST knows of the page that was just read."""
    known = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for raw in doctree.findall(nodes.raw):
        if "html" in raw["format"].split():
            for anchor in re.findall(r'\sid="([^"]+)"', raw.astext()):
                known.setdefault(anchor, (None, anchor, anchor))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", note_anchors)
    return {"parallel_read_safe": True}
