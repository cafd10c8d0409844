"""Real processes, killed and resumed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import OVERRIDES, everything

COMMAND = [sys.executable, "-m", "hypergrad", "run", "quickstart", *OVERRIDES, "epochs=12"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(errors: Path, *arguments: str) -> subprocess.Popen:
    """Start a process whose stderr goes to the file `errors`."""
    with errors.open("w") as file:
        return subprocess.Popen(
            arguments,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=Path(__file__).parents[1],
        )


def the_run(outputs: Path) -> Path:
    (run,) = (outputs / "quickstart").iterdir()
    return run


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, f"ended with {process.returncode}"
        time.sleep(0.05)


@pytest.mark.fault
@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_no_trace(tmp_path: Path) -> None:
    errors = tmp_path / "errors.txt"
    whole = start(errors, *COMMAND, f"outputs={tmp_path / 'whole'}")
    assert whole.wait() == 0
    moments = random.Random(0)
    process = start(errors, *COMMAND, f"outputs={tmp_path / 'killed'}")
    wait_for(tmp_path / "killed" / "quickstart", process)
    kills = 0
    for _ in range(10):
        run = the_run(tmp_path / "killed")
        wait_for(run / ".lock", process)
        time.sleep(moments.uniform(0, 4))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = start(errors, sys.executable, "-m", "hypergrad", "run", "--resume", str(run))
        time.sleep(3)  # imports
    assert process.wait() == 0, errors.read_text()
    assert kills >= 3
    assert everything(the_run(tmp_path / "killed")) == everything(the_run(tmp_path / "whole"))


@pytest.mark.fault
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_says_how_to_resume(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    errors = tmp_path / "errors.txt"
    process = start(errors, *COMMAND, "checkpoint_seconds=1000", f"outputs={tmp_path}")
    wait_for(tmp_path / "quickstart", process)
    run = the_run(tmp_path)
    wait_for(run / "inner.csv", process)
    process.send_signal(number)
    assert process.wait() == code
    assert f"--resume {run}" in errors.read_text().splitlines()[-1]
    assert list((run / "checkpoints").glob("*.json"))
    assert '"status": "interrupted"' in (run / "summary.json").read_text()
