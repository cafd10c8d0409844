"""The real thing on digits: files, resuming from every row, export, refusals."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from hypergrad.config.checks import ConfigError
from hypergrad.config.composition import compose
from hypergrad.config.schema import HyperparameterConfig
from hypergrad.core.schedule import Schedule
from hypergrad.drivers.context import RunContext, prepare
from hypergrad.drivers.execute import execute, new_run
from hypergrad.drivers.export import exported
from hypergrad.drivers.improve import driver
from hypergrad.drivers.improve.records import Records, read_rows
from hypergrad.drivers.improve.space import move_space
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.errors import RunFailed
from hypergrad.runs.ground import fixed_digest

SMALL = (
    *("driver=improve", "threads=1", "epochs=2", "data.train_size=300", "data.test_size=100"),
    *("model.options.hidden=8", "improve.scales=[1.0,4.0]", "improve.rung=1"),
    *("improve.iterations=1", "improve.trajectories=2", "improve.repeats=2", "improve.final=2"),
    *("improve.judged=2", "baseline.learning_rate=0.02"),
)


def small(*more: str, experiment: str = "improve_digits") -> tuple[RunContext, str]:
    config, text = compose(experiment, [*SMALL, *more])
    return prepare(config), text


def go(context: RunContext, text: str, outputs: Path, records: str = "") -> RunDirectory:
    run = new_run(
        context.config.__class__(**{**vars(context.config), "outputs": str(outputs)}), text, []
    )
    if records:
        (run.path / "trainings.csv").write_text(records)
    assert execute(context, run, ["test"], resume=bool(records)) == 0
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return go(*small(), tmp_path_factory.mktemp("whole"))


def without_seconds(run: RunDirectory) -> tuple:
    told = run.read_json("improve.json")
    for seed in told["seeds"]:
        del seed["spent"]["seconds"]
    rows = pd.read_csv(run.path / "trainings.csv", dtype=str).drop(columns=["seconds", "checksum"])
    return rows.to_csv(), told, run.read_json("schedule.json")


def test_a_run_says_what_it_did(whole: RunDirectory) -> None:
    rows = pd.read_csv(whole.path / "trainings.csv")
    (told,) = whole.read_json("improve.json")["seeds"]
    assert told["spent"]["trials"] == len(rows)
    assert told["spent"]["gradients"] == rows["gradients"].sum()
    # 300 images: 60 are held out, 7 minibatches of 32 an epoch; the judgement has all, 9.
    plain = rows[rows["differentiated"] == 0]
    assert set(plain[plain["stage"] != "judge"]["gradients"]) == {14}
    assert set(rows[rows["differentiated"] == 1]["products"]) <= {13, 14}
    assert list(dict.fromkeys(rows["stage"]))[:4] == ["ladder", "direction", "search", "confirm"]
    assert told["chosen"] == "end"
    judged = rows[rows["stage"] == "judge"]
    assert set(judged["gradients"]) == {18}
    base, chosen = (
        judged[judged["candidate"] == name]["accuracy"].tolist() for name in ("base", "chosen")
    )
    assert told["judged"] == [base, chosen]
    assert told["accuracy_difference"]["mean"] == pytest.approx(
        sum(chosen) / 2 - sum(base) / 2, abs=1e-12
    )
    # So short a training needs larger rates than a hundredth.
    assert told["loss_difference"]["mean"] < 0


def test_its_schedule_is_exported(whole: RunDirectory, tmp_path: Path) -> None:
    found = exported(whole)
    found.save(tmp_path / "schedule.json")
    kept = Schedule.load(tmp_path / "schedule.json")
    assert kept == found
    assert kept.origin is not None
    assert "against the base on 2 fresh trainings" in str(kept.origin.confirmed)
    assert kept.origin.steps == 18
    assert len(kept["learning_rate"]) == 18
    assert len(kept["momentum"]) == 1


@pytest.mark.slow
def test_it_goes_on_from_any_row_to_the_same_bits(whole: RunDirectory, tmp_path: Path) -> None:
    lines = (whole.path / "trainings.csv").read_text().splitlines(keepends=True)
    for count in (1, 3, 4, 7, len(lines) - 1):
        records = "".join(lines[:count]) + lines[count][:20] if count < len(lines) else ""
        again = go(*small(), tmp_path / str(count), records)
        assert without_seconds(again) == without_seconds(whole)


def test_records_that_were_changed_are_refused(whole: RunDirectory, tmp_path: Path) -> None:
    text = (whole.path / "trainings.csv").read_text().replace("\n0,", "\n8,")
    with pytest.raises(RunFailed, match="line 2 is not what was written there"):
        go(*small(), tmp_path, text)


def test_random_directions_and_several_seeds(tmp_path: Path) -> None:
    run = go(*small("improve.direction=random", "repeats=2", "seed=5"), tmp_path)
    rows = pd.read_csv(run.path / "trainings.csv")
    assert set(rows["seed"]) == {5, 6}
    assert set(rows["products"]) == {0}
    assert len(run.read_json("schedule.json")["schedules"]) == 2
    assert "mean of 2 seeds" in run.read_summary()["headline"]


def test_from_zero_and_adamw_move_from_where_they_are_usual() -> None:
    config, _ = compose("from_zero", ["driver=improve"])
    space = move_space(config)
    assert space.base.at(0, 10**6)["learning_rate"] == pytest.approx(0.1)
    assert (space.base["momentum"], space.base["weight_decay"]) == ((0.9,), (5e-4,))
    config, _ = compose("improve_adamw")
    assert move_space(config).base["beta2"] == (0.999,)
    assert {name for name, _ in move_space(config).names} == {
        *("learning_rate", "beta1", "beta2", "weight_decay")
    }


@pytest.mark.parametrize("experiment", ["adamw_groups", "label_smoothing"])
def test_groups_and_values_of_the_loss_move_too(experiment: str, tmp_path: Path) -> None:
    context, text = small("repeats=1", experiment=experiment)
    run = go(context, text, tmp_path)
    (told,) = run.read_json("improve.json")["seeds"]
    kinds = {move["kind"] for move in told["moves"]}
    wanted = {"adamw_groups": "learning_rate_output", "label_smoothing": "label_smoothing"}
    assert wanted[experiment] in kinds
    assert exported(run).learned_for is not None


def test_sgd_from_zero_keeps_what_else_is_declared() -> None:
    config, _ = compose("from_zero", ["driver=improve"])
    config.hyperparameters["label_smoothing"] = HyperparameterConfig(start=0.05, scale="logit")
    assert [name for name, _ in move_space(config).names][5:] == [
        *("momentum", "weight_decay", "label_smoothing")
    ]
    config, _ = compose(
        "adamw",
        [
            "driver=improve",
            "hyperparameters.learning_rate.start=0.0",
            "hyperparameters.learning_rate.scale=linear",
        ],
    )
    with pytest.raises(ConfigError, match="the rates start at zero"):
        move_space(config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("improve.trajectories=1", "must be at least 2"),
        ("improve.gate=[1.0]", "give two"),
        ("improve.direction=up", "use one of"),
    ],
)
def test_bad_settings_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("improve_digits", [override])


def test_options_that_do_not_fit_together_are_named() -> None:
    config, _ = compose("improve_digits", ["improve.scales=[0.2,0.1]"])
    with pytest.raises(ConfigError, match="improve: scales"):
        prepare(config)  # before there is a run directory


def test_the_summary_is_strict_json(whole: RunDirectory) -> None:
    json.loads((whole.path / "summary.json").read_text())
    results = whole.read_summary()["results"]
    assert [row["method"] for row in results] == ["base", "improved"]


def in_any_order(run: RunDirectory) -> tuple:
    """Everything but seconds; processes end in an order of their own."""
    rows, *told = without_seconds(run)
    return sorted(line.partition(",")[2] for line in rows.splitlines()), *told


@pytest.mark.parametrize("more", [(), ("improve.final=3", "improve.scales=[0.5,1.0,64.0]")])
def test_processes_come_to_the_same_bits(more: tuple[str, ...], tmp_path: Path) -> None:
    alone = go(*small(*more), tmp_path / "alone")
    many = go(*small(*more, "jobs=2"), tmp_path / "many")
    assert in_any_order(many) == in_any_order(alone)


def test_processes_go_on_from_any_row(whole: RunDirectory, tmp_path: Path) -> None:
    ground = fixed_digest(whole)
    rows, _ = read_rows(whole.path / "trainings.csv", ground)
    for count in (3, len(rows) - 1):
        other = Records(tmp_path / f"{count}.csv", ground)
        for seed, (training, outcome) in rows[:count][::-1]:
            other.append(seed, training, outcome)
        other.close()
        records = (tmp_path / f"{count}.csv").read_text()
        again = go(*small("jobs=2"), tmp_path / str(count), records)
        assert in_any_order(again) == in_any_order(whole)


@pytest.mark.parametrize("deaths", [2, 3])
def test_trainings_of_a_worker_that_died_are_begun_again(
    deaths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def spread(
        work: Callable, tasks: list, executor: Executor, interrupt: object, begin: Callable,
        given: tuple,
    ) -> Iterator[tuple]:  # fmt: skip
        """Workers in this process; at first the one with the last task dies."""
        assert executor.jobs == 2
        calls.append(len(tasks))
        begin(*given)
        for number, task in enumerate(tasks):
            if len(calls) <= deaths and number == len(tasks) - 1:
                raise WorkerLost("a worker process died")
            yield task, work(task)

    monkeypatch.setattr(driver, "spread", spread)
    context, text = small("jobs=2", "improve.rung=2")
    if deaths == driver.LOSSES:
        with pytest.raises(RunFailed, match="a worker process died"):
            go(context, text, tmp_path)
        assert calls == [2, 1, 1]
        return
    again = go(context, text, tmp_path)
    assert calls[:4] == [2, 1, 1, 2]  # of the two only the one that was lost
    rows = pd.read_csv(again.path / "trainings.csv")
    assert not rows.duplicated(["stage", "key", "candidate", "iteration"]).any()
