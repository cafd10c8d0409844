"""Searches whose next setting depends on what came of the ones before: whole, killed, shared."""

from pathlib import Path

import pandas as pd
import pytest
from commands import Call, only_run
from small import SMALL, assert_same, lead, new_run, results, setting

from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted

TPE = ("search=tpe", "search.trials=13", "epochs=1")  # ten are Optuna's random beginning
HYPERBAND = ("search=hyperband", "search.trials=16", "epochs=3", "search.ensemble=2")
SEARCHES = {"tpe": TPE, "hyperband": HYPERBAND}


class Impatient(Interrupt):
    """Is asked to stop at the look of a given number, in the middle of a training."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    @property
    def requested(self) -> str | None:  # type: ignore[override]
        self.left -= 1
        return "SIGINT" if self.left < 0 else None

    @requested.setter
    def requested(self, value: object) -> None: ...


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    runs = {}
    for kind, overrides in SEARCHES.items():
        if kind == "tpe":
            pytest.importorskip(
                "optuna", reason="optuna is not installed: pip install -e '.[optuna]'"
            )
        given, text = setting(*overrides)
        runs[kind] = new_run(given, text, tmp_path_factory.mktemp(kind))
        lead(given, runs[kind])
    return runs


def test_both_try_what_they_should(whole: dict[str, RunDirectory]) -> None:
    trials = results(whole["tpe"])["trials"]
    assert list(trials["setting"]) == [*range(13)] * 2
    assert trials["learning_rate"].nunique() == 26
    assert trials["epochs"].isna().all()
    trials = results(whole["hyperband"])["trials"]
    own = trials[trials["seed"] == 0]
    assert list(own["epochs"].fillna(3)) == [1] * 3 + [3] * 1 + [3] * 2 + [1] * 3 + [3] * 3 + [
        1
    ] * 3 + [3]
    assert list(own["steps"]) == list(own["epochs"].fillna(3).astype(int) * own["steps"][0])
    promoted = own[own["setting"] == 3]["learning_rate"].item()
    rung = own[:3].sort_values(["validation_accuracy", "validation_loss"], ascending=[False, True])
    assert promoted == rung["learning_rate"].iloc[0]
    finals = results(whole["hyperband"])["finals"]
    chosen = own[own["setting"] == finals["setting"][0]]
    assert chosen["epochs"].isna().all()  # a short training is never chosen
    assert finals["epochs"].isna().all()


@pytest.mark.parametrize("kind", SEARCHES)
def test_stopped_again_and_again_it_goes_on_to_the_same_trials(
    whole: dict[str, RunDirectory], tmp_path: Path, kind: str
) -> None:
    given, text = setting(*SEARCHES[kind])
    run, stops = new_run(given, text, tmp_path), 0
    while True:
        if kind == "tpe":
            from hypergrad.drivers.search import tpe

            tpe.study_of.cache_clear()  # as in a new process
        try:
            lead(given, run, Impatient(70))
            break
        except Interrupted:
            stops += 1
    assert stops > 3
    assert_same(run, whole[kind])


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_lost_record_is_trained_again_and_changes_nothing(
    whole: dict[str, RunDirectory], tmp_path: Path, kind: str
) -> None:
    given, text = setting(*SEARCHES[kind])
    run = new_run(given, text, tmp_path)
    lead(given, run)
    trials = pd.read_csv(run.path / "trials.csv")
    (run.path / "trials" / f"{trials['trial'][2]}.json").unlink()
    lead(given, run)
    assert_same(run, whole[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEARCHES)
def test_two_processes_come_to_the_same(
    whole: dict[str, RunDirectory], tmp_path: Path, kind: str
) -> None:
    given, text = setting(*SEARCHES[kind], "jobs=2")
    run = new_run(given, text, tmp_path)
    lead(given, run)
    assert_same(run, whole[kind])


def test_a_budget_counts_short_trainings_as_what_they_cost(tmp_path: Path) -> None:
    # an epoch has 11 steps: three trainings of an epoch and one of three are 66 gradients
    budget = ("search=hyperband", "search.trials=null", "budget=66gradients", "epochs=3")
    given, text = setting(*budget, "repeats=1")
    run = new_run(given, text, tmp_path)
    lead(given, run)
    trials = results(run)["trials"]
    assert list(trials["gradients"]) == [11, 11, 11, 33]
    assert run.read_summary()["spent"][0]["gradients"] == 66


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        *(("tpe", "Parzen"), ("hyperband", "Hyperband: ")),
        ("random_space", "random search on search.space: "),
    ],
)
def test_they_are_searched_from_the_command_line(
    call: Call, tmp_path: Path, kind: str, title: str
) -> None:
    if kind == "tpe":
        pytest.importorskip("optuna", reason="optuna is not installed: pip install -e '.[optuna]'")
    options = (*SMALL, "--search", kind, "search.trials=4", "epochs=3")
    answer = call("baselines", "digits", *options, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    assert title in answer.out
    assert ("epochs 1" in answer.out) == (kind == "hyperband")
    run = only_run(tmp_path)
    again = call("baselines", "--resume", run, "search.trials=5")
    assert again.code == 0, again.err
    assert len(pd.read_csv(run / "trials.csv")) == 10
    drawn = call("plot", "--outputs", tmp_path)
    assert (drawn.code, f"is a search by {kind}" in drawn.err) == (1, True)
