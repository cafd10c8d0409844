"""Runs that a batch system cuts short: SIGUSR1, exit code 138, and the job queued again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from places import ROOT
from processes import ENVIRONMENT, start, wait_for
from tiny import OVERRIDES, everything

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1"),
]

HYPERGRAD = [sys.executable, "-m", "hypergrad"]
NEVER = "checkpoint_seconds=1000"  # none but the one that is asked for
LEARN = ["run", "from_zero", *OVERRIDES, "epochs=40", "repeats=1", NEVER]
# In processes: all that is sent reaches the parent alone, which passes it on.
SWEEP = ["run", "from_zero", "-m", *OVERRIDES, "seed=0,1", "epochs=24", "repeats=1", NEVER]
TINY = ["data=digits", "data.image_size=null", "model=mlp", "model.options.hidden=8"]
SEARCH = ["baselines", "digits", "scale=smoke", *TINY, "--search", "random", "--jobs", "2"]
SEARCH += ["budget=6trials", "repeats=1", "epochs=30", "search.ensemble=1"]
STUDY = ["run", "fig2", "scale=smoke", *TINY, "jobs=2", "repeats=4", "hypervariance.steps=60"]
COMMANDS = {
    "learn": (LEARN, ["inner.csv"]),
    "sweep": ([*SWEEP, "jobs=2"], ["0_seed=0/inner.csv", "1_seed=1/inner.csv"]),
    "search": (SEARCH, ["trials/*.json"]),
    "study": (STUDY, ["repeats/*.json"]),
}


def content(kind: str, run: Path) -> object:
    """All that must not depend on where a run was cut short."""
    if kind == "learn":
        return everything(run)
    if kind == "sweep":
        return [everything(run / name) for name in ("0_seed=0", "1_seed=1")]
    if kind == "search":
        names = ("trials.csv", "finals.csv")
        return [pd.read_csv(run / name).drop(columns="seconds").to_csv() for name in names]
    return (run / "hypergradients.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_run_cut_short_goes_on_in_its_directory_to_the_same_bits(
    tmp_path: Path, kind: str
) -> None:
    arguments, signs = COMMANDS[kind]
    errors, run, whole = (tmp_path / name for name in ("errors.txt", "run", "whole"))
    command = [*HYPERGRAD, *arguments, "--run-dir", str(run)]
    process = start(errors, *command)
    for sign in signs:
        while not list(run.glob(sign)):
            assert process.poll() is None, errors.read_text()
            time.sleep(0.02)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 138
    assert '"status": "interrupted"' in (run / "summary.json").read_text()
    again = start(errors, *command)
    assert again.wait(timeout=300) == 0, errors.read_text()
    undisturbed = start(errors, *HYPERGRAD, *arguments, "--run-dir", str(whole))
    assert undisturbed.wait(timeout=300) == 0, errors.read_text()
    assert content(kind, run) == content(kind, whole)


def batch_system(folder: Path) -> dict[str, str]:
    """Put an `srun` and an `scontrol` on the PATH that do what SLURM's do to one process."""
    folder.mkdir()
    tools = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "$@" >> {folder}/asked.txt',
        "hypergrad": f'exec {sys.executable} -m hypergrad "$@"',
    }
    for name, script in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**ENVIRONMENT, "PATH": path, "SLURM_JOB_ID": "17", "PYTHONPATH": str(ROOT)}


def submit(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    """Run the batch script in a folder, as SLURM does: in a shell of its own."""
    script = ROOT / "examples/slurm/hypergrad.sbatch"
    with (folder / "slurm-17.out").open("a") as output:
        return subprocess.Popen(
            ["bash", str(script), *arguments],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )


def test_the_slurm_script_queues_a_job_again_that_was_cut_short(tmp_path: Path) -> None:
    environment, asked = batch_system(tmp_path / "bin"), tmp_path / "bin/asked.txt"
    run, output = tmp_path / "outputs/slurm/17", tmp_path / "slurm-17.out"
    job = submit(tmp_path, environment, *LEARN)
    while not (run / "inner.csv").exists():
        assert job.poll() is None, output.read_text()
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)  # to the script alone, as `--signal=B:` asks for
    assert job.wait(timeout=60) == 0
    assert asked.read_text() == "requeue 17\n"
    assert '"message": "SIGUSR1"' in (run / "summary.json").read_text()
    assert submit(tmp_path, environment, *LEARN).wait(timeout=120) == 0, output.read_text()
    assert asked.read_text() == "requeue 17\n"  # and not again: it has finished
    assert '"status": "finished"' in (run / "summary.json").read_text()
    undisturbed = start(tmp_path / "errors", *HYPERGRAD, *LEARN, "--run-dir", str(tmp_path / "w"))
    assert undisturbed.wait(timeout=120) == 0
    assert everything(run) == everything(tmp_path / "w")


def test_the_slurm_script_ends_as_its_run_does(tmp_path: Path) -> None:
    environment = {**batch_system(tmp_path / "bin"), "SLURM_ARRAY_JOB_ID": "16"}
    environment["SLURM_ARRAY_TASK_ID"] = "3"
    assert submit(tmp_path, environment, "run", "from_zero", "sede=1").wait(timeout=60) == 2
    job = submit(tmp_path, environment, *LEARN)
    run = tmp_path / "outputs/slurm/16_3"
    wait_for(run / "inner.csv", job)
    job.send_signal(signal.SIGTERM)  # somebody has cancelled it
    assert job.wait(timeout=60) == 143
    assert not (tmp_path / "bin/asked.txt").exists()
    assert '"message": "SIGTERM"' in (run / "summary.json").read_text()
