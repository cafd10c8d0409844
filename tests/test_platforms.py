"""What macOS and Windows lack, taken away: everything that is POSIX's or Linux's alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT
from processes import ENVIRONMENT
from tiny import OVERRIDES, everything

# Read by every process that Python starts, workers too, before anything is imported.
MISSING = """
import io, os, signal, sys

for name in ("sched_getaffinity", "fork", "forkpty", "sysconf", "killpg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL"):
    if hasattr(signal, name):
        delattr(signal, name)
sys.modules["fcntl"] = sys.modules["resource"] = None  # importing them fails

os_open, io_open, os_replace, refused = os.open, io.open, os.replace, set()

def open_no_folder(path, flags, *rest, **named):
    if os.path.isdir(path):
        raise PermissionError(13, "folders cannot be opened", str(path))
    return os_open(path, flags, *rest, **named)

def open_no_proc(file, *rest, **named):
    if str(file).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "not on this system", str(file))
    return io_open(file, *rest, **named)

def replace_later(source, target, **named):
    if os.path.exists(target) and str(target) not in refused:  # somebody reads it, once
        refused.add(str(target))
        raise PermissionError(13, "is open", str(target))
    return os_replace(source, target, **named)

os.open, io.open, os.replace = open_no_folder, open_no_proc, replace_later
"""
RUN = ["run", "from_zero", *OVERRIDES, "repeats=1", "outer.steps=2", "threads=1"]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hypergrad", *arguments],
        env={**ENVIRONMENT, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Environment of a machine that lacks all of that."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(MISSING)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}


@pytest.mark.slow
def test_a_run_needs_nothing_that_only_some_systems_have(
    tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    there = run(tmp_path, *RUN, "--run-dir", str(tmp_path / "there"), **elsewhere)
    assert there.returncode == 0, there.stderr
    here = run(tmp_path, *RUN, "--run-dir", str(tmp_path / "here"))
    assert here.returncode == 0, here.stderr
    assert everything(tmp_path / "there") == everything(tmp_path / "here")
    again = run(tmp_path, *RUN, "--run-dir", str(tmp_path / "there"), **elsewhere)
    assert "finished already" in again.stderr


@pytest.mark.slow
def test_nor_does_a_sweep_over_processes(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    sweep = [*RUN, "-m", "seed=0,1", "jobs=2", "--run-dir", str(tmp_path / "sweep")]
    found = run(tmp_path, *sweep, **elsewhere)
    assert found.returncode == 0, found.stderr
    for name in ("0_seed=0", "1_seed=1"):
        assert '"status": "finished"' in (tmp_path / "sweep" / name / "summary.json").read_text()


def test_what_is_taken_away_is_missing(elsewhere: dict[str, str]) -> None:
    look = "import os, signal, hypergrad; print(hasattr(os, 'fork'), hasattr(signal, 'SIGUSR1'))"
    found = subprocess.run(
        [sys.executable, "-c", look],
        env={**ENVIRONMENT, **elsewhere},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "False False\n"


@pytest.mark.slow
def test_a_terminal_of_few_letters_shows_what_it_can(tmp_path: Path) -> None:
    shown = run(tmp_path, "check", "from_zero", "--steps", "6", PYTHONIOENCODING="ascii")
    assert "UnicodeEncodeError" not in shown.stderr
    assert shown.returncode == 0, shown.stderr
