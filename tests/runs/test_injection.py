"""A crash at every file operation of a run, its set-up included: it goes on to the same files."""

import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import torch
from injection import Killed, Operations, counted
from tiny import everything
from torch import nn

from hypergrad import (
    Hyperparameter,
    InnerOptimizer,
    RunFolder,
    Search,
    Windows,
    sgd,
    supervised,
)
from hypergrad.cli import app as cli
from hypergrad.config import composition as configs
from hypergrad.data import load
from hypergrad.data.sources import TensorBatches

TINY = (
    *("data=digits", "data.image_size=null", "model=mlp", "model.options.hidden=4", "threads=1"),
    *("data.train_size=60", "data.test_size=40", "selftest=off", "figures=[]", "repeats=1"),
    "checkpoint_seconds=1000",
)
ONE = ("epochs=1", "method.batch_size=20", "outer.steps=2", "rows_per_epoch=1")
LEARN = ("run", "from_zero", *TINY, *ONE, "hyperparameters.learning_rate.count=1",
         "hvp.strategy=loop", "baseline.enabled=false")  # fmt: skip
COMMANDS = {
    "learn": LEARN,
    "search": ("baselines", "digits", *TINY, "scale=smoke", "search.grid.learning_rate=[0.1]",
               "search.grid.factor=[0.2]", "search.grid.momentum=[0.5,0.9]", "search.ensemble=1",
               "search.grid.weight_decay=[5e-4]", "epochs=1", "method.batch_size=20"),
    "hypervariance": ("run", "fig2", *TINY, "scale=smoke", "jobs=1", "hypervariance.steps=4",
                      "hypervariance.perturbations=[train,weights]", "hypervariance.windows=2",
                      "method.batch_size=20"),
    "improve": ("run", "improve_digits", *TINY, "epochs=1", "method.batch_size=20",
                "improve.iterations=1", "improve.trajectories=2", "improve.repeats=1",
                "improve.margins=[1]", "improve.final=2", "improve.final_margins=[1]",
                "improve.judged=2", "improve.scales=[]", "improve.rung=1", "improve.steps=[1]",
                "hyperparameters.learning_rate.count=1", "baseline.learning_rate=0.1"),
    "multi-run": (*LEARN, "-m", "seed=0,1", "outer.steps=1", "hd.enabled=false"),
}  # fmt: skip


SET_UP = 60  # operations of a multi-run and of its first member, until that computes


class Case(NamedTuple):
    """What is broken off.

    Attributes:
        go: Begins it in a folder, or goes on with it; as a process of its own would.
        content: All that must not depend on crashes.
    """

    go: Callable[[Path], None]
    content: Callable[[Path], object]


def by_command(*arguments: str) -> Callable[[Path], None]:
    """Begin a run in a folder or go on with it, as `--run-dir` does."""

    def go(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["hypergrad", *arguments, "--run-dir", str(folder)])
            try:
                cli.main()
            except SystemExit as left:
                if left.code:
                    raise RuntimeError(f"exit code {left.code}") from left

    return go


def library(folder: Path) -> None:
    """The search of a script, which looks for what it has begun."""
    train = load("digits").train
    data = train.images[:24].flatten(1), train.labels[:24]
    torch.manual_seed(1)
    module = nn.Linear(64, 10)
    rate = Hyperparameter("learning_rate", Windows(1), 0.02, 0.5, "log")
    begun = [path.parents[1] for path in folder.glob("*/*/.hydra/config.yaml")]
    log = RunFolder.open(begun[0]) if begun else RunFolder("mine", folder)
    with log:
        search = Search(
            module,
            supervised(),
            TensorBatches(data, 8, (0, "search")),
            [data],
            epochs=1,
            optimizer=InnerOptimizer(sgd(), (rate,)),
            outer_steps=2,
            log=log,
        )
        (search.resume() if begun else search).run()


def of_learn(run: Path) -> object:
    return everything(run)


def of_search(run: Path) -> object:
    files = (pd.read_csv(run / f"{name}.csv", dtype=str) for name in ("trials", "finals"))
    return [file.drop(columns="seconds").to_csv() for file in files], text(run, "schedule.json")


def of_study(run: Path) -> object:
    return text(run, "hypergradients.csv")


def of_improvement(run: Path) -> object:
    rows = pd.read_csv(run / "trainings.csv", dtype=str).drop(columns=["seconds", "checksum"])
    return rows.to_csv(), text(run, "schedule.json")


def of_multirun(run: Path) -> object:
    members = pd.read_csv(run / "members.csv", dtype=str).drop(columns="seconds")
    return members.to_csv(), {name: everything(run / name) for name in ("0_seed=0", "1_seed=1")}


def of_library(folder: Path) -> object:
    (run,) = (path.parents[1] for path in folder.glob("*/*/.hydra/config.yaml"))
    inner = pd.read_csv(run / "inner.csv", dtype=str).drop(columns="seconds")
    return inner.to_csv(), text(run, "outer.csv"), text(run, "schedule.json")


def text(run: Path, name: str) -> str:
    return (run / name).read_text()


CONTENT = {
    "learn": of_learn,
    "search": of_search,
    "hypervariance": of_study,
    "improve": of_improvement,
    "multi-run": of_multirun,
}
CASES = {name: Case(by_command(*COMMANDS[name]), CONTENT[name]) for name in COMMANDS}
CASES["library"] = Case(library, of_library)


@pytest.fixture(autouse=True, scope="module")
def _composed_once() -> Iterator[None]:
    """Each configuration is composed and read once: it is the same every time, and takes long."""
    with pytest.MonkeyPatch.context() as patch:
        compose, load = lru_cache(configs.compose), lru_cache(configs.load)
        patch.setattr(configs, "compose", lambda name, own=(): compose(name, tuple(own)))
        patch.setattr(configs, "load", load)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[object, int]]:
    """What a case comes to, and in how many file operations."""
    known: dict[str, tuple[object, int]] = {}

    def of(name: str) -> tuple[object, int]:
        if name not in known:
            folder = tmp_path_factory.mktemp(name.replace("-", "")) / "run"
            with counted(Operations(folder)) as operations:
                CASES[name].go(folder)
            known[name] = CASES[name].content(folder), operations.count
        return known[name]

    return of


def broken_off_and_gone_on(name: str, folder: Path, at: int, how: str) -> Operations:
    """Begin, break off at one operation, and go on; return what was seen until it broke."""
    operations = Operations(folder, at, how)
    with counted(operations):
        try:
            CASES[name].go(folder)
        except (Killed, KeyboardInterrupt, RuntimeError, OSError):
            pass
    CASES[name].go(folder)
    return operations


def wrong(name: str, folder: Path, expected: object, at: int, how: str) -> Iterator[str]:
    """What is not as it would have been without the break."""
    operation = "?"
    try:
        seen = broken_off_and_gone_on(name, folder, at, how)
        operation = seen.names[at] if at < len(seen.names) else "none"
        if CASES[name].content(folder) != expected:
            yield f"{at} ({operation}): other files"
    except Exception as error:
        yield f"{at} ({operation}): {type(error).__name__}: {error}"
    # A directory that never became a run is nobody's: the next one has its own.
    runs = [path.parents[1] for path in folder.rglob(".hydra/config.yaml")]
    left = [path.name for run in runs for path in run.rglob("*.tmp~")]
    if left:
        yield f"{at} ({operation}): {left}"


@pytest.mark.parametrize("name", CASES)
def test_a_crash_in_the_middle_leaves_no_trace(
    tmp_path: Path, undisturbed: Callable[[str], tuple[object, int]], name: str
) -> None:
    expected, count = undisturbed(name)
    assert count > 30
    assert list(wrong(name, tmp_path / "run", expected, count // 2, "killed")) == []


@pytest.mark.parametrize("how", ["killed", "full disk", "Ctrl-C"])
def test_a_multirun_that_is_broken_off_in_its_set_up_goes_on(
    tmp_path: Path, undisturbed: Callable[[str], tuple[object, int]], how: str
) -> None:
    expected, _ = undisturbed("multi-run")
    assert list(wrong("multi-run", tmp_path / "run", expected, 12, how)) == []


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_crash_at_any_file_operation_leaves_no_trace(
    tmp_path: Path, undisturbed: Callable[[str], tuple[object, int]], name: str
) -> None:
    expected, count = undisturbed(name)
    thin = 4 if name == "multi-run" else 1  # its members are as a run alone is
    every = [("killed", at) for at in range(count) if at < SET_UP or at % thin == 0]
    every += [("full disk", at) for at in range(2, count, 9)]
    every += [("Ctrl-C", at) for at in range(4, count, 9)]
    found = [
        line
        for how, at in every
        for line in wrong(name, tmp_path / f"{how}{at}", expected, at, how)
    ]
    assert found == [], f"of {len(every)} crashes"
