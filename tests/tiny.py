"""A whole run that takes a second: digits, a small MLP, a few outer steps."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from hypergrad.config.composition import compose
from hypergrad.drivers.context import RunContext, make_model, prepare
from hypergrad.drivers.inner_optimizer import logged_names
from hypergrad.drivers.learn.driver import LearnDriver
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt
from hypergrad.runs.run_log import RunLog
from hypergrad.training.inner_run import InnerRun

OVERRIDES = [
    "repeats=2",
    "epochs=2",
    "rows_per_epoch=2",
    "data.train_size=200",
    "data.test_size=60",
    "model.options.hidden=8",
    "hyperparameters.learning_rate.count=2",
    "outer.steps=3",
    "checkpoint_seconds=0.02",
]

# The source of a network that draws random numbers, to be written beside a run.
DROPOUT = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        channels, height, width = shape
        inner = nn.Linear(channels * height * width, 8)
        super().__init__(nn.Flatten(), inner, nn.Dropout(0.5), nn.Linear(8, classes))
"""

PANDAS = tuple(map(int, pd.__version__.split(".")[:2]))


class Watcher:
    """Records what it is told, and calls `on_step` with the number of steps so far."""

    def __init__(self, on_step: Callable[[int], None] = lambda steps: None) -> None:
        self.steps = 0
        self.notes: list[str] = []
        self.costs: list[float] = []
        self._on_step = on_step

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None: ...

    def step(self, inner: InnerRun, cost: float) -> None:
        self.steps += 1
        self.costs.append(cost)
        self._on_step(self.steps)

    def row(self, row: object) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def tiny_context(*overrides: str) -> tuple[RunContext, str]:
    config, text = compose("from_zero", [*OVERRIDES, *overrides])
    return prepare(config), text


def new_run(context: RunContext, text: str, outputs: Path) -> RunDirectory:
    run = RunDirectory.create(outputs, context.config.name)
    run.write_config(text, OVERRIDES)
    return run


def go(
    context: RunContext,
    run: RunDirectory,
    watcher: Watcher | None = None,
    interrupt: Interrupt | None = None,
    *,
    resume: bool = False,
) -> RecordedInnerLoop:
    """Run, or resume, to the end."""
    log = RunLog(run, logged_names(context.config))
    config = context.config
    loop = RecordedInnerLoop(
        config,
        context.data,
        context.plan,
        log,
        watcher or Watcher(),
        interrupt or Interrupt(),
    )
    learner = LearnDriver(
        config,
        context.data,
        lambda seed: make_model(config, context.data, seed),
        context.plan,
        loop,
    )
    try:
        if resume:
            loop.resume()
        learner.run()
    finally:
        log.close()
    return loop


def table(run: RunDirectory | Path, name: str) -> pd.DataFrame:
    path = run if isinstance(run, Path) else run.path
    # Exact by default from pandas 3.1 on, where saying so is deprecated.
    precision = None if PANDAS >= (3, 1) else "round_trip"
    return pd.read_csv(path / f"{name}.csv", float_precision=precision)


def everything(run: RunDirectory | Path) -> dict[str, str]:
    """The text of all that must not depend on interruptions: `seconds` is wall time."""
    path = run if isinstance(run, Path) else run.path
    inner = pd.read_csv(path / "inner.csv", dtype=str, keep_default_na=False)
    return {
        "inner": inner.drop(columns="seconds").to_csv(),
        "outer": (path / "outer.csv").read_text(),
        "hd": (path / "hd.csv").read_text(),
        "schedule": (path / "schedule.json").read_text(),
        "results": json.dumps(json.loads((path / "summary.json").read_text())["results"]),
    }


class Crash(Exception):
    """Stands for a killed process: nothing is saved on the way out."""
