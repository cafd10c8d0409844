"""Real data where it is at hand, and a data root of no user's choice."""

import os
from pathlib import Path

import pytest
from places import ROOT


@pytest.fixture
def shared_data() -> Path:
    """A data root that holds the real MNIST."""
    beside = ROOT.parent / "shared" / "data"
    root = Path(os.environ.get("HYPERGRAD_TEST_DATA", beside))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"no MNIST in {root}: set HYPERGRAD_TEST_DATA to a torchvision root")
    return root


@pytest.fixture(autouse=True)
def _default_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERGRAD_DATA", raising=False)
