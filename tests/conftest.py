"""Fixtures shared by all tests."""

import os
import sys
from pathlib import Path

import pytest
import torch
from commands import Answer, Call
from places import ROOT

from hypergrad.cli import app as cli


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder with real data (`MNIST/raw/...`); tests that need it are skipped without."""
    folder = Path(os.environ.get("HYPERGRAD_TEST_DATA", ROOT.parent / "shared" / "data"))
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


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    """Run the command line in this process, where no run lies about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["hypergrad", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return Answer(int(left.value.code or 0), *capsys.readouterr())

    return call
