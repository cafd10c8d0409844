"""Real processes, killed and resumed."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from processes import alive, start, the_run, wait_for
from tiny import OVERRIDES, everything

RUN = [sys.executable, "-m", "hypergrad", "run"]
COMMAND = [*RUN, "from_zero", *OVERRIDES, "epochs=160"]
SMALL = ["data=digits", "model=mlp", "scale=smoke", "checkpoint_seconds=0.5"]
COMMANDS = {
    "from_zero": COMMAND,
    # Two adjoints, few states: half of the time is the way back.
    "reverse": [
        *[*COMMAND, "name=reverse", "method.mode=reverse", "method.clip_products=null"],
        *["method.truncation=0.15", "reverse.memory_gb=2e-4"],
    ],
    "fig2": [*RUN, "fig2", *SMALL, "jobs=2", "repeats=20", "hypervariance.steps=120"],
    "fig3": [*RUN, "fig3", *SMALL, "epochs=60", "outer.steps=6"],
    "improve_digits": [*RUN, "improve_digits", "threads=1", "epochs=4"],
}


def content(experiment: str, run: Path) -> object:
    """All that must not depend on kills."""
    if experiment == "fig2":
        return (run / "hypergradients.csv").read_text()
    if experiment == "fig3":
        return {file.parent.name: everything(file.parent) for file in run.glob("*/inner.csv")}
    if experiment == "improve_digits":
        rows = pd.read_csv(run / "trainings.csv", dtype=str).drop(columns=["seconds", "checksum"])
        return rows.to_csv(), (run / "schedule.json").read_text()
    return everything(run)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("experiment", COMMANDS)
def test_ten_kills_at_random_moments_leave_no_trace(tmp_path: Path, experiment: str) -> None:
    errors = tmp_path / "errors.txt"
    command = COMMANDS[experiment]
    whole = start(errors, *command, f"outputs={tmp_path / 'whole'}")
    assert whole.wait() == 0, errors.read_text()
    moments = random.Random(0)
    process = start(errors, *command, f"outputs={tmp_path / 'killed'}")
    wait_for(tmp_path / "killed" / experiment, process)
    kills = 0
    for _ in range(10):
        run = the_run(tmp_path / "killed")
        wait_for(run / ".lock", process)
        time.sleep(moments.uniform(0, 1.5))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        process = start(errors, *RUN, "--resume", str(run))
        time.sleep(3)  # imports
    assert process.wait() == 0, errors.read_text()
    assert kills >= 3
    killed, untouched = (the_run(tmp_path / name) for name in ("killed", "whole"))
    assert content(experiment, killed) == content(experiment, untouched)


@pytest.mark.fault
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    errors = tmp_path / "errors.txt"
    process = start(errors, *COMMANDS["fig2"], "repeats=500", f"outputs={tmp_path}")
    wait_for(tmp_path / "fig2", process)
    run = the_run(tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not list((run / "repeats").glob("*.json")):
        assert process.poll() is None, errors.read_text()
        time.sleep(0.1)
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert [pid for pid in workers if alive(pid)] == []


@pytest.mark.fault
def test_a_table_whose_parent_is_killed_goes_on_from_its_cells(tmp_path: Path) -> None:
    errors = tmp_path / "errors.txt"
    tiny = ["data.image_size=null", "model=mlp", "model.options.hidden=8", "search.ensemble=1"]
    grid = ["search.grid.learning_rate=[0.1]", "search.grid.factor=[0.2,0.4]"]
    small = ["scale=smoke", *tiny, *grid, "table.rows=[ours,random,grid]", "budget=20trials"]
    command = [*RUN, "table1", *small, "repeats=1", "epochs=20", "checkpoint_seconds=0.5"]
    whole = start(errors, *command, "jobs=2", f"outputs={tmp_path / 'whole'}")
    assert whole.wait() == 0, errors.read_text()
    process = start(errors, *command, "jobs=2", f"outputs={tmp_path / 'killed'}")
    wait_for(tmp_path / "killed" / "table1", process)
    run = the_run(tmp_path / "killed")
    for delay in (5.0, 8.0):  # the cells import, then train
        children = []
        while not children:
            assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = time.monotonic() + 30
        while any(alive(int(pid)) for pid in children) and time.monotonic() < until:
            time.sleep(0.1)
        assert [pid for pid in children if alive(int(pid))] == []
        process = start(errors, *RUN, "--resume", str(run))
    try:
        assert process.wait(timeout=300) == 0, errors.read_text()
    finally:
        process.kill()
    expected = the_run(tmp_path / "whole")
    for name in ("digits_grid", "digits_random_seed0"):
        for file in ("trials.csv", "finals.csv"):
            found, wanted = (
                pd.read_csv(folder / name / file).drop(columns="seconds")
                for folder in (run, expected)
            )
            pd.testing.assert_frame_equal(found, wanted)
    found, wanted = (everything(folder / "digits_ours_seed0") for folder in (run, expected))
    assert found == wanted


@pytest.mark.fault
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_and_says_how_to_resume(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    errors = tmp_path / "errors.txt"
    process = start(errors, *COMMAND, "checkpoint_seconds=1000", f"outputs={tmp_path}")
    wait_for(tmp_path / "from_zero", process)
    run = the_run(tmp_path)
    wait_for(run / "inner.csv", process)
    process.send_signal(number)
    assert process.wait() == code
    assert f"--resume {run}" in errors.read_text().splitlines()[-1]
    assert list((run / "checkpoints").glob("*.json"))
    assert '"status": "interrupted"' in (run / "summary.json").read_text()


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_members_in_processes_write_checkpoints_when_their_parent_is_stopped_or_dies(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    errors = tmp_path / "errors.txt"
    command = [*RUN, "from_zero", "-m", *OVERRIDES, "seed=0,1", "epochs=60", "repeats=1"]
    command += ["checkpoint_seconds=1000"]  # none but the one that is asked for
    whole = start(errors, *command, f"outputs={tmp_path / 'whole'}")
    assert whole.wait() == 0, errors.read_text()
    process = start(errors, *command, "jobs=2", f"outputs={tmp_path / 'stopped'}")
    wait_for(tmp_path / "stopped" / "from_zero", process)
    run = the_run(tmp_path / "stopped")
    names = ("0_seed=0", "1_seed=1")
    for name in names:
        wait_for(run / name / "inner.csv", process)
    workers = children_of(process)
    process.send_signal(number)
    assert process.wait() == code
    until = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert [pid for pid in workers if alive(pid)] == []
    for name in names:
        assert list((run / name / "checkpoints").glob("*.json"))
        assert '"status": "interrupted"' in (run / name / "summary.json").read_text()
    if number != signal.SIGKILL:
        assert f"--resume {run}" in errors.read_text().splitlines()[-1]
    again = start(errors, *RUN, "--resume", str(run))
    assert again.wait() == 0, errors.read_text()
    for name in names:
        assert everything(run / name) == everything(the_run(tmp_path / "whole") / name)


def children_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]
