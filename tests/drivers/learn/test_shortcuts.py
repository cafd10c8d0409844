"""Outer steps for less work in the driver: short horizons at first, and products in bfloat16."""

from pathlib import Path

import pytest
from tiny import Watcher, everything, go, new_run, table, tiny_context

import hypergrad
from hypergrad.config.composition import load
from hypergrad.drivers.context import make_model
from hypergrad.drivers.cost import plan
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.runs.interrupt import Interrupt, Interrupted

ALONE = ("repeats=1", "hd.enabled=false", "baseline.enabled=false", "outer.tolerance=0")
EARLY = (*ALONE, "epochs=3", "outer.steps=4", "outer.first_horizons=[1,1,2]")
BFLOAT16 = (*ALONE, "hvp.precision=bfloat16")


def stopped_often(setting, text: str, outputs: Path) -> dict[str, str]:  # noqa: ANN001
    """The files of a run that is interrupted after every few steps."""
    run = new_run(setting, text, outputs)
    for attempt in range(100):
        interrupt = Interrupt()

        def stop(steps: int, interrupt: Interrupt = interrupt) -> None:
            if steps == 3:
                interrupt.requested = "SIGTERM"

        try:
            go(setting, run, Watcher(stop), interrupt, resume=attempt > 0)
        except Interrupted:
            continue
        assert attempt > 5
        return everything(run)
    raise AssertionError("the run never came to its end")


@pytest.mark.parametrize("overrides", [EARLY, BFLOAT16], ids=["early", "bfloat16"])
def test_stopping_often_leaves_no_trace(overrides: tuple[str, ...], tmp_path: Path) -> None:
    setting, text = tiny_context(*overrides)
    run = new_run(setting, text, tmp_path)
    go(setting, run)
    assert stopped_often(setting, text, tmp_path) == everything(run)


def test_early_horizons_are_those_of_the_files(tmp_path: Path) -> None:
    """190 images make 5 minibatches of 32 an epoch; the two windows stretch to each horizon."""
    setting, text = tiny_context(*EARLY, "method.truncation=0")
    run = new_run(setting, text, tmp_path)
    spent = go(setting, run).progress.spent[0]
    outer, inner = table(run, "outer"), table(run, "inner").query("method == 'ours'")
    assert inner.groupby("outer_step")["step"].max().tolist() == [5, 5, 10, 15]
    rates = outer[outer["kind"] == "learning_rate"].groupby("outer_step")
    assert rates["end_epoch"].max().tolist() == [1.0, 1.0, 2.0, 3.0]
    assert rates["start_epoch"].max().tolist() == [0.6, 0.6, 1.0, 1.6]
    counts = outer[outer["kind"] == "learning_rate"]["contributing_steps"].tolist()
    assert counts == [3, 2, 3, 2, 5, 5, 8, 7]
    used = inner.query("outer_step == 1")["learning_rate"]
    first, second = outer.query("outer_step == 1 and kind == 'learning_rate'")["value"]
    assert used.tolist() == pytest.approx([first, second])
    assert spent["gradients"] == 5 + 5 + 10 + 15
    # Without truncation a value has one product a step after its first use; at zero there is none.
    assert spent["products"] == sum(
        3 * (n - 1) + last - 1 for n, last in [(5, 2), (10, 5), (15, 7)]
    )
    layout = plan(setting.config, 200, 10)
    assert [part.steps for part in layout.runs][:4] == [5, 5, 10, 15]


def test_a_budget_foresees_the_longer_horizon(tmp_path: Path) -> None:
    """A run of 15 steps costs half as much again as the one of 10 steps before it."""
    rates = (
        "hyperparameters.momentum.count=0",
        "hyperparameters.weight_decay.count=0",
        "method.truncation=0",
    )
    setting, text = tiny_context(*EARLY, *rates, "budget=84gradients")
    loop = go(setting, new_run(setting, text, tmp_path))
    (spent,) = loop.progress.spent
    # Three outer steps have 20 gradients, and products in 5 steps (4 + 1) and in 10 (9 + 4): 56.
    # The last of them cost 36, so a longer one should cost 54, and is worth it from 83 on.
    assert spent["trials"] == 4
    assert spent["gradients"] + 2 * spent["products"] == 20 + 2 * 18 + 55
    setting, text = tiny_context(*EARLY, *rates, "budget=82gradients")
    loop = go(setting, new_run(setting, text, tmp_path))
    assert loop.progress.spent[0]["trials"] == 3


def test_bfloat16_changes_the_hypergradients_and_stand_in_the_run(tmp_path: Path) -> None:
    runs = []
    for overrides in (BFLOAT16, ALONE):
        setting, text = tiny_context(*overrides)
        runs.append(new_run(setting, text, tmp_path))
        go(setting, runs[-1])
    low, exact = (table(run, "outer").query("outer_step == 1") for run in runs)
    assert low["value"].tolist() == exact["value"].tolist()
    assert low["hypergradient"].tolist() != exact["hypergradient"].tolist()
    config = load((runs[0].path / ".hydra/config.yaml").read_text())
    assert config.hvp.precision == "bfloat16"


def test_the_library_takes_the_same_shortcuts(tmp_path: Path) -> None:
    setting, text = tiny_context(*BFLOAT16, "epochs=3", "outer.first_horizons=[1,2]")
    run = new_run(setting, text, tmp_path)
    spent = go(setting, run).progress.spent[0]
    config, method = setting.config, setting.config.method
    history = hypergrad.learn_schedule(
        make_model(config, setting.data, 0).module,
        setting.data.train.images,
        setting.data.train.labels,
        epochs=3,
        batch_size=32,
        outer_steps=3,
        optimizer=inner_optimizer(config),
        first_horizons=(1, 2),
        tolerance=0.0,
        options=hypergrad.ForwardOptions(
            clip_products=method.clip_products,
            truncation=method.truncation,
            strategy=config.hvp_strategy,
            precision="bfloat16",
        ),
    )
    logged = table(run, "outer")
    for number, step in enumerate(history):
        rows = logged[logged["outer_step"] == number]
        assert rows["value"].tolist() == list(step.schedule.flat)
        assert rows["hypergradient"].tolist() == list(step.hypergradients)
    assert sum(step.gradients for step in history) == spent["gradients"]
    assert sum(step.products for step in history) == spent["products"]
