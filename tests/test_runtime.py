"""Where the code runs."""

import builtins
import importlib.util
import random

import numpy as np
import pytest
import torch

from helpers import runtime


@pytest.mark.parametrize(
    "cuda, mps, expected",
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_comes_first(cuda, mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtime.device() == torch.device(expected)


def test_the_seed_seeds_all_three_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        runtime.seed(3)
        first = draw()
        runtime.seed(3)
        assert draw() == first
        runtime.seed(4)
        assert all(a != b for a, b in zip(draw(), first))
        runtime.seed()
        default = draw()
        runtime.seed(0)
        assert draw() == default
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def test_the_place(monkeypatch):
    monkeypatch.delenv("BINDER_SERVICE_HOST", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delattr(builtins, "get_ipython", raising=False)
    assert runtime.place() == "Python"
    monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    assert runtime.place() == "Jupyter"
    monkeypatch.setenv("BINDER_SERVICE_HOST", "10.0.0.1")
    assert runtime.place() == "Binder"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert runtime.place() == "Colab"


def test_the_description_is_one_line_that_names_device_and_version():
    text = runtime.describe()
    assert "\n" not in text and torch.__version__.split("+")[0] in text
    assert text.startswith(f"Running on {runtime.device().type} (") and text.endswith(f"{runtime.place()}.")
