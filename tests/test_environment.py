"""The three lists of packages agree: pyproject.toml (loose), environment.yml (conda), requirements.txt (exact)."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from run_in_environment import environment, lowest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(pin.name): pin
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
    for pin in [Requirement(line)]
}


def _requirements(groups: list[str]) -> list[Requirement]:
    return [Requirement(text) for group in groups for text in PROJECT["optional-dependencies"][group]]


def test_environment_has_the_bounds_of_pyproject() -> None:
    conda = {name: str(wanted.specifier) for name, wanted in environment().items()}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert conda.pop(requirement.name) == str(requirement.specifier), requirement.name
    assert set(conda) == {"jupyterlab"}  # what pyproject has no use for


def test_environment_is_as_conda_and_repo2docker_read_it() -> None:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert set(listed) == {"name", "channels", "dependencies"}
    assert listed["channels"] == ["conda-forge", "nodefaults"]
    *items, pip = listed["dependencies"]
    assert all(isinstance(item, str) and re.fullmatch(r"[a-z0-9-]+(>=[\d.]+)?", item) for item in items)
    assert "pip" in items
    assert set(pip) == {"pip"}
    # repo2docker looks for a local path among these, and then copies the repository before it installs.
    assert pip["pip"][-1] == "-e ."
    assert f"python{PROJECT['requires-python']}" in items
    assert not list(ROOT.glob("postBuild")) + list(ROOT.glob("binder")), "these would change what Binder does"


def test_the_lowest_versions_are_those_of_pyproject() -> None:
    wanted = {Requirement(text).name: Requirement(text) for text in lowest()}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert f"{wanted[requirement.name].specifier}".replace("==", ">=") == str(requirement.specifier)


def test_colabs_packages_are_within_the_bounds() -> None:
    listed = [
        Requirement(line) for line in (ROOT / "tools/release/colab.txt").read_text().splitlines() if line[0] != "#"
    ]
    bounds = {Requirement(text).name: Requirement(text).specifier for text in PROJECT["dependencies"]}
    assert {"torch", "torchvision", "numpy"} <= {one.name for one in listed}
    for one in listed:
        assert bounds.get(one.name, one.specifier).contains(str(one.specifier).removeprefix("==")), one


def test_every_pin_is_exact() -> None:
    assert len(PINS) > 100
    for pin in PINS.values():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin


@pytest.mark.parametrize("group", ["dependencies", "book", "test"])
def test_pins_satisfy_the_bounds(group: str) -> None:
    wanted = list(map(Requirement, PROJECT["dependencies"])) if group == "dependencies" else _requirements([group])
    for requirement in wanted:
        pin = PINS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("==")), requirement


def test_no_address_of_a_registry_in_the_lock_file() -> None:
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text()


def test_what_the_pins_need_is_pinned() -> None:
    """All but what torch pins itself; `pip freeze`, for one, leaves setuptools out."""
    missing = {
        f"{canonicalize_name(needed.name)} (for {pin.name})"
        for pin in PINS.values()
        if pin.name != "torch" and (pin.marker is None or pin.marker.evaluate())
        for needed in map(Requirement, importlib.metadata.requires(pin.name) or [])
        if (needed.marker is None or needed.marker.evaluate({"extra": ""}))
        and canonicalize_name(needed.name) not in PINS
    }
    assert missing == set()
