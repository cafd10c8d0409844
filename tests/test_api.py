"""The library as a user with a model of their own meets it."""

import json
import math
import tomllib
from pathlib import Path

import pytest
import torch
from places import ROOT
from tiny import go, new_run, table, tiny_context
from torch import nn
from typer.testing import CliRunner

import hypergrad
from hypergrad.cli.app import app
from hypergrad.core.rules.sgd_schedules import paper_optimizer, sgd_schedule
from hypergrad.drivers.context import make_model


class Own(nn.Module):
    """Something that is not in the package: batch norm in one dimension, layer norm, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 24),
            nn.BatchNorm1d(24),
            nn.GELU(),
            nn.LayerNorm(24),
            nn.Linear(24, 10),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    from hypergrad.data import load

    train = load("digits", train_size=400).train
    return train.images, train.labels


def test_a_schedule_is_learned_for_a_model_of_ones_own_and_used_in_a_plain_loop(
    tmp_path: Path,
) -> None:
    images, labels = digits()
    torch.manual_seed(0)
    module = Own()
    weights = [p.clone() for p in module.parameters()]
    steps: list[hypergrad.OuterStep] = []
    history = hypergrad.learn_schedule(
        module, images, labels, epochs=6, batch_size=32, outer_steps=5, on_step=steps.append
    )
    assert history == steps
    again = hypergrad.learn_schedule(module, images, labels, epochs=6, batch_size=32, outer_steps=2)
    assert again == history[:2]
    assert all(torch.equal(p, w) for p, w in zip(module.parameters(), weights, strict=True))
    assert history[0].schedule == sgd_schedule((0.0,) * 5, (0.0,), (0.0,))
    found = hypergrad.best(history)
    assert found.validation_accuracy == max(step.validation_accuracy for step in history)

    found.schedule.save(tmp_path / "learned.json")
    schedule = hypergrad.Schedule.load(tmp_path / "learned.json")
    assert schedule.origin is not None
    assert schedule.origin.validation_accuracy == found.validation_accuracy
    assert (schedule.origin.steps, schedule.origin.epochs) == (found.horizon, found.epochs)
    assert schedule.origin.network == "Own"
    batches = [
        batch for _ in range(6) for batch in zip(images.split(32), labels.split(32), strict=True)
    ]
    optimizer = schedule.optimizer(module)
    scheduler = schedule.scheduler(optimizer, len(batches))
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        schedule.clip(module.parameters())
        optimizer.step()
        scheduler.step()
    module.eval()  # running statistics: the module's own were left in working order
    accuracy = (module(images).argmax(1) == labels).double().mean()
    assert float(accuracy) > 0.9


def test_it_is_the_method_that_the_runner_runs(tmp_path) -> None:  # noqa: ANN001
    """Same data, same seed: the same values and hypergradients as a run's outer.csv."""
    setting, text = tiny_context("repeats=1", "hd.enabled=false", "baseline.enabled=false")
    run = new_run(setting, text, tmp_path)
    go(setting, run)
    config, method = setting.config, setting.config.method
    history = hypergrad.learn_schedule(
        make_model(config, setting.data, 0).module,
        setting.data.train.images,
        setting.data.train.labels,
        epochs=config.epochs,
        batch_size=method.batch_size,
        outer_steps=config.outer.steps,
        optimizer=paper_optimizer((2, 1, 1), clip=method.clip_gradient),
        validation=method.validation_fraction,
        options=hypergrad.ForwardOptions(
            clip_products=method.clip_products,
            truncation=method.truncation,
            strategy=config.hvp_strategy,
        ),
    )
    logged = table(run, "outer")
    for number, step in enumerate(history):
        rows = logged[logged["outer_step"] == number]
        assert rows["value"].tolist() == list(step.schedule.flat)
        assert rows["hypergradient"].tolist() == list(step.hypergradients)


def test_the_best_of_nothing_finite_is_an_error() -> None:
    schedule = sgd_schedule((0.0,), (0.0,), (0.0,))
    step = hypergrad.OuterStep(schedule, (0.0,) * 3, math.nan, 0.1)
    with pytest.raises(ValueError, match="use smaller first moves"):
        hypergrad.best([step])


def test_the_version_is_that_of_the_source_which_the_build_reads() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    source = (ROOT / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
    assert f'__version__ = "{hypergrad.__version__}"' in source
    done = CliRunner().invoke(app, ["--version"])
    assert done.stdout == f"hypergrad {hypergrad.__version__}\n"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lern_schedule'"):
        hypergrad.lern_schedule  # noqa: B018


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs=0, outer_steps=10: both must be at least 1"),
        ({"first_horizons": (1, 0)}, r"first_horizons=\(1, 0\): epochs are whole numbers"),
        ({"batch_size": 1000}, "batch size 1000 does not fit"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    images, labels = digits()
    with pytest.raises(ValueError, match=message):
        hypergrad.learn_schedule(Own(), images, labels, **{"epochs": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"counts": (5, 1)}, r"counts=\(5, 1\): give three"),
        ({"first_moves": (0.1,)}, "first_moves=.*give three"),
    ],
)
def test_bad_counts_and_first_moves_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paper_optimizer(**arguments)


def test_inputs_need_not_be_images() -> None:
    images, labels = digits()
    module = nn.Sequential(nn.Linear(64, 10))
    history = hypergrad.learn_schedule(
        module, images.flatten(1), labels, epochs=2, batch_size=64, outer_steps=2
    )
    assert history[1].validation_loss < history[0].validation_loss


def learn(**arguments: object) -> list[hypergrad.OuterStep]:
    images, labels = digits()
    torch.manual_seed(0)
    given = {
        "epochs": 4,
        "batch_size": 64,
        "outer_steps": 4,
        "optimizer": paper_optimizer((2, 1, 1), clip=3.0),
        **arguments,
    }
    return hypergrad.learn_schedule(Own(), images, labels, **given)  # type: ignore[arg-type]


def test_learning_goes_on_after_a_history() -> None:
    whole = learn()
    begun = learn(outer_steps=2)
    assert learn(history=begun) == whole
    assert learn(history=whole) == whole  # nothing is left to do


def test_learning_ends_with_a_budget_or_without_progress() -> None:
    assert len(learn(outer_steps=9, budget="3trials")) == 3
    assert learn(budget="3trials")[-1].ended == "the budget of 3trials is spent after 3 outer steps"
    # A learning rate that moves by nothing never gets better than the first outer step.
    slow = paper_optimizer((2, 1, 1), (1e-12, 1e-12, 1e-12), clip=3.0)
    still = learn(outer_steps=9, optimizer=slow, patience=2)
    assert len(still) <= 5
    assert still[-1].ended == "no better validation accuracy in 2 outer steps"
    with pytest.raises(ValueError, match="'much' is no budget"):
        learn(budget="much")
    with pytest.raises(ValueError, match="patience=0: must be at least 1"):
        learn(patience=0)


def test_load_picks_the_best_seed_or_the_one_asked_for(tmp_path: Path) -> None:
    entries = [
        {"seed": seed, "validation_accuracy": accuracy, "learning_rate": [rate]}
        | {"momentum": [0.5], "weight_decay": [0.0]}
        for seed, accuracy, rate in [(0, 0.9, 0.1), (1, 0.95, 0.2)]
    ]
    (tmp_path / "schedule.json").write_text(json.dumps({"schedules": entries}))
    assert hypergrad.load_schedule(tmp_path)["learning_rate"] == (0.2,)
    found = hypergrad.load_schedule(tmp_path / "schedule.json", seed=0)
    assert found["learning_rate"] == (0.1,)
    with pytest.raises(ValueError, match="holds no schedule of seed=7"):
        hypergrad.load_schedule(tmp_path, seed=7)
    sgd_schedule((0.1,)).save(tmp_path / "exported.json")
    with pytest.raises(ValueError, match="Schedule.load reads exported files"):
        hypergrad.load_schedule(tmp_path / "exported.json")
    with pytest.raises(ValueError, match="does not exist"):
        hypergrad.load_schedule(tmp_path / "elsewhere.json")
