"""The three lists of packages agree: pyproject.toml (loose), environment.yml (conda), requirements.txt (exact)."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
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
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    items = environment["dependencies"]
    pip = next(item["pip"] for item in items if isinstance(item, dict))
    assert "-e ." in pip
    texts = [item for item in items if isinstance(item, str)] + [item for item in pip if not item.startswith("-")]
    conda = {}
    for text in texts:
        requirement = Requirement(text)
        conda[CONDA_NAMES.get(requirement.name, requirement.name)] = str(requirement.specifier)
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert conda.pop(requirement.name) == str(requirement.specifier), requirement.name
    assert conda.pop("python") == PROJECT["requires-python"]
    assert set(conda) == {"pip", "jupyterlab"}  # what pyproject has no use for


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
