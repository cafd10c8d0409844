"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder with real data (`MNIST/raw/...`); tests that need it are skipped without."""
    folder = Path(os.environ.get("HYPERGRAD_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file():
        pytest.skip(f"no real MNIST under {folder}: set HYPERGRAD_TEST_DATA to a folder with one")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Small tensors are quicker on one thread, and sums then come out the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _ordinary_memory() -> None:
    """Tests that call the command line in this process leave its allocator as it is."""
    os.environ["HYPERGRAD_KEEP_MEMORY"] = "0"
