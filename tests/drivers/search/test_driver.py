"""Whole searches: interrupted, divided, grown, in several processes."""

import json
from pathlib import Path

import pandas as pd
import pytest
from small import SMALL, assert_same, lead, new_run, results, search, setting

from hypergrad import load_schedule
from hypergrad.drivers.search import driver
from hypergrad.drivers.search.trial import Trainer
from hypergrad.parallel.worker import WorkerLost
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.runs.records import read_record, write_record


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    given, text = setting()
    run = new_run(given, text, tmp_path_factory.mktemp("whole"))
    lead(given, run)
    return run


def test_a_grid_is_searched_chosen_from_and_tested(whole: RunDirectory) -> None:
    trials, finals = results(whole).values()
    assert list(trials["seed"]) == [0] * 4 + [1] * 4
    assert list(trials["setting"]) == [0, 1, 2, 3] * 2
    assert list(trials["learning_rate"]) == [0.05, 0.05, 0.4, 0.4] * 2
    means = trials.groupby("setting")["validation_accuracy"].mean()
    losses = trials.groupby("setting")["validation_loss"].mean()
    ranked = sorted(range(4), key=lambda s: (means[s], -losses[s]))
    assert set(finals["setting"]) == {ranked[-1]}
    assert list(finals["seed"]) == [0, 1]
    assert finals["validation_accuracy"].isna().all()
    summary = whole.read_summary()
    assert [r["test_accuracy"] for r in summary["results"]] == list(finals["test_accuracy"])
    assert [r["method"] for r in summary["results"]] == ["grid", "grid"]
    assert summary["best"]["setting"] == ranked[-1]
    assert summary["progress"] == {"phase": "finished", "fraction": 1.0}
    assert [s["trials"] for s in summary["spent"]] == [4, 4]
    assert [s["gradients"] for s in summary["spent"]] == [88, 88]
    assert not (whole.path / "claims").exists()
    schedule = load_schedule(whole.path, seed=0)
    assert schedule["momentum"] == (0.9,)
    assert len(schedule["learning_rate"]) == 24  # a step of the final training each


def test_stopped_after_any_step_it_goes_on_to_the_same_files(
    whole: RunDirectory, tmp_path: Path
) -> None:
    given, text = setting()
    run = new_run(given, text, tmp_path)

    class Impatient(Interrupt):
        looks = 0

        @property
        def requested(self) -> str | None:  # type: ignore[override]
            self.looks += 1
            return "SIGINT" if self.looks > 60 else None

        @requested.setter
        def requested(self, value: object) -> None: ...

    stops = 0
    while True:
        try:
            lead(given, run, Impatient())
            break
        except Interrupted:
            stops += 1
            assert len(pd.read_csv(run.path / "trials.csv")) == min(2 * stops, 8)
    assert stops == 4
    assert_same(run, whole)


def test_only_what_is_missing_is_trained_again(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, text = setting()
    run = new_run(given, text, tmp_path)
    lead(given, run)
    lost = sorted((run.path / "trials").glob("seed*.json"))[2]
    lost.unlink()
    trained = []
    original = Trainer.train

    def train(self: Trainer, trials, tick=lambda: None):  # noqa: ANN001, ANN202
        trained.extend(trials)
        return original(self, trials, tick)

    monkeypatch.setattr(Trainer, "train", train)
    lead(given, run)
    assert len(trained) == 1
    assert lost.exists()
    assert_same(run, whole)


def test_a_finished_search_grows_by_seeds_and_settings(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, text = setting()
    run = new_run(given, text, tmp_path)
    lead(given, run)
    trained = []
    original = Trainer.train

    def train(self: Trainer, trials, tick=lambda: None):  # noqa: ANN001, ANN202
        trained.extend(trials)
        return original(self, trials, tick)

    monkeypatch.setattr(Trainer, "train", train)
    more = ("repeats=3", "search.grid.learning_rate=[0.05,0.1,0.4]")
    grown, _ = setting(*more)
    lead(grown, run)
    searched = [trial for trial in trained if not trial.final]
    assert len(searched) == 3 * 6 - 8
    assert {t.candidate.learning_rate for t in searched if t.seed < 2} == {(0.1,)}
    monkeypatch.undo()
    afresh = new_run(grown, text, tmp_path)
    lead(grown, afresh)
    assert_same(run, afresh)


def test_an_ensemble_comes_to_the_same_trial_by_trial(tmp_path: Path) -> None:
    exact = ("precision=float64", "model.options.smooth=true")
    runs = []
    for size in ("1", "3"):
        given, text = setting(*exact, f"search.ensemble={size}")
        runs.append(new_run(given, text, tmp_path))
        lead(given, runs[-1])
    alone, together = (results(run) for run in runs)
    assert set(together["trials"]["ensemble"]) == {3, 1}
    for tables in (alone, together):
        tables["trials"] = tables["trials"].drop(columns="ensemble")
    for name in alone:
        pd.testing.assert_frame_equal(alone[name], together[name], rtol=1e-9, atol=0)


def test_descents_together_come_to_the_same_and_those_of_other_weights_apart(
    tmp_path: Path,
) -> None:
    exact = ("precision=float64", "model.options.smooth=true", "repeats=1")
    descents = ("search=hd", "search.trials=5", "search.hyper_learning_rates=[0.2,0.1,0.4]")
    runs = []
    for size in ("1", "4"):
        given, text = setting(*exact, *descents, f"search.ensemble={size}")
        runs.append(new_run(given, text, tmp_path))
        lead(given, runs[-1])
    alone, together = (results(run) for run in runs)
    # Three rates from the first weights, then two from the next.
    assert list(together["trials"]["restart"]) == [0, 0, 0, 1, 1]
    assert list(together["trials"]["ensemble"]) == [3, 3, 3, 2, 2]
    for tables in (alone, together):
        tables["trials"] = tables["trials"].drop(columns="ensemble")
    for name in alone:
        pd.testing.assert_frame_equal(alone[name], together[name], rtol=1e-9, atol=0)
    schedules = [load_schedule(run.path) for run in runs]
    for name, values in schedules[0].items():
        assert schedules[1][name] == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_descents_stopped_in_between_go_on_to_the_same_files(tmp_path: Path) -> None:
    descents = ("search=hd", "search.trials=4", "search.hyper_learning_rates=[0.1,0.2]")
    given, text = setting(*descents, "repeats=1", "search.ensemble=2")
    whole, run = (new_run(given, text, tmp_path) for _ in range(2))
    lead(given, whole)
    taken: list[int] = []

    class Stopping(Interrupt):
        @property
        def requested(self) -> str | None:  # type: ignore[override]
            taken.append(len(taken))
            return "SIGTERM" if len(taken) == 30 else None  # within the second pair

        @requested.setter
        def requested(self, value: object) -> None: ...

    with pytest.raises(Interrupted):
        lead(given, run, Stopping())
    assert len(list((run.path / "trials").glob("seed*.json"))) == 2
    lead(given, run)
    assert_same(run, whole)
    assert load_schedule(run.path) == load_schedule(whole.path)


def test_how_many_descents_to_train_together_is_measured_of_those_from_the_same_weights(
    tmp_path: Path,
) -> None:
    rates = "search.hyper_learning_rates=[0.01,0.02,0.05,0.1,0.2]"
    given, text = setting("search=hd", "search.trials=20", "search.ensemble=auto", rates)
    run = new_run(given, text, tmp_path)
    run.update_summary({"settings": {"search": "hd"}})
    driver = search(given, run)
    driver._leads = True
    size = driver._ensemble()
    kept = run.read_summary()["ensemble"]
    assert kept["size"] == size
    assert list(kept["seconds"]) == ["1", "4"]  # five of a start: 16 are never together


def test_the_size_of_an_ensemble_is_measured_once_and_kept(tmp_path: Path) -> None:
    given, text = setting("search.ensemble=auto")
    run = new_run(given, text, tmp_path)
    run.update_summary({"ensemble": {"size": 2, "seconds": {}}})
    lead(given, run)
    assert set(results(run)["trials"]["ensemble"]) == {2}
    fresh = new_run(given, text, tmp_path)
    lead(given, fresh)
    kept = fresh.read_summary()["ensemble"]
    assert kept["size"] in (1, 4)  # four settings a seed
    assert set(results(fresh)["trials"]["ensemble"]) == {kept["size"]}


@pytest.mark.slow
def test_two_processes_write_what_one_does(whole: RunDirectory, tmp_path: Path) -> None:
    given, text = setting("jobs=2")
    run = new_run(given, text, tmp_path)
    lead(given, run)
    assert_same(run, whole)


def test_a_lost_worker_costs_nothing_but_its_trials(
    whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, text = setting("jobs=2")
    given.config.threads = "auto"
    run, calls = new_run(given, text, tmp_path), []

    def spread(work, tasks, executor, interrupt, begin, arguments):  # noqa: ANN001, ANN202
        calls.append(executor.jobs)
        begin(*arguments)
        for number, group in enumerate(tasks):
            if number == 2 or len(calls) == 3:
                raise WorkerLost("a worker died")
            yield group, work(group)

    monkeypatch.setattr(driver, "spread", spread)
    lead(given, run)
    assert calls[0] == 2
    assert_same(run, whole)
    monkeypatch.setattr(driver, "spread", lambda *_: (_ for _ in ()).throw(WorkerLost("dead")))
    with pytest.raises(WorkerLost, match="dead"):
        lead(given, new_run(given, text, tmp_path))


def test_another_process_takes_trials_and_leaves_the_rest_to_the_leader(
    whole: RunDirectory, tmp_path: Path
) -> None:
    given, text = setting()
    run = new_run(given, text, tmp_path)
    leader = search(given, run)
    claimed = leader._store.claim(next(leader._wanted()))  # the leader is at its first trial
    assert claimed is not None
    search(given, run).assist()
    assert len(list((run.path / "trials").glob("seed*.json"))) == 7
    assert not (run.path / "trials.csv").exists()
    claimed.release()
    run.update_summary({"settings": {"search": "grid"}})
    leader.lead()
    assert_same(run, whole)


def test_a_record_of_another_search_is_passed_over(tmp_path: Path) -> None:
    given, text = setting("search=random", "search.trials=null", "budget=2trials", "repeats=1")
    run = new_run(given, text, tmp_path)
    lead(given, run)
    before = (run.path / "trials.csv").read_text()
    (record, _) = sorted((run.path / "trials").glob("seed0_*.json"))
    write_record(run.path / "trials" / "seed0_0123456789ab.json", read_record(record))
    lead(given, run)
    assert (run.path / "trials.csv").read_text() == before


def test_a_random_search_is_one_search_a_seed_and_stops_with_its_budget(tmp_path: Path) -> None:
    budget = ("search=random", "search.trials=null", "budget=100gradients")
    given, text = setting(*budget)
    run = new_run(given, text, tmp_path)
    lead(given, run)
    trials, finals = results(run).values()
    own = [trials[trials["seed"] == seed] for seed in (0, 1)]
    for rows in own:
        # the last trial begins nearer to the budget than half a trial, and no other one would
        spent = rows["gradients"].cumsum().to_numpy()
        assert spent[-1] - rows["gradients"].iloc[-1] + 11 <= 100 < spent[-1] + 11
        assert list(rows["setting"]) == list(range(len(rows)))
    assert not set(own[0]["learning_rate"]) & set(own[1]["learning_rate"])
    best = [rows.sort_values("validation_accuracy").iloc[-1] for rows in own]
    for seed, final in enumerate(finals.itertuples()):
        chosen = own[seed].set_index("setting").loc[final.setting]
        assert chosen["validation_accuracy"] == best[seed]["validation_accuracy"]
    summary = run.read_summary()
    assert [s["gradients"] for s in summary["spent"]] == [r["gradients"].sum() for r in own]


def test_hypergradient_descent_that_always_diverges_is_reported_as_that(tmp_path: Path) -> None:
    given, text = setting(
        "search=hd", "search.trials=2", "search.hyper_learning_rates=[1e12,1e13]", "repeats=1"
    )
    run = new_run(given, text, tmp_path)
    lead(given, run)
    (result,) = run.read_summary()["results"]
    commonest = given.data.test.labels.bincount().max().item() / 100
    assert (result["diverged"], result["test_accuracy"]) == (True, commonest)
    assert len(pd.read_csv(run.path / "finals.csv")) == 0
    assert json.loads((run.path / "schedule.json").read_text()) == {"schedules": []}


def test_hypergradient_descent_has_its_best_schedule_retrained(tmp_path: Path) -> None:
    given, text = setting("search=hd", "search.trials=3", "repeats=1")
    run = new_run(given, text, tmp_path)
    lead(given, run)
    trials, finals = results(run).values()
    assert list(trials["outer_learning_rate"]) == [0.2, 0.1, 0.4]
    assert list(trials["gradients"]) == list(2 * trials["steps"])
    (final,) = finals.itertuples()
    assert final.setting == trials["validation_accuracy"].idxmax() or trials[
        "validation_accuracy"
    ].nunique() < len(trials)
    kept = load_schedule(run.path)
    assert len(kept["learning_rate"]) == len(kept["momentum"]) == 22
    assert kept["learning_rate"][0] == 0.0


def test_a_search_that_cannot_be(tmp_path: Path) -> None:
    for override, text in [
        ("search.grid.learning_rate=[]", "give some values, each once"),
        ("search.grid.learning_rate=[0.1,0.1]", "give some values, each once"),
        ("search.grid.momenta=[0.1]", "use learning_rate, factor, momentum or weight_decay"),
        ("search.grid.momentum=[1.5]", "search.grid.momentum=1.5: must be in"),
        ("search.ensemble=0", "use auto, or how many"),
        ("executor=slurm", "use one of local, ray"),
        ("search.kind=lattice", "use one of grid, random, random_space, hd, tpe, hyperband, ours"),
        ("budget=2h", "a grid is searched whole"),
        ("budget=soon", "'soon' is no budget"),
        ("search.momentum_range=[1,0]", "the lower one first"),
    ]:
        with pytest.raises(ValueError, match=text):
            setting(override)
    with pytest.raises(ValueError, match="a search needs an end"):
        setting("search=random", "search.trials=null")
    assert SMALL
