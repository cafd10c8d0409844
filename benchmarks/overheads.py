"""`overheads`: what a run spends on anything but training, and on getting started."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median, quantiles

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.record import at_least, open_record
from benchmarks.stand_in import stand_in
from benchmarks.stopwatch import Stopwatch
from benchmarks.timing import CLOCKS
from hypergrad.config.composition import compose
from hypergrad.core.functional_model import FlatModel
from hypergrad.data import Minibatches
from hypergrad.data.catalogue import CATALOGUE
from hypergrad.drivers.context import prepare
from hypergrad.drivers.execute import execute
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.reporting.progress import RunProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.run_log import RunLog

__all__ = ["add_arguments", "measure", "start_up"]

COLUMNS = ("run", "what", "round", "seconds", "share")
WATCHED = {
    "minibatches": [(Minibatches, "at")],
    "evaluation": [(FlatModel, "evaluate")],
    "logging": [
        (RunLog, "append"),
        (RecordedInnerLoop, "announce"),
        (RunProgress, "begin"),
        (RunProgress, "step"),
        (RunProgress, "row"),
    ],
    "checkpoints": [(RecordedInnerLoop, "save")],
}
# LeNet on MNIST at the scale of a CPU, four rows an epoch; and the paper's own network and one row
# an epoch, with a twentieth of its images.
RUNS = (
    "fig1_mnist repeats=1 epochs=1 outer.steps=3",
    "fig1 data.train_size=2560 data.test_size=512 repeats=1 epochs=1 outer.steps=3",
)
START = "from_zero scale=smoke"
SIGN = "outer step 0"  # what a run says when its first inner step comes next


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this benchmark takes."""
    add = parser.add_argument
    add("--runs", nargs="*", default=RUNS, help="experiment and overrides, quoted; may be none")
    add("--rounds", type=at_least(2), default=5, help="starts of `hypergrad run`, at least 2")
    add("--clock", default="wall", choices=list(CLOCKS))


def measure(given: argparse.Namespace, folder: Path) -> None:
    """Take runs apart, and time starts; print tables and write the CSV.

    Args:
        given: As `add_arguments` reads it.
        folder: Where to write.
    """
    log = open_record(folder, COLUMNS, given)
    for run in given.runs:
        seconds = shares(run, given.device, given.clock)
        whole = sum(seconds.values())
        table = Table("what", "seconds", "share", title=run)
        for what, took in seconds.items():
            table.add_row(what, f"{took:.2f}", f"{100 * took / whole:.2f} %")
            row = {"run": run, "what": what, "round": 0, "seconds": took, "share": took / whole}
            log.append([row])
        Console().print(table)
    starts = [start_up(given.clock) for _ in range(given.rounds)]
    log.append(
        {"run": START, "what": "start", "round": number, "seconds": took, "share": None}
        for number, took in enumerate(starts)
    )
    low, middle, high = quantiles(starts, n=4, method="inclusive")
    print(
        f"hypergrad run {START}: {median(starts):.2f} s ({given.clock}) to the first inner step "
        f"(spread {100 * (high - low) / middle:.0f} %)"
    )
    log.close()


def shares(run: str, device: str, clock: str = "wall") -> Mapping[str, float]:
    """Run an experiment on random images of its data set's shape, and see where its time goes.

    Args:
        run: Experiment and overrides.
        device: Where.
        clock: One of `timing.CLOCKS`.

    Returns:
        Seconds by what they were spent on: everything from the run's beginning to its last file,
        without the figures; `training` is what is left.
    """
    experiment, *overrides = run.split()
    watch = Stopwatch(CLOCKS[clock])
    with tempfile.TemporaryDirectory() as folder:
        overrides += [f"outputs={folder}", f"device={device}"]
        config, text = compose(experiment, overrides)
        context = prepare(config, stand_in=True)
        if config.data.name in CATALOGUE:
            images = stand_in(config.data.name, config.data.train_size, config.data.test_size)
            dtype = getattr(torch, config.precision)
            context = context._replace(data=images.to(context.device, dtype))
        directory = RunDirectory.create(Path(folder), config.name)
        directory.write_config(text, overrides)
        began = CLOCKS[clock]()
        with watch.watching(WATCHED):
            execute(context, directory, ["benchmarks"], member=True)
        whole = CLOCKS[clock]() - began
    return {"training": whole - sum(watch.seconds.values()), **watch.seconds}


def start_up(clock: str = "wall") -> float:
    """Return the seconds from typing `hypergrad run` to the first inner step.

    Args:
        clock: `wall`, or `cpu`: what that process alone has computed by then (Linux).

    Returns:
        Seconds.

    Raises:
        RuntimeError: If the run ends without one.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hypergrad", "run", *START.split(), f"outputs={folder}"]
        began = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if SIGN in line:
                    waited = time.perf_counter() - began
                    took = waited if clock == "wall" else _computed(process.pid)
                    process.terminate()
                    process.communicate()
                    return took
        raise RuntimeError(f"{' '.join(command[1:])}: {''.join(said)}")


def _computed(process: int) -> float:
    """Processor time of a process so far, as proc(5) tells it."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
