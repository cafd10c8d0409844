"""Whole runs on several ranks: the same files as on one, whatever is killed or told to stop."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from processes import launcher, start, the_run, wait_for
from tiny import OVERRIDES, everything, table

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.drivers.context import check_ranks
from hypergrad.parallel.ranks import ALONE, Ranks

HYPERGRAD = ["-m", "hypergrad", "run"]
TINY = [*OVERRIDES, "repeats=1", "precision=float64", "threads=1"]
LONG = [*TINY, "hvp.strategy=loop", "epochs=100", "outer.steps=4", "outer.tolerance=0"]


def on(size: int, *arguments: str) -> list[str]:
    """The command for a number of ranks."""
    return [*launcher(size), *HYPERGRAD, *arguments]


def finish(command: list[str], errors: Path) -> None:
    process = start(errors, *command)
    assert process.wait(timeout=240) == 0, errors.read_text()


@pytest.mark.slow
def test_two_ranks_write_what_one_writes(tmp_path: Path) -> None:
    for strategy in ("fused", "stacked"):
        command = ["quickstart", *TINY, f"hvp.strategy={strategy}"]
        for size in (1, 2):
            outputs = f"outputs={tmp_path / f'{strategy}{size}'}"
            finish(on(size, *command, outputs), tmp_path / "errors.txt")
    one, two = the_run(tmp_path / "fused1"), the_run(tmp_path / "fused2")
    assert everything(two) == everything(one)
    one, two = the_run(tmp_path / "stacked1"), the_run(tmp_path / "stacked2")
    for name in ("inner", "outer", "hd"):
        here, there = (
            table(run, name).drop(columns="seconds", errors="ignore") for run in (two, one)
        )
        pd.testing.assert_frame_equal(here, there, rtol=1e-10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a long run on one rank writes."""
    folder = tmp_path_factory.mktemp("whole")
    finish(on(1, "quickstart", *LONG, f"outputs={folder}"), folder / "errors.txt")
    return everything(the_run(folder))


@pytest.mark.fault
def test_a_run_whose_ranks_are_killed_goes_on_with_another_number(
    tmp_path: Path, whole: dict[str, str]
) -> None:
    errors = tmp_path / "errors.txt"
    often = "checkpoint_seconds=0.3"
    process = start(errors, *on(2, "quickstart", *LONG, often, f"outputs={tmp_path}"))
    wait_for(tmp_path / "quickstart", process)
    run = the_run(tmp_path)
    for victim, next_size in ((1, 3), (0, 1)):
        steps = rows(run)
        while rows(run) < steps + 15:  # in the middle of inner runs with tangents
            assert process.poll() is None, errors.read_text()
            time.sleep(0.05)
        os.kill(rank_of(process, victim), signal.SIGKILL)
        assert process.wait(timeout=60) != 0
        process = start(errors, *on(next_size, "--resume", str(run)))
    assert process.wait(timeout=240) == 0, errors.read_text()
    assert everything(run) == whole


@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_ranks_writes_one_checkpoint(
    tmp_path: Path, whole: dict[str, str], number: signal.Signals
) -> None:
    errors = tmp_path / "errors.txt"
    seldom = "checkpoint_seconds=1000"
    process = start(errors, *on(2, "quickstart", *LONG, seldom, f"outputs={tmp_path}"))
    wait_for(tmp_path / "quickstart", process)
    run = the_run(tmp_path)
    while rows(run) < 15:
        assert process.poll() is None, errors.read_text()
        time.sleep(0.05)
    process.send_signal(number)  # to torchrun, which passes it on
    process.wait(timeout=60)
    assert errors.read_text().count(f"--resume {run}") == 1
    assert '"status": "interrupted"' in (run / "summary.json").read_text()
    finish(on(2, "--resume", str(run)), errors)
    assert everything(run) == whole


def rows(run: Path) -> int:
    """Lines of `inner.csv` so far."""
    path = run / "inner.csv"
    return len(path.read_text().splitlines()) if path.exists() else 0


def rank_of(torchrun: subprocess.Popen, rank: int) -> int:
    """The process that torchrun started as a rank."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    (found,) = [
        int(pid)
        for pid in children
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    ]
    return found


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (["fig2", "data=digits"], "jobs=2"),
        (["baselines/digits"], "--executor ray"),
        (["table1"], "jobs=2"),
        (["quickstart", "method=hd"], "method=shared"),
        (["fig1", "method=unshared", "data=digits"], "method=shared"),
        (["fig3", "jobs=2"], "drop jobs"),
    ],
)
def test_what_has_no_tangents_to_share_refuses_ranks(overrides: list[str], remedy: str) -> None:
    config, _ = compose(overrides[0], overrides[1:])
    check_ranks(config, ALONE)
    with pytest.raises(ConfigError, match=remedy):
        check_ranks(config, Ranks(0, 2))
