"""Whether signs are reproducible: trajectories that differ in rounding, and what they are told."""

import contextlib
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console
from sklearn.datasets import load_digits
from tiny import Watcher, everything, go, new_run, table, tiny_context
from torch import Tensor, nn

from hypergrad import OuterStep, learn
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.data.sources import TensorBatches
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.reporting import run_report
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.sign_agreement import nudged

TRAJECTORIES = 4
CALM, CHAOTIC = 0.05, 4.0


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=torch.float32) / 8 - 1, torch.tensor(data.target)


def learned(rate: float, options: object, count: int = TRAJECTORIES, drop: float = 0.0) -> list:
    """Two outer steps of a small network, from two learning rates."""
    images, labels = digits()
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(64, 16), nn.Tanh(), nn.Dropout(drop), nn.Linear(16, 16), nn.Tanh(),
        nn.Linear(16, 10),
    )  # fmt: skip
    return learn(
        network,
        cross_entropy,
        TensorBatches((images[:320], labels[:320]), 32, (0, "trust")),
        [(images[1000:1300], labels[1000:1300])],
        epochs=6,
        optimizer=InnerOptimizer(
            hyperparameters=(Hyperparameter("learning_rate", 6, rate, rate / 10),)
        ),
        outer_steps=1,
        options=options,  # type: ignore[arg-type]
        sign_agreement=count,
    )


def agreement(step: OuterStep) -> list[float | None]:
    return [seen.sign_agreement for seen in step.diagnostics]


@pytest.mark.parametrize("options", [ForwardOptions(), ReverseOptions()], ids=["there", "back"])
def test_a_calm_training_has_reproducible_signs(options: object) -> None:
    (step,) = learned(CALM, options)
    assert agreement(step) == [1.0] * 6
    assert step.doubts is None


def test_a_chaotic_one_has_not_and_its_user_is_warned() -> None:
    with pytest.warns(RuntimeWarning, match="signs differ between trajectories") as seen:
        (step,) = learned(CHAOTIC, ForwardOptions())
    told = [text for text in map(str, (each.message for each in seen)) if "signs differ" in text]
    assert told[0].startswith("outer step 0: ")
    shares = agreement(step)
    assert min(share for share in shares if share is not None) <= 0.75
    # What the derivative itself says is no guide: growth is.
    assert max(seen.growth for seen in step.diagnostics if seen.growth is not None) > 0.02


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_it_is_counted_and_changes_nothing_else(drop: float) -> None:
    (alone,) = learned(CALM, ForwardOptions(), 0, drop)
    after = torch.get_rng_state()
    (step,) = learned(CALM, ForwardOptions(), 2, drop)
    assert torch.equal(torch.get_rng_state(), after)
    assert step.hypergradients == alone.hypergradients
    assert (step.gradients, step.products) == (3 * alone.gradients, 3 * alone.products)
    assert (alone.after.spent.trials, step.after.spent.trials) == (1, 3)
    assert agreement(alone) == [None] * 6


def test_nudged_weights_differ_by_a_rounding() -> None:
    theta = torch.tensor([0.0, 1.0, -3.0, 1e-3])
    moved = nudged(theta, 0)
    assert ((moved != theta) | (theta.abs() > 1)).all()
    assert (moved - theta).abs().max() <= 2 * torch.finfo(torch.float32).eps * 3
    assert torch.equal(moved, nudged(theta, 0))
    many = torch.stack([nudged(torch.ones(100), number) for number in range(3)])
    assert len({tuple(each) for each in many.tolist()}) == 3


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="sign_agreement=-1: must be 0 or more"):
        learned(CALM, ForwardOptions(), -1)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_run_writes_it_and_resumes_to_the_same_files(
    mode: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reverse = ["method.mode=reverse", "method.truncation=0", "method.clip_products=null"]
    own = ["trust.sign_agreement=2", "repeats=1", "outer.steps=2", "hd.enabled=false"]
    setting = tiny_context(*own, *(reverse if mode == "reverse" else []))
    whole = new_run(*setting, tmp_path / "whole")
    watcher = Watcher()
    go(setting[0], whole, watcher)
    assert watcher.costs == sorted(watcher.costs)
    assert watcher.costs[-1] == pytest.approx(setting[0].plan.cost)
    shares = table(whole, "outer")["sign_agreement"]
    assert set(shares) <= {0.0, 0.5, 1.0}
    assert shares[:4].eq(1.0).all()  # all values zero: nothing to part
    (spent,) = whole.read_summary()["spent"]
    assert spent["trials"] == 6

    for at in (3, 8, 13, 14, 20, 31, 40):  # on the own way, and on others', there and back
        run, interrupt = new_run(*setting, tmp_path / f"at-{at}"), Interrupt()

        def stop(steps: int, at: int = at, interrupt: Interrupt = interrupt) -> None:
            if steps == at:
                interrupt.requested = "SIGTERM"

        with contextlib.suppress(Interrupted):
            go(setting[0], run, Watcher(stop), interrupt)
        assert interrupt.requested
        go(setting[0], run, resume=True)
        assert everything(run) == everything(whole)

    monkeypatch.setattr(run_report, "Console", lambda: Console(width=80))
    run_report.print_diagnostics(whole.path)
    printed = capsys.readouterr().out
    assert "same sign" in printed
    assert "100%" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert not math.isnan(float(table(whole, "outer")["growth"].max())) or mode == "reverse"
