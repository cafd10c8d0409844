"""Readers that go away, full disks, closed terminals, Ctrl-C: on real processes."""

import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import ENVIRONMENT, the_run
from tiny import OVERRIDES

from hypergrad.runs import interrupt as interrupts
from hypergrad.runs.interrupt import catch_signals

HYPERGRAD = [sys.executable, "-m", "hypergrad"]
RUN = [*HYPERGRAD, "run", "from_zero", *OVERRIDES, "threads=1", "selftest=off"]
LONG = [*RUN, "epochs=400", "checkpoint_seconds=1000"]
LINUX = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")


def to_full(*arguments: str) -> tuple[int, str]:
    """Run a command whose stdout is a full disk."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*HYPERGRAD, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            check=False,
            timeout=120,
        )
    return done.returncode, done.stderr


def wait_for_run(outputs: Path, process: subprocess.Popen) -> Path:
    while not list(outputs.glob("*/*/inner.csv")):
        assert process.poll() is None
        time.sleep(0.05)
    return the_run(outputs)


@pytest.mark.fault
@LINUX
def test_a_finished_run_is_one_whatever_becomes_of_its_output(tmp_path: Path) -> None:
    assert (
        subprocess.run([*RUN, f"outputs={tmp_path}"], env=ENVIRONMENT, check=False).returncode == 0
    )
    run = str(the_run(tmp_path))
    code, errors = to_full("run", "--resume", run)
    assert (code, errors.splitlines()[-1]) == (
        0,
        "hypergrad: stdout cannot be written (No space left on device)",
    )
    for shows in (
        ("runs", "--outputs", str(tmp_path)),
        ("export", run),
        ("run", "from_zero", "--cfg=job"),
    ):
        code, errors = to_full(*shows)
        assert (code, len(errors.splitlines())) == (1, 1)
    reader = subprocess.Popen(
        [*HYPERGRAD, "run", "--resume", run],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
    )
    assert reader.stdout is not None
    reader.stdout.close()
    assert reader.stderr is not None
    with reader.stderr as errors:
        assert "Traceback" not in errors.read()
    assert reader.wait(timeout=120) == 0


@pytest.mark.fault
def test_nobody_has_to_read_what_a_run_says_on_stderr(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RUN, f"outputs={tmp_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    assert process.wait(timeout=120) == 0
    assert '"status": "finished"' in (the_run(tmp_path) / "summary.json").read_text()


@pytest.mark.fault
def test_a_terminal_that_closes_leaves_a_checkpoint(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*LONG, f"outputs={tmp_path}"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    os.close(theirs)
    run = wait_for_run(tmp_path, process)
    os.close(ours)
    time.sleep(0.3)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 129
    assert '"status": "interrupted"' in (run / "summary.json").read_text()
    assert list((run / "checkpoints").glob("*.json"))


@pytest.mark.fault
def test_ctrl_c_pressed_again_and_again_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*LONG, f"outputs={tmp_path}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    wait_for_run(tmp_path, process)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.fault
@pytest.mark.slow
def test_ctrl_c_before_there_is_a_run_is_silent() -> None:
    moments = random.Random(1)
    for _ in range(12):
        process = subprocess.Popen(
            [*HYPERGRAD, "run", "from_zero", "--dry-run"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        time.sleep(moments.uniform(0.6, 2.5))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, 130, -signal.SIGINT), errors
        assert "rror" not in errors
        assert "Traceback" not in errors


def test_a_long_step_says_how_long_it_will_take(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "_outermost", None)
    for seconds, said in ((7.4, "stopping after this step, of 7 s, with a checkpoint"), (0.2, "")):
        with catch_signals() as interrupt:
            interrupt.step_seconds = seconds
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.requested == "SIGTERM"
        errors = capfd.readouterr().err
        assert said in errors
        assert bool(errors) == bool(said)
