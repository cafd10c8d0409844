"""What a study of hypervariance measures; neither stops nor processes show in its files."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from oracles import reverse_mode
from rich.console import Console

from hypergrad.config.composition import compose
from hypergrad.config.schema import RunConfig
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.drivers.context import RunContext, make_model, prepare
from hypergrad.drivers.hypervariance import measurement as hypervariance
from hypergrad.drivers.hypervariance.driver import COLUMNS, HypervarianceDriver
from hypergrad.drivers.hypervariance.measurement import Measurement, Task, measure, tasks
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted

SMALL = [
    "data=digits",
    "model=mlp",
    "scale=smoke",
    "model.options.hidden=8",
    "hypervariance.steps=12",
    "hypervariance.windows=3",
    "repeats=2",
]


def setting(*overrides: str) -> tuple[RunContext, str]:
    config, text = compose("fig2", [*SMALL, *overrides])
    return prepare(config), text


def found(task: Task, *overrides: str) -> Measurement:
    given, _ = setting(*overrides)
    model = make_model(given.config, given.data, given.config.seed)
    return measure(given.config, given.data, model, task)


@pytest.mark.parametrize("perturbation", ["weights", "learning_rate", "train", "all"])
def test_unshared_ones_equal_autograd_and_shared_ones_are_their_means(perturbation: str) -> None:
    given, _ = setting("hypervariance.momentum=0.5", "hypervariance.validation_batches=2")
    model = make_model(given.config, given.data, 0)
    task = Task(perturbation, 1)
    seen = measure(given.config, given.data, model, task)
    theta, schedule = hypervariance._start(given.config, model.theta(), task)
    train, validation = hypervariance._minibatches(given.config, given.data, task)
    every = tuple(rate for rate in schedule["learning_rate"] for _ in range(4))
    oracle = reverse_mode(
        model, theta, train.at, [validation.at(12), validation.at(13)],
        sgd_schedule(every, (0.5,), (0.0,)), 12, given.config.method.clip_gradient,
    )[:12]  # fmt: skip
    unshared = torch.tensor(seen.unshared, dtype=torch.float64)
    torch.testing.assert_close(unshared, oracle, rtol=1e-9, atol=1e-14)
    means = oracle.reshape(3, 4).mean(dim=1)
    shared = torch.tensor(seen.shared, dtype=torch.float64)
    torch.testing.assert_close(shared, means, rtol=1e-9, atol=1e-14)


def test_greedy_ones_look_one_step_ahead() -> None:
    given, _ = setting()
    model = make_model(given.config, given.data, 0)
    task = Task("train", 0)
    seen = measure(given.config, given.data, model, task)
    train, validation = hypervariance._minibatches(given.config, given.data, task)
    theta = model.theta()
    for step in range(12):  # central differences of the loss one step ahead
        point = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(model.loss(point, train.at(step)), point)
        g = g.clamp(-1, 1)
        losses = [
            model.loss(theta - (0.05 + h) * g, validation.at(step)).item() for h in (1e-5, -1e-5)
        ]
        slope = (losses[0] - losses[1]) / 2e-5
        assert seen.greedy[step] == pytest.approx(slope, rel=1e-6, abs=1e-9)
        theta = theta - 0.05 * g


def test_a_validation_gradient_has_as_many_batches_on_the_way_as_at_the_end() -> None:
    given, _ = setting("hypervariance.validation_batches=3")
    model = make_model(given.config, given.data, 0)
    _, stream = hypervariance._minibatches(given.config, given.data, Task("weights", 0))
    for moment in (0, 5, given.config.hypervariance.steps):
        batches = hypervariance._validation(given.config, stream, moment)
        labels = [y.tolist() for _, y in batches]
        assert labels == [stream.at(3 * moment + i)[1].tolist() for i in range(3)]
    task = Task("weights", 0)
    one = found(task)
    three = measure(given.config, given.data, model, task)
    assert one.greedy != three.greedy
    assert one.unshared != three.unshared


def test_a_perturbation_is_one_per_cent_of_each_weight_or_rate_up_or_down() -> None:
    given, _ = setting()
    model = make_model(given.config, given.data, 0)
    theta = model.theta()
    moved, schedule = hypervariance._start(given.config, theta, Task("weights", 0))
    ratio = moved[theta != 0] / theta[theta != 0]
    assert set(ratio.round(decimals=9).tolist()) == {0.99, 1.01}
    assert 0.4 < (ratio > 1).double().mean() < 0.6
    assert schedule["learning_rate"] == (0.05,) * 3
    same, schedule = hypervariance._start(given.config, theta, Task("learning_rate", 3))
    assert torch.equal(same, theta)
    assert {round(rate, 12) for rate in schedule["learning_rate"]} <= {0.0495, 0.0505}
    again = hypervariance._start(given.config, theta, Task("learning_rate", 3))[1]
    assert again == schedule
    others = [hypervariance._start(given.config, theta, Task("all", r))[1] for r in range(6)]
    assert len(set(others)) > 1


def test_each_perturbation_changes_its_own_thing_alone() -> None:
    given, _ = setting()
    streams = {
        name: hypervariance._minibatches(given.config, given.data, Task(name, 1))
        for name in ("weights", "train", "validation", "all")
    }
    labels = {name: [s.at(0)[1].tolist() for s in pair] for name, pair in streams.items()}
    train, validation = labels["weights"]
    assert labels["train"][0] != train
    assert labels["train"][1] == validation
    assert labels["validation"][0] == train
    assert labels["validation"][1] != validation
    assert labels["all"] == [labels["train"][0], labels["validation"][1]]


def test_tasks_come_in_the_order_of_the_files() -> None:
    config, _ = compose("fig2", [*SMALL, "hypervariance.perturbations=[train,weights]"])
    assert tasks(config) == [
        Task("train", 0), Task("train", 1), Task("weights", 0), Task("weights", 1),
    ]  # fmt: skip


# The driver


def new_run(given: RunContext, text: str, outputs: Path) -> RunDirectory:
    run = RunDirectory.create(outputs, given.config.name)
    run.write_config(text, SMALL)
    return run


def go(given: RunContext, run: RunDirectory, interrupt: Interrupt | None = None) -> None:
    HypervarianceDriver(
        given, run, TaskProgress(Console(quiet=True)), interrupt or Interrupt()
    ).run()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    given, text = setting()
    run = new_run(given, text, tmp_path_factory.mktemp("whole"))
    go(given, run)
    return (run.path / "hypergradients.csv").read_text()


def test_the_file_holds_every_raw_value(whole: str, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(whole)
    table = pd.read_csv(tmp_path / "all.csv")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 5 * 2 * (12 + 12 + 3)
    rows = table.query("perturbation == 'all' and repeat == 1")
    seen = found(Task("all", 1))
    for method in hypervariance.METHODS:
        values = rows[rows["method"] == method]
        assert values["value"].tolist() == list(getattr(seen, method))
    shared = rows[rows["method"] == "shared"]
    assert shared[["start_step", "end_step"]].to_numpy().tolist() == [[0, 4], [4, 8], [8, 12]]


def test_stopped_after_any_repeat_it_goes_on_to_the_same_file(whole: str, tmp_path: Path) -> None:
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
            go(given, run, Impatient())
            break
        except Interrupted:
            stops += 1
            summary = json.loads((run.path / "summary.json").read_text())
            assert summary["progress"]["fraction"] == pytest.approx(stops * 2 / 10)
            assert len(pd.read_csv(run.path / "hypergradients.csv")) == stops * 2 * 27
    assert stops == 4
    assert (run.path / "hypergradients.csv").read_text() == whole


@pytest.mark.slow
def test_two_processes_write_what_one_does(whole: str, tmp_path: Path) -> None:
    given, text = setting("jobs=2")
    run = new_run(given, text, tmp_path)
    go(given, run)
    assert (run.path / "hypergradients.csv").read_text() == whole


def test_a_damaged_repeat_is_named(tmp_path: Path) -> None:
    given, text = setting()
    run = new_run(given, text, tmp_path)
    (run.path / "repeats").mkdir()
    (run.path / "repeats" / "weights_0001.json").write_text('{"greedy": [1')
    with pytest.raises(ValueError, match=r"weights_0001.json is damaged .*: delete it, and resume"):
        go(given, run)


def test_a_diverged_repeat_is_kept_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, text = setting(
        "hypervariance.learning_rate=1e200",
        "hypervariance.perturbations=[weights]",
        "method.clip_gradient=null",
        "repeats=1",
    )
    run = new_run(given, text, tmp_path)
    HypervarianceDriver(given, run, TaskProgress(Console(stderr=True)), Interrupt()).run()
    assert "weights 0: hypergradients not finite: first greedy at step" in capsys.readouterr().err
    assert pd.read_csv(run.path / "hypergradients.csv")["value"].isna().any()


def test_a_config_that_cannot_be_studied() -> None:
    for override, text in [
        ("hypervariance.perturbations=[]", "is empty"),
        ("hypervariance.perturbations=[weather]", "use one of weights"),
        ("hypervariance.perturbations=[all,all]", "names one twice"),
        ("hypervariance.windows=99", "at most hypervariance.steps=12"),
        ("hypervariance.size=1.5", "must be in"),
    ]:
        with pytest.raises(ValueError, match=text):
            compose("fig2", [*SMALL, override])


def test_the_config_names_its_driver() -> None:
    config, _ = compose("fig2")
    assert isinstance(config, RunConfig)
    assert (config.driver, config.precision, config.threads) == ("hypervariance", "float64", "1")
