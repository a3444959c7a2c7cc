"""Where this repository lives: one source of its address for buttons, links and the notebooks that leave the book.

The address is that of the git remote `origin`, or `BOOK_REPOSITORY` if that is set (empty: none). With no address the
site has no button and no link that would lead nowhere.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIES = "colab"  # the branch that holds the notebooks for Colab (.ci/push_copies)


class Address(NamedTuple):
    """A repository on GitHub, and the version that this book is built from."""

    owner: str
    name: str
    branch: str
    commit: str

    @property
    def url(self) -> str:
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def pages(self) -> str:
        """Where the workflow publishes the site."""
        return f"https://{self.owner.lower()}.github.io/{self.name}/"

    @property
    def package(self) -> str:
        """What `pip install` takes."""
        return f"git+{self.url}@{self.commit}"

    def colab(self, path: str) -> str:
        return f"https://colab.research.google.com/github/{self.owner}/{self.name}/blob/{COPIES}/{path}"

    def binder(self, path: str) -> str:
        return f"https://mybinder.org/v2/gh/{self.owner}/{self.name}/{self.branch}?urlpath=lab/tree/{path}"

    def file(self, path: str) -> str:
        return f"{self.url}/blob/{self.branch}/{path}"


def find(root: Path = ROOT) -> Address | None:
    """The address of the repository at ``root``; None where there is none, or none on GitHub.

    Raises
    ------
    ValueError
        ``BOOK_REPOSITORY`` is no address of a repository on GitHub.
    """
    given = os.environ.get("BOOK_REPOSITORY")
    remote = _git(root, "remote", "get-url", "origin") if given is None else given
    if given and re.fullmatch(r"[\w.-]+/[\w.-]+", given):
        remote = f"https://github.com/{given}"
    place = parse(remote)
    if place is None:
        if given:
            raise ValueError(f"BOOK_REPOSITORY must be like https://github.com/owner/name, got {given!r}.")
        return None
    # Without a branch (Actions check out the commit of a pull request) links lead to main.
    branch = os.environ.get("BOOK_BRANCH") or _git(root, "symbolic-ref", "--short", "HEAD") or "main"
    return Address(*place, branch, _git(root, "rev-parse", "HEAD") or branch)


def parse(remote: str) -> tuple[str, str] | None:
    """Owner and name from the address of a remote on GitHub, in any of git's spellings; None for another host."""
    start = r"(?:https?://(?:[^@/]*@)?|ssh://git@|git@|git://)(?:www\.)?github\.com[/:]"
    match = re.fullmatch(start + r"([\w.-]+)/([\w.-]+?)(?:\.git)?/?", remote.strip())
    return (match[1], match[2]) if match else None


def _git(root: Path, *command: str) -> str:
    """What git prints; nothing where it fails or is missing, as in a copy without its history."""
    try:
        result = subprocess.run(["git", "-C", root, *command], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


if __name__ == "__main__":
    print(find())
