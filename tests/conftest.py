"""Fixtures that several test modules share."""

import pytest
import torch

torch.set_num_threads(1)  # the networks are small: threads that wait for each other took six times as long

DEVICES = ["cpu"]
DEVICES += ["cuda"] if torch.cuda.is_available() else []
DEVICES += ["mps"] if torch.backends.mps.is_available() else []


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """Every device of this machine in turn."""
    return torch.device(request.param)


@pytest.fixture
def exact_device(device) -> torch.device:
    """Every device that computes in float64."""
    if device.type == "mps":
        pytest.skip("MPS has no float64")
    return device


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Networks that a test makes without a seed are the same in every run."""
    torch.manual_seed(0)
