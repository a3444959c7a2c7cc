"""Links to what the site may have or not: PDF and slides are made later than its pages, and only if somebody asks.

A page holds ``<a hidden data-offered="../slides/01.html">`` for what there may be; `offer` makes a link of it.
"""

import re
from pathlib import Path

WAITING = re.compile(r'hidden(?:="")? data-offered="([^"]+)"')


def offer(site: Path) -> None:
    """Show the links whose files are there by now."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        there = lambda found: f'href="{found[1]}"' if (page.parent / found[1]).exists() else found[0]  # noqa: B023, E731
        shown = WAITING.sub(there, text)
        if shown != text:
            page.write_text(shown, encoding="utf-8")
