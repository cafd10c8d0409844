"""The driver: what a run writes, and that stopping and resuming it leaves no trace."""

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Crash, Watcher, everything, go, new_run, table, tiny_context

from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.data import Minibatches
from hypergrad.differentiation.forward import hypergradients
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.drivers.context import make_model
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted


@pytest.fixture(scope="module")
def setting() -> tuple:
    return tiny_context()


@pytest.fixture(scope="module")
def whole(setting: tuple, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = new_run(*setting, tmp_path_factory.mktemp("whole"))
    go(setting[0], run)
    return run


def test_a_run_writes_every_row_once(whole: RunDirectory) -> None:
    outer = table(whole, "outer")
    assert len(outer) == 2 * 3 * (2 + 1 + 1)  # seeds x outer steps x values
    assert not outer.duplicated(["seed", "outer_step", "kind", "index"]).any()
    inner = table(whole, "inner")
    assert not inner.duplicated(["seed", "method", "outer_step", "step"]).any()
    counts = inner.groupby(["seed", "method"]).size()
    for seed in (0, 1):
        assert counts[seed, "ours"] == 2 + 4 + 4  # the first horizon is one epoch
        for method in ("hd", "ours_retrained", "hd_retrained", "sgd"):
            assert counts[seed, method] == 4
    hd = table(whole, "hd")
    assert len(hd) == 2 * 2 * (190 // 32)
    assert (hd[["learning_rate", "momentum", "weight_decay"]].iloc[0] == 0).all()


def test_outer_steps_follow_sign_descent_from_zero(whole: RunDirectory) -> None:
    outer = table(whole, "outer").query("seed == 0")
    first = outer[outer["outer_step"] == 0]
    assert (first["value"] == 0).all()
    for (_, _), line in outer.groupby(["kind", "index"]):
        values, signs = line["value"].tolist(), line["sign"].tolist()
        sizes = line["step_size"].tolist()
        for step in range(2):
            assert values[step + 1] == pytest.approx(values[step] - sizes[step] * signs[step])
            assert signs[step] == np.sign(line["hypergradient"].iloc[step])


def test_logged_hypergradients_are_those_of_the_library(
    setting: tuple, whole: RunDirectory
) -> None:
    """The second outer step of seed 0, computed again from the CSV's values alone."""
    from hypergrad.data import train_validation_split

    config, data = setting[0].config, setting[0].data
    rows = table(whole, "outer").query("seed == 0 and outer_step == 1")
    schedule = Schedule.from_flat(rows["value"].tolist(), inner_optimizer(config).bases)
    train, validation = train_validation_split(len(data.train), 0.05, seed=0, outer_step=1)
    model = make_model(config, data, 0)
    minibatches = Minibatches(data.train.take(train), 32, (0, "ours", 1))
    held_out = data.train.take(validation)
    found = hypergradients(
        model,
        model.theta(),
        minibatches.at,
        [(held_out.images, held_out.labels)],
        schedule,
        2 * minibatches.steps_per_epoch,
        ForwardOptions(
            clip_products=config.method.clip_products,
            truncation=config.method.truncation,
            strategy=config.hvp_strategy,
        ),
        optimizer=inner_optimizer(config),
    )
    assert rows["hypergradient"].tolist() == pytest.approx(found.values, rel=1e-5)
    assert rows["contributing_steps"].tolist() == list(found.contributing)


def test_the_best_outer_step_by_validation_is_exported_and_retrained(whole: RunDirectory) -> None:
    exported = whole.read_json("schedule.json")["schedules"]
    inner, outer = table(whole, "inner"), table(whole, "outer")
    assert [entry["seed"] for entry in exported] == [0, 1]
    for entry in exported:
        ours = inner[(inner["seed"] == entry["seed"]) & (inner["method"] == "ours")]
        last = ours.groupby("outer_step").tail(1)
        assert entry["validation_accuracy"] == last["validation_accuracy"].max()
        best = outer[
            (outer["seed"] == entry["seed"]) & (outer["outer_step"] == entry["outer_step"])
        ]
        assert schedule_in(entry).flat == tuple(best["value"])
        retrained = inner[(inner["seed"] == entry["seed"]) & (inner["method"] == "ours_retrained")]
        assert retrained["learning_rate"].tolist() == pytest.approx(
            [entry["learning_rate"][i] for i in (0, 0, 1, 1)]
        )


def test_the_same_configuration_gives_the_same_run(
    setting: tuple, whole: RunDirectory, tmp_path: Path
) -> None:
    run = new_run(*setting, tmp_path)
    go(setting[0], run)
    assert everything(run) == everything(whole)


def test_progress_ends_at_the_planned_cost(setting: tuple, tmp_path: Path) -> None:
    watcher = Watcher()
    go(setting[0], new_run(*setting, tmp_path), watcher)
    assert watcher.costs == sorted(watcher.costs)
    assert watcher.costs[-1] == pytest.approx(2 * setting[0].plan.cost)


@pytest.mark.slow
def test_stopping_after_every_single_step_leaves_no_trace(
    setting: tuple, whole: RunDirectory, tmp_path: Path
) -> None:
    """Every position of a run is a checkpoint once, the last step of each inner run included."""
    run = new_run(*setting, tmp_path)
    for attempt in range(400):
        interrupt = Interrupt()

        def stop(_: int, interrupt: Interrupt = interrupt) -> None:
            interrupt.requested = "SIGTERM"

        with contextlib.suppress(Interrupted):
            go(setting[0], run, Watcher(stop), interrupt, resume=attempt > 0)
            break
    else:
        pytest.fail("the run never came to its end")
    assert attempt > 100
    assert everything(run) == everything(whole)


@pytest.mark.parametrize("seed", range(4))
def test_crashes_at_random_steps_leave_no_trace(
    setting: tuple, whole: RunDirectory, tmp_path: Path, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    run = new_run(*setting, tmp_path)
    for attempt in range(100):
        fatal = int(torch.randint(1, 40, (), generator=generator))

        def crash(steps: int, fatal: int = fatal) -> None:
            if steps == fatal:
                raise Crash

        with contextlib.suppress(Crash):
            go(setting[0], run, Watcher(crash), resume=attempt > 0)
            break
        with (run.path / "inner.csv").open("a") as file:
            file.write("0,ours,1,0.5,2,2.")  # what a write cut short leaves
    assert attempt > 2
    assert everything(run) == everything(whole)


def test_a_damaged_checkpoint_is_passed_over_and_said(setting: tuple, tmp_path: Path) -> None:
    run = new_run(*setting, tmp_path)

    def crash(steps: int) -> None:
        if steps == 60:
            raise Crash

    with pytest.raises(Crash):
        go(setting[0], run, Watcher(crash))
    newest = sorted((run.path / "checkpoints").glob("*.safetensors"))[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    watcher = Watcher()
    go(setting[0], run, watcher, resume=True)
    assert any("damaged" in note for note in watcher.notes)


def test_divergence_is_recorded_and_half_a_step_is_taken_back(tmp_path: Path) -> None:
    setting = tiny_context(
        "repeats=1", "hyperparameters.learning_rate.first_move=1e30", "method.clip_gradient=null"
    )
    run = new_run(*setting, tmp_path)
    watcher = Watcher()
    go(setting[0], run, watcher)
    outer = table(run, "outer")
    diverged = outer[outer["outer_step"] == 1]
    assert diverged["hypergradient"].isna().all()
    assert (diverged["sign"] == 0).all()
    after = outer[outer["outer_step"] == 2]
    assert after["value"].iloc[0] == pytest.approx(0.5e30)
    assert any("diverged" in note for note in watcher.notes)
    # nothing but the all-zero schedule stayed finite: it is the best one, and says so
    summary = run.read_json("schedule.json")["schedules"][0]
    assert summary["outer_step"] == 0
    rows = table(run, "inner").query("method == 'ours' and outer_step == 1")
    assert not math.isfinite(rows["validation_loss"].iloc[-1])


def test_a_baseline_that_diverges_counts_as_chance(tmp_path: Path) -> None:
    setting = tiny_context(
        "repeats=1", "outer.steps=1", "hd.enabled=false", "baseline.learning_rate=1e30"
    )
    loop = go(setting[0], new_run(*setting, tmp_path))
    (result,) = [row for row in loop.progress.results if row["method"] == "sgd"]
    labels = setting[0].data.test.labels
    assert result["diverged"] is True
    assert result["test_accuracy"] == pytest.approx(float(labels.bincount().max()) / len(labels))


def test_float64_and_convergence(tmp_path: Path) -> None:
    setting = tiny_context(
        "repeats=1",
        "precision=float64",
        "outer.steps=9",
        "outer.tolerance=0.99",
        "hd.enabled=false",
        "hyperparameters.learning_rate.first_move=1e-3",
        "hyperparameters.momentum.first_move=1e-3",
        "hyperparameters.weight_decay.first_move=1e-3",
    )
    assert setting[0].data.train.images.dtype == torch.float64
    watcher = Watcher()
    run = new_run(*setting, tmp_path)
    go(setting[0], run, watcher)
    assert any("converged" in note for note in watcher.notes)
    assert table(run, "outer")["outer_step"].max() < 8
