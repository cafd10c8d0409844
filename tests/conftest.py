"""Fixtures shared by all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import Answer, Call
from places import ROOT, refuse_real_runs

from hypergrad.cli import app as cli


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder with real data (`MNIST/raw/...`); tests that need it are skipped without."""
    folder = Path(os.environ.get("HYPERGRAD_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte").is_file():
        pytest.skip(f"no real MNIST under {folder}: set HYPERGRAD_TEST_DATA to a folder with one")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _no_real_runs() -> None:
    """The checkout's own `outputs/` is neither read nor written: an error where it is tried."""
    sys.addaudithook(refuse_real_runs)


@pytest.fixture(scope="session")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, in which every test begins."""
    return tmp_path_factory.mktemp("nowhere")


@pytest.fixture(autouse=True)
def _apart(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test begins in an empty folder, without data of the user's, and at the same seed."""
    monkeypatch.chdir(nowhere)
    monkeypatch.setenv("HYPERGRAD_DATA", str(nowhere / "data"))
    torch.manual_seed(0)
    yield
    left = os.listdir(nowhere)
    assert not left, f"written to the current folder: {left}"


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
