"""Sphinx extension: exercises carry the number of their label, ``ex-5-1`` is Exercise 5.1.

sphinx-exercise counts through the whole book, so that a new exercise in one chapter would rename those of the next.
"""

import re

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

LABEL = re.compile(r"ex-(\d+)-(\d+)")


def number_by_label(app: Sphinx, env: BuildEnvironment) -> None:
    """Put the chapter's numbers in the place of the running ones, once all pages are read."""
    for page, numbers in env.toc_fignumbers.items():
        for label in numbers.get("exercise", {}):
            if match := LABEL.fullmatch(label):
                numbers["exercise"][label] = tuple(map(int, match.groups()))
            else:
                message = "exercise label %r is not of the form ex-CHAPTER-NUMBER"
                logging.getLogger(__name__).warning(message, label, location=page)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("env-check-consistency", number_by_label)
    return {"parallel_read_safe": True}
