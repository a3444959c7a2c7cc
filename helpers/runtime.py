"""Where the code runs: the device, the random seed, the notebook service."""

import importlib.util
import os
import platform
import random
from collections.abc import Iterable

import numpy as np
import torch
from tqdm.auto import tqdm


def device() -> torch.device:
    """The fastest device of this machine: CUDA, else MPS (Apple), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def seed(value: int = 0) -> None:
    """Seed the generators of Python, NumPy and PyTorch (all devices) with ``value``."""
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002  (what libraries without a generator of their own use)
    torch.manual_seed(value)


def place() -> str:
    """The service that runs this code: ``"Colab"``, ``"Binder"``, ``"Jupyter"`` or ``"Python"``."""
    if importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
        return "Colab"
    if "BINDER_SERVICE_HOST" in os.environ:
        return "Binder"
    try:
        get_ipython  # noqa: B018  (IPython adds this name to the builtins)
    except NameError:
        return "Python"
    return "Jupyter"


def describe() -> str:
    """One line for the top of a notebook: device, threads, versions, service."""
    here = device()
    name = torch.cuda.get_device_name(here) if here.type == "cuda" else f"{torch.get_num_threads()} threads"
    return (
        f"Running on {here.type} ({name}) with PyTorch {torch.__version__.split('+')[0]}, "
        f"Python {platform.python_version()}, {place()}."
    )


def progress(items: Iterable, name: str, unit: str) -> Iterable:
    """``items`` with a progress bar that appears after a second; none where ``TQDM_DISABLE`` is set (as in a build)."""
    disable = bool(os.environ.get("TQDM_DISABLE"))  # tqdm's own look at it is lost in its notebook bar
    return tqdm(items, desc=name, unit=unit, delay=1, leave=False, disable=disable)
