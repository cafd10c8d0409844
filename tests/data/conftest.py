"""Real data where it is at hand, and no test that writes into the user's cache."""

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
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYPERGRAD_DATA", raising=False)
    monkeypatch.setattr("hypergrad.data.decode.cache_folder", lambda: tmp_path / "cache")
