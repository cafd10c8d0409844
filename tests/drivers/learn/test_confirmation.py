"""Of the best outer steps the one that holds: trained again on seeds that none has seen."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from tiny import Crash, Watcher, everything, go, new_run, table, tiny_context

from hypergrad import OuterStep, Schedule, best
from hypergrad.drivers.export import exported
from hypergrad.drivers.learn.confirmation import confirmed, finalists

CONFIRM = ("outer.confirm=2", "outer.confirmations=3", "repeats=1")


def entry(number: int, accuracy: float, loss: float) -> dict:
    return {"outer_step": number, "validation_accuracy": accuracy, "validation_loss": loss}


STEPS = [entry(0, 0.5, 1.0), entry(1, 0.9, 0.5), entry(2, 0.9, 0.4), entry(3, 0.8, 0.3)]


def test_finalists_by_accuracy_and_by_loss() -> None:
    lost = [*STEPS, entry(4, 0.99, math.nan)]
    assert [own["outer_step"] for own in finalists(lost, 3, "accuracy")] == [2, 1, 3]
    assert [own["outer_step"] for own in finalists(lost, 3, "loss")] == [3, 2, 1]
    assert len(finalists(lost, 9, "loss")) == 4


def test_the_smallest_mean_loss_is_confirmed() -> None:
    found = confirmed(STEPS[:2], [0.6, 0.4, 0.7, 0.4, 0.8, 0.4])
    assert found["outer_step"] == 1
    assert found["confirmed"] == (
        "mean validation loss 0.4 on 3 fresh trainings, which chose it among 2 outer steps"
    )


def test_what_diverges_once_loses_to_what_never_does() -> None:
    found = confirmed(STEPS[:2], [0.6, 0.1, 0.7, None])
    assert found["outer_step"] == 0
    both = confirmed(STEPS[:2], [None, None, 0.7, 0.6])
    assert both["outer_step"] == 1
    assert both["confirmed"].startswith("mean validation loss 0.6 on 2 fresh trainings, 1 of which")


def test_a_run_confirms_before_it_retrains(tmp_path: Path) -> None:
    context, text = tiny_context(*CONFIRM)
    run = new_run(context, text, tmp_path)
    loop = go(context, run)
    inner = table(run, "inner")
    trainings = inner[inner["method"] == "confirm"].groupby("outer_step").last()
    assert len(trainings) == 6
    assert trainings["test_accuracy"].notna().all()
    ours = inner[inner["method"] == "ours"].groupby("outer_step").last()
    ranked = ours.sort_values(["validation_accuracy", "validation_loss"], ascending=[False, True])
    two = list(ranked.index[:2])
    means = [trainings["validation_loss"][i::2].mean() for i in (0, 1)]
    chosen = two[means.index(min(means))]
    (kept,) = json.loads((run.path / "schedule.json").read_text())["schedules"]
    assert kept["outer_step"] == chosen
    assert f"{min(means):.4g} on 3 fresh trainings" in kept["confirmed"]
    retrained = [r for r in loop.progress.results if r["method"] == "ours_retrained"]
    assert retrained[0]["outer_step"] == chosen
    schedule = exported(run)
    assert isinstance(schedule, Schedule)
    assert schedule.origin is not None
    assert schedule.origin.confirmed == kept["confirmed"]


class Crashing(Watcher):
    """Stops the process in the middle of a confirmation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None:
        super().begin(seed, method, outer_step, steps)
        self.confirming = method == "confirm"

    def step(self, inner: object, cost: float) -> None:
        if self.confirming:
            self.at -= 1
            if self.at == 0:
                raise Crash


@pytest.mark.parametrize(
    "at", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(17, marks=pytest.mark.slow)]
)
def test_it_goes_on_in_the_middle_of_a_confirmation(at: int, tmp_path: Path) -> None:
    context, text = tiny_context(*CONFIRM, "checkpoint_seconds=0")
    whole = new_run(context, text, tmp_path / "whole")
    go(context, whole)
    broken = new_run(context, text, tmp_path / "broken")
    with pytest.raises(Crash):
        go(context, broken, Crashing(at))
    go(context, broken, resume=True)
    assert everything(broken) == everything(whole)


def test_without_it_nothing_is_confirmed(tmp_path: Path) -> None:
    context, text = tiny_context("repeats=1")
    run = new_run(context, text, tmp_path)
    go(context, run)
    assert "confirm" not in set(pd.read_csv(run.path / "inner.csv")["method"])


def test_best_by_loss() -> None:
    def step(number: int, accuracy: float, loss: float) -> OuterStep:
        return OuterStep(Schedule({}), (), loss, accuracy, number=number)

    history = [step(0, 0.9, 0.5), step(1, 0.8, 0.2)]
    assert best(history).number == 0
    assert best(history, by="loss").number == 1
    with pytest.raises(ValueError, match="use one of accuracy, loss"):
        best(history, by="luck")
