"""Files of weights: their SHA-256, their tensors, their download."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor


def check(path: Path, digest: str | None) -> None:
    """Refuse a file that is missing, or whose SHA-256 does not begin with ``digest`` (None: not checked)."""
    try:
        found = path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise FileNotFoundError(f"no file of weights at {path}: {error}.") from error
    if not found:
        raise FileNotFoundError(f"no file of weights at {path}.")
    if digest is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(digest):
            raise ValueError(
                f"{path} is damaged: its SHA-256 is {found[:16]}…, expected {digest[:16]}…. Delete it and retry."
            )


def read_state(path: Path, digest: str | None) -> dict[str, Tensor]:
    """The state dict in ``path``, whose SHA-256 begins with ``digest`` (None: not checked)."""
    check(path, digest)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError … for a bad file
        raise ValueError(f"{path} holds no weights that PyTorch can read: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ValueError(f"{path} holds no state dict, which maps names to tensors.")
    return state


def read_lecturenet(path: Path, digest: str | None) -> tuple[dict[str, Tensor], Tensor, list[str]]:
    """LectureNet's state dict in 32 bits, the filters from which its training began, the names of its classes."""
    check(path, digest)
    try:
        with safe_open(path, "pt") as file:
            categories = json.loads((file.metadata() or {})["categories"])
            state = {key: file.get_tensor(key).float() for key in list(file.keys())}
        start = state.pop("start")
        if not isinstance(categories, list) or not all(isinstance(label, str) for label in categories):
            raise TypeError("its categories are no list of names")
        if start.shape != state["conv1.weight"].shape:
            raise TypeError(f"its start has shape {tuple(start.shape)}")
    except Exception as error:  # safetensors and json raise what they like for a bad file
        raise ValueError(f"{path} holds no weights of lecturenet: {error}") from error
    return state, start, categories


def download(url: str, folder: Path) -> Path:
    """The file of ``url`` in ``folder``, downloaded if it is not there yet."""
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:  # URLError and timeouts are OSErrors
            raise FileNotFoundError(
                f"{path.name} is not on this machine and {url} can't be reached ({error}). With a network, run this "
                f"once; or put the file into {folder}; or use the embedded network, models.load()."
            ) from error
    return path
