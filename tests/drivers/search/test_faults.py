"""Searches by real processes: killed, resumed, helped."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import alive, start, the_run
from small import SMALL, assert_same, results

SEARCH = [sys.executable, "-m", "hypergrad", "baselines"]
# 24 trials, which take longer together than a process takes to start
COMMAND = [*SEARCH, "digits", *SMALL, "search.grid.momentum=[0.5,0.7,0.9]", "epochs=60"]
PATIENCE = 120  # seconds, far above what anything here takes on a busy machine

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    process = start(folder / "errors.txt", *COMMAND, f"outputs={folder}")
    assert process.wait(PATIENCE) == 0, (folder / "errors.txt").read_text()
    return the_run(folder)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start processes that do not outlive the test."""
    begun: list[subprocess.Popen] = []

    def start_one(*arguments: str) -> subprocess.Popen:
        begun.append(start(tmp_path / f"errors-{len(begun)}.txt", *arguments))
        return begun[-1]

    yield start_one
    for process in begun:
        process.kill()
        process.wait()


def finished(outputs: Path) -> int:
    return len(list(outputs.glob("*/*/trials/*.json")))


def wait_for_trials(outputs: Path, count: int, *processes: subprocess.Popen) -> None:
    until = time.monotonic() + PATIENCE
    while finished(outputs) < count:
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < until
        time.sleep(0.02)


def errors(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("errors-*.txt")))


@pytest.mark.parametrize("jobs", [1, 2])
def test_kills_at_random_moments_leave_no_trace(
    whole: Path, tmp_path: Path, begin: Callable[..., subprocess.Popen], jobs: int
) -> None:
    moments = random.Random(jobs)
    outputs = tmp_path / "outputs"
    process = begin(*COMMAND, f"jobs={jobs}", f"outputs={outputs}")
    for kill in range(4):
        wait_for_trials(outputs, 4 * kill + 2, process)
        time.sleep(moments.uniform(0, 0.8))
        process.kill()
        process.wait()
        process = begin(*SEARCH, "--resume", str(the_run(outputs)))
    assert process.wait(PATIENCE) == 0, errors(tmp_path)
    assert_same(the_run(outputs), whole)


def test_a_killed_worker_costs_nothing_but_its_trial(
    whole: Path, tmp_path: Path, begin: Callable[..., subprocess.Popen]
) -> None:
    outputs = tmp_path / "outputs"
    process = begin(*COMMAND, "jobs=2", f"outputs={outputs}")
    wait_for_trials(outputs, 3, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    workers = [pid for pid, command in commands.items() if "popen_loky" in command]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    assert process.wait(PATIENCE) == 0, errors(tmp_path)
    assert "a worker process died" in errors(tmp_path)
    assert not any(alive(pid) for pid in workers)
    assert_same(the_run(outputs), whole)


def test_a_second_process_helps(
    whole: Path, tmp_path: Path, begin: Callable[..., subprocess.Popen]
) -> None:
    outputs = tmp_path / "outputs"
    leader = begin(*COMMAND, f"outputs={outputs}")
    wait_for_trials(outputs, 1, leader)
    written = Path(the_run(outputs)) / "trials"
    helper = begin(*SEARCH, "--resume", str(the_run(outputs)))
    assert helper.wait(PATIENCE) == 0, errors(tmp_path)
    assert leader.wait(PATIENCE) == 0, errors(tmp_path)
    assert "helping it" in errors(tmp_path)
    assert len(list(written.glob("*.json"))) == len(results(whole)["trials"]) + 2
    assert_same(the_run(outputs), whole)


def test_the_helper_takes_the_lead_of_a_killed_leader(
    whole: Path, tmp_path: Path, begin: Callable[..., subprocess.Popen]
) -> None:
    outputs = tmp_path / "outputs"
    leader = begin(*COMMAND, f"outputs={outputs}")
    wait_for_trials(outputs, 1, leader)
    helper = begin(*SEARCH, "--resume", str(the_run(outputs)))
    until = time.monotonic() + PATIENCE
    while "helping it" not in errors(tmp_path):
        assert time.monotonic() < until
        time.sleep(0.02)
    leader.kill()
    leader.wait()
    assert helper.wait(PATIENCE) == 0, errors(tmp_path)
    assert_same(the_run(outputs), whole)


@pytest.mark.parametrize("kind", ["tpe", "hyperband"])
def test_an_adaptive_search_that_is_killed_goes_on_to_the_same_trials(
    begin: Callable[..., subprocess.Popen], tmp_path: Path, kind: str
) -> None:
    if kind == "tpe":
        pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[optuna]'")
    own = ("--search", kind, "search.trials=16", "epochs=27", "repeats=1")
    command = [*SEARCH, "digits", *SMALL, *own]
    undisturbed = begin(*command, f"outputs={tmp_path / 'whole'}")
    assert undisturbed.wait(PATIENCE) == 0
    process = begin(*command, f"outputs={tmp_path / 'killed'}")
    wait_for_trials(tmp_path / "killed", 3, process)
    process.kill()
    process.wait()
    assert 3 <= finished(tmp_path / "killed") < 16
    run = the_run(tmp_path / "killed")
    assert begin(*SEARCH, "--resume", str(run)).wait(PATIENCE) == 0
    assert_same(run, the_run(tmp_path / "whole"))
