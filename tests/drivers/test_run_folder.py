"""A script's search in a run directory: every command that reads runs reads it."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch
from commands import Call
from torch import Tensor, nn

from hypergrad import (
    Hyperparameter,
    InnerOptimizer,
    Objective,
    RunFolder,
    Schedule,
    Search,
    Vector,
    Windows,
    sgd,
    supervised,
)
from hypergrad.api.search_log import InnerRow
from hypergrad.data import load
from hypergrad.data.sources import TensorBatches
from hypergrad.runs.directory import RunDirectory

HORIZON = 10


def images(start: int, stop: int) -> tuple[Tensor, Tensor]:
    train = load("digits").train
    return train.images[start:stop].flatten(1), train.labels[start:stop]


def search(log: RunFolder, outer_steps: int = 3) -> Search:
    torch.manual_seed(1)
    rate = Hyperparameter("learning_rate", Windows(2), 0.02, 0.5, "log")
    return Search(
        nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)),
        supervised(),
        TensorBatches(images(0, 160), 32, (0, "search")),
        [images(1000, 1200)],
        epochs=2,
        outer_steps=outer_steps,
        optimizer=InnerOptimizer(sgd(), (rate, Hyperparameter("momentum", 1, 0.5))),
        log=log,
    )


def files(run: RunDirectory) -> dict[str, str]:
    """All that must not depend on interruptions; `seconds` is wall time."""
    inner = pd.read_csv(run.path / "inner.csv", dtype=str, keep_default_na=False)
    names = "outer.csv", "schedule.json"
    return {name: (run.path / name).read_text() for name in names} | {
        "inner": inner.drop(columns="seconds").to_csv()
    }


def test_what_it_writes(tmp_path: Path) -> None:
    log = RunFolder("mine", tmp_path)
    held = search(log).run()
    assert log.run.path.parent == tmp_path / "mine"
    inner = pd.read_csv(log.run.path / "inner.csv")
    assert inner["outer_step"].tolist() == [0, 0, 1, 1, 2, 2]
    assert inner["epoch"].tolist() == [1, 2] * 3
    ends = inner[inner["epoch"] == 2]
    assert ends["validation_loss"].tolist() == [s.validation_loss for s in held.history]
    assert inner["learning_rate"].tolist() == [
        rate for step in held.history for rate in step.schedule["learning_rate"]
    ]
    outer = pd.read_csv(log.run.path / "outer.csv")
    assert outer["hypergradient"].tolist() == [h for s in held.history for h in s.hypergradients]
    summary = log.run.read_summary()
    assert summary["status"] == "finished"
    assert summary["settings"]["model"] == "Sequential"
    assert summary["spent"][0]["gradients"] == 3 * HORIZON
    entry = json.loads((log.run.path / "schedule.json").read_text())["schedules"][0]
    assert entry["outer_step"] == held.best.number
    assert not log.run.is_held()


class Failing(RunFolder):
    """Breaks off once, in the middle of an outer step."""

    at = -1
    error: type[BaseException] = OSError

    def row(self, row: InnerRow) -> None:
        super().row(row)
        self.at -= 1
        if self.at == 0:
            raise self.error("no space left")


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_search_goes_on_in_its_directory(
    at: int, error: type[BaseException], tmp_path: Path
) -> None:
    whole = RunFolder("whole", tmp_path)
    history = search(whole).run().history
    log = Failing("broken", tmp_path, checkpoint_seconds=0.0)
    log.at, log.error = at, error
    with pytest.raises(error):
        search(log).run()
    status = "failed" if error is OSError else "interrupted"
    assert log.run.status() == status
    log.close()  # as the end of the process does
    again = search(RunFolder.open(log.run.path)).resume()
    assert again.run().history == history
    assert files(log.run) == files(whole.run)
    assert log.run.status() == "finished"


def test_it_goes_on_in_the_same_process_too(tmp_path: Path) -> None:
    whole = RunFolder("whole", tmp_path)
    search(whole).run()
    log = Failing("broken", tmp_path)
    log.at = 3
    held = search(log)
    with pytest.raises(OSError, match="no space left"):
        held.run()
    held.run()
    assert files(log.run) == files(whole.run)


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    log = RunFolder("mine", tmp_path)
    held = search(log)
    next(held)
    with pytest.raises(ValueError, match=f"is being written by process {os.getpid()} "):
        search(RunFolder.open(log.run.path)).resume()
    log.close()


def test_going_on_without_resume_is_refused(tmp_path: Path) -> None:
    log = RunFolder("mine", tmp_path)
    next(search(log))
    log.close()
    with (
        RunFolder.open(log.run.path) as again,
        pytest.raises(ValueError, match="call resume"),
    ):
        search(again).run()


# The commands


def test_the_commands_read_it(tmp_path: Path, call: Call) -> None:
    log = RunFolder("mine", tmp_path)
    held = search(log).run()
    path = str(log.run.path)
    listed = call("runs", "--outputs", str(tmp_path))
    assert listed.code == 0
    assert f"mine/{log.run.path.name}" in listed.out
    assert "finished" in listed.out
    assert call("plot", "--run", path).code == 0
    drawn = {file.name for file in (log.run.path / "figures").glob("*.png")}
    assert drawn == {"fig1.png", "fig4.png"}
    points = pd.read_csv(log.run.path / "figures" / "fig1.csv")
    seen = points[points["panel"] == "test_accuracy"]["value"].tolist()
    assert seen[1::2] == [step.validation_loss for step in held.history]
    assert call("export", path, "-o", str(tmp_path / "schedule.json")).code == 0
    schedule = Schedule.load(tmp_path / "schedule.json")
    assert schedule == held.best.schedule
    assert schedule.learned_for == held.best.schedule.learned_for
    assert schedule.origin is not None
    assert schedule.origin.validation_accuracy == held.best.validation_accuracy
    assert (schedule.origin.steps, schedule.origin.epochs) == (HORIZON, 2)
    table = call("table", path)
    assert table.code == 2
    assert len(table.err.splitlines()) == 1


def test_the_runner_does_not_resume_it(tmp_path: Path, call: Call) -> None:
    log = RunFolder("mine", tmp_path)
    next(search(log))
    log.close()
    answer = call("run", "--resume", str(log.run.path))
    assert answer.code == 2
    assert "Search.resume()" in answer.err


def test_a_run_of_the_command_line_is_not_opened(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "fig1")
    run.write_config("experiment: fig1\n", [])
    with pytest.raises(ValueError, match="hypergrad run --resume"):
        RunFolder.open(run.path)


def test_values_that_are_vectors_are_left_out_of_the_rows(tmp_path: Path) -> None:
    log = RunFolder("mine", tmp_path)
    held = Search(
        nn.Linear(64, 10),
        Objective(
            lambda module, batch, values: (
                values["weights"][batch[1]]
                * nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="none")
            ).mean(),
            lambda module, batch, values: nn.functional.cross_entropy(module(batch[0]), batch[1]),
        ),
        TensorBatches(images(0, 160), 32, (0, "search")),
        [images(1000, 1200)],
        epochs=1,
        outer_steps=1,
        optimizer=InnerOptimizer(
            sgd(),
            (
                Hyperparameter("learning_rate", 1, 0.1),
                Hyperparameter("weights", Vector(10), 1.0, low=0.0),
            ),
        ),
        log=log,
    )
    held.run()
    inner = pd.read_csv(log.run.path / "inner.csv")
    assert inner["weights"].isna().all()
    assert len(pd.read_csv(log.run.path / "outer.csv")) == 11
