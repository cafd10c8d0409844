"""Tests see nothing of what a user has run or downloaded."""

import os
from pathlib import Path

import pytest
import torch
from commands import Call
from places import ROOT, RUNS
from processes import ENVIRONMENT


def test_the_users_runs_cannot_be_touched() -> None:
    for touch in (os.listdir, os.scandir, os.mkdir, open):
        with pytest.raises(AssertionError, match="a test touches .*outputs"):
            touch(RUNS)
    with pytest.raises(AssertionError, match="a test touches .*outputs"):
        (RUNS / "from_zero" / "x").mkdir()
    assert (RUNS / "README.md").read_text()  # of the checkout


def test_a_command_that_names_no_folder_sees_no_runs(call: Call, tmp_path: Path) -> None:
    assert "no runs under outputs" in call("runs").out
    assert Path.cwd() == tmp_path


def test_a_test_begins_in_an_empty_folder_at_one_seed() -> None:
    assert os.listdir() == []
    assert ROOT not in Path.cwd().parents
    assert not Path(os.environ["HYPERGRAD_DATA"]).exists()
    assert torch.initial_seed() == 0
    assert ENVIRONMENT["PYTHONPATH"] == str(ROOT)
