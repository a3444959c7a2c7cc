"""The notebooks that leave the book, and the one address that they, the buttons and the links take."""

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from address import Address, find, parse
from IPython.core.interactiveshell import InteractiveShell
from standalone_notebooks import CLONE, name_source, plain, standalone

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = Address("owner", "name", "main", "0123abc")
PATHS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "book").glob("*.ipynb"))]


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/owner/name",
        "https://github.com/owner/name.git",
        "https://user:secret@github.com/owner/name.git/",
        "git@github.com:owner/name.git",
        "ssh://git@github.com/owner/name",
        "git://github.com/owner/name.git\n",
    ],
)
def test_a_remote_on_github_is_understood(remote: str) -> None:
    assert parse(remote) == ("owner", "name")


@pytest.mark.parametrize(
    "remote", ["", "../name", "/srv/owner/name.git", "https://gitlab.com/owner/name", "https://github.com.evil.org/a/b"]
)
def test_any_other_remote_is_none(remote: str) -> None:
    assert parse(remote) is None


def test_the_address_comes_from_the_remote_or_from_one_variable(tmp_path: Path, monkeypatch) -> None:
    for name in ("BOOK_REPOSITORY", "BOOK_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    assert find(tmp_path) is None  # no repository at all
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q", "-b", "trunk"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    assert find(tmp_path) is None  # no remote
    subprocess.run([*git, "remote", "add", "origin", "git@github.com:fork/book.git"], check=True)
    found = find(tmp_path)
    assert found[:3] == ("fork", "book", "trunk")
    assert re.fullmatch(r"git\+https://github\.com/fork/book@[0-9a-f]{40}", found.package)
    assert found.pages == "https://fork.github.io/book/"
    for given in ("other/place", "https://github.com/other/place.git"):
        monkeypatch.setenv("BOOK_REPOSITORY", given)
        assert find(tmp_path).url == "https://github.com/other/place"
    monkeypatch.setenv("BOOK_REPOSITORY", "")
    assert find(tmp_path) is None
    monkeypatch.setenv("BOOK_REPOSITORY", "https://example.org/a/b")
    with pytest.raises(ValueError, match="BOOK_REPOSITORY must be like"):
        find(tmp_path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_notebook_begins_with_the_same_set_up(path: Path) -> None:
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert first.source.startswith(_set_up()), "copy the block from another chapter"


def _set_up() -> str:
    source = next(cell.source for cell in nbformat.read(PATHS[0], as_version=4).cells if cell.cell_type == "code")
    block = source[: source.index("\n\nimport ")]
    assert CLONE in block
    return block


@pytest.mark.parametrize("address", [ADDRESS, None], ids=["address", "none"])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_copy_holds_no_myst_and_no_link_that_leads_nowhere(path: Path, address: Address | None) -> None:
    notebook = nbformat.read(path, as_version=4)
    copied = standalone(notebook, path.relative_to(ROOT).as_posix(), address)
    text = "\n".join(cell.source for cell in copied.cells if cell.cell_type == "markdown")
    assert not re.search(r"\{[\w:]+\}`|^:::|^\(.+\)=$", text, flags=re.MULTILINE)
    for target in re.findall(r"\]\(([^)]*)\)", text):
        assert target.startswith("https://") or (address is None and (path.parent / target).exists()), target
    ours, theirs = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (notebook, copied))
    assert [cell.source for cell in ours[1:]] == [cell.source for cell in theirs[1:]]
    assert (CLONE in theirs[0].source) == (address is None)
    assert (f'"{ADDRESS.package}"' in theirs[0].source) == (address is not None)
    for cell in theirs:  # what the page folds is folded here, too
        folded = {"hide-input", "solution"} & set(cell.metadata.get("tags", []))
        assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == bool(folded)
    nbformat.validate(copied)
    assert notebook == nbformat.read(path, as_version=4)  # the original is left alone


def test_myst_becomes_markdown() -> None:
    source = (
        ":::{exercise-start} A cup\n:label: ex-7-1\n:::\n**7.1** · 10 minutes · easy\n\nAs "
        "{cite:t}`zeiler2014visualizing` and {cite}`zhou2016learning,adebayo2018sanity` say of "
        "{term}`logits <logit>` and {term}`stride`, see"
        " [5](05_occlusion.ipynb#x), [terms](../book/glossary.md), [home](https://pytorch.org/).\n\n:::{exercise-end}\n:::"
    )
    assert plain(source, "notebooks", ADDRESS) == (
        "### Exercise 7.1: A cup\n\n10 minutes · easy\n\nAs Zeiler and Fergus (2014) and (Zhou et al. 2016; "
        "Adebayo et al. 2018) say of logits and stride, see"
        " [5](https://colab.research.google.com/github/owner/name/blob/colab/notebooks/05_occlusion.ipynb),"
        " [terms](https://github.com/owner/name/blob/main/book/glossary.md), [home](https://pytorch.org/)."
    )
    assert (
        plain(":::{dropdown} More\nOne.\n\nTwo.\n:::\n\nThree.", "notebooks", None)
        == "**More**\n\nOne.\n\nTwo.\n\n\nThree."
    )
    assert plain("[5](05_occlusion.ipynb), [terms](../book/glossary.md)", "notebooks", None) == (
        "[5](05_occlusion.ipynb), terms"
    )


def test_a_notebook_without_the_set_up_cell_is_refused() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import torch")])
    with pytest.raises(ValueError, match="not the set-up cell"):
        name_source(notebook, "somewhere")


def test_a_set_up_that_fails_says_what_to_do(tmp_path: Path) -> None:
    """In a Python without the book, from a place that is no clone of it."""
    shell = InteractiveShell.instance()
    block = shell.transform_cell(_set_up().replace('find_spec("helpers")', 'find_spec("helpers_that_are_not_there")'))
    start = "from IPython import get_ipython\nfrom IPython.core.interactiveshell import InteractiveShell as shell\n"
    folder = tmp_path / "content"
    folder.mkdir()
    command = [sys.executable, "-c", f"{start}shell.instance()\n{block}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "is not installable" in result.stdout + result.stderr
    assert "ModuleNotFoundError: pip says above why; `book` must be a clone of the book" in result.stderr
