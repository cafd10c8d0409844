"""Searches that take a second: digits, a small MLP, a few settings."""

from pathlib import Path

import pandas as pd
from rich.console import Console

from hypergrad.config.composition import compose
from hypergrad.drivers.context import RunContext, prepare
from hypergrad.drivers.search.driver import SearchDriver
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt

SMALL = [
    "data.image_size=null",
    "model=mlp",
    "model.options.hidden=8",
    "scale=smoke",
    "repeats=2",
    "search.grid.learning_rate=[0.05,0.4]",
    "search.grid.factor=[0.1,0.4]",
    "search.grid.momentum=[0.9]",
    "search.grid.weight_decay=[5e-4]",
    "search.ensemble=1",
    "hyperparameters.learning_rate.count=3",
]


def setting(*overrides: str) -> tuple[RunContext, str]:
    config, text = compose("baselines/digits", [*SMALL, *overrides])
    return prepare(config), text


def new_run(
    given: RunContext, text: str, outputs: Path, overrides: list[str] = SMALL
) -> RunDirectory:
    run = RunDirectory.create(outputs, given.config.name)
    run.write_config(text, overrides)
    return run


def search(
    given: RunContext, run: RunDirectory, interrupt: Interrupt | None = None
) -> SearchDriver:
    return SearchDriver(given, run, TaskProgress(Console(quiet=True)), interrupt or Interrupt())


def lead(given: RunContext, run: RunDirectory, interrupt: Interrupt | None = None) -> None:
    """Search to the end, as the process that leads."""
    run.update_summary({"settings": {"search": given.config.search.kind}})
    search(given, run, interrupt).lead()


def results(run: RunDirectory | Path) -> dict[str, pd.DataFrame]:
    """All that must not depend on how the trials were shared out: not their seconds."""
    path = run if isinstance(run, Path) else run.path
    return {
        name: pd.read_csv(path / f"{name}.csv").drop(columns="seconds")
        for name in ("trials", "finals")
    }


def assert_same(run: RunDirectory | Path, other: RunDirectory | Path, **tolerance: float) -> None:
    """Two searches came to the same, trial by trial; bit for bit unless a tolerance is given."""
    found, expected = results(run), results(other)
    for name in expected:
        pd.testing.assert_frame_equal(
            found[name], expected[name], check_exact=not tolerance, **tolerance
        )
