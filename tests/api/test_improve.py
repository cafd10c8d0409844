"""Improving a schedule on real trainings: digits, an MLP, a base that is too timid."""

import json
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hypergrad import (
    Hyperparameter,
    Improved,
    ImprovementOptions,
    InnerOptimizer,
    Objective,
    ReverseOptions,
    Schedule,
    Vector,
    adamw_base,
    improve,
    sgd_base,
)
from hypergrad.core.losses import cross_entropy
from hypergrad.data import Images, load, train_validation_split
from hypergrad.data.sources import TensorBatches
from hypergrad.training.improvement.moves import Moves
from hypergrad.training.improvement.run import Taken, train
from hypergrad.training.improvement.training import Training

SMALL = ImprovementOptions(
    ladder=(0.5, 1.0, 2.0), iterations=1, trajectories=(2,), confirmations=3, line=2
)


@cache
def digits() -> Images:
    found = load("digits").train
    return Images(found.images.flatten(1).double(), found.labels)


def parts(key: int) -> tuple[Images, Images]:
    kept, held = train_validation_split(640, 0.25, seed=key, outer_step=0)
    return digits().take(kept), digits().take(held)


def batches(key: int) -> TensorBatches:
    own = parts(key)[0]
    return TensorBatches((own.images, own.labels), 32, (key, "improve"))


def validation(key: int) -> list[tuple[Tensor, Tensor]]:
    own = parts(key)[1]
    return [(own.images, own.labels)]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)).double()


def improved(**changed: object) -> Improved:
    given = {
        "module": network(),
        "objective": nn.CrossEntropyLoss(),
        "batches": batches,
        "validation": validation,
        "epochs": 2,
        "optimizer": sgd_base(0.02, 0.5, 1e-3),
        "options": SMALL,
        **changed,
    }
    return improve(**given)  # type: ignore[arg-type]


@cache
def whole() -> Improved:
    return improved()


def test_a_timid_base_is_improved_and_it_says_by_how_much() -> None:
    found = whole()
    assert found.improved
    assert found.comparison is not None
    assert found.comparison.loss.high < 0
    assert found.comparison.accuracy.low > 0
    assert found.base["learning_rate"] == (0.02,) * 5
    assert min(found.schedule["learning_rate"]) > 0.02
    assert found.schedule.origin is not None
    assert found.schedule.origin.confirmed_on == 3
    ends = [
        o for m, o in zip(found.comparison.margins, found.comparison.end, strict=True) if m == 1
    ]
    mean = sum(outcome.loss for outcome in ends) / 3
    assert found.schedule.origin.validation_loss == pytest.approx(mean)
    lines = str(found).splitlines()
    assert lines[0].startswith("improved; on 3 fresh trainings of each")
    assert f"{len(found.trainings)} trainings" in lines[-1]


def test_what_it_claims_is_true_of_plain_loops_with_other_seeds() -> None:
    def loss(schedule: Schedule, seed: int) -> float:
        torch.manual_seed(seed)
        module, own = network(), batches(seed)
        optimizer = schedule.optimizer(module)
        scheduler = schedule.scheduler(optimizer, 2 * own.steps_per_epoch)
        for step in range(2 * own.steps_per_epoch):
            x, y = own.at(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            schedule.clip(module.parameters())
            optimizer.step()
            scheduler.step()
        x, y = validation(seed)[0]
        return float(nn.functional.cross_entropy(module(x), y).detach())

    found = whole()
    gains = [loss(found.schedule, seed) - loss(found.base, seed) for seed in range(900, 906)]
    assert max(gains) < 0


def test_derivatives_are_those_of_whole_trainings() -> None:
    from hypergrad.api.problem import LibraryProblem
    from hypergrad.api.search import _outer_options

    optimizer = sgd_base(0.05, 0.6, 1e-3)
    moves = Moves(optimizer.learned(), optimizer.rule)
    torch.manual_seed(0)
    outer = _outer_options(2, 1, (), 0.0, None, None, 0)
    given = network(), nn.CrossEntropyLoss(), batches, validation, optimizer, outer, True
    data = LibraryProblem(*given, ReverseOptions(), "never").data_at(5)
    at = moves.moved(moves.base, (0.1, -0.2, 0.0, 0.3, 0.1, 0.2, 0.5))

    def loss(values: tuple[float, ...]) -> float:
        training = Training("line", 0, 0, 5, 1.0, values)
        return train(training, data, moves, ReverseOptions()).loss

    wanted = Training("trajectory", 0, 0, 5, 1.0, at, True)
    outcome = train(wanted, data, moves, ReverseOptions())
    assert outcome.loss == pytest.approx(loss(at), rel=1e-12)
    assert outcome.derivatives is not None
    found = moves.gradient(at, outcome.derivatives)
    for i in range(len(at)):
        step = [0.0] * len(at)
        step[i] = 1e-4
        there, back = loss(moves.moved(at, step)), loss(moves.moved(at, [-s for s in step]))
        assert found[i] == pytest.approx((there - back) / 2e-4, rel=1e-5, abs=1e-9)


def test_a_record_is_gone_on_with_from_every_line(tmp_path: Path) -> None:
    full = tmp_path / "whole.jsonl"
    found = improved(record=full)
    assert found.plan._replace(spent=None) == whole().plan._replace(spent=None)  # type: ignore[arg-type]
    lines = full.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(found.trainings) + 1
    for length in (0, 1, 2, len(lines) // 2, len(lines) - 1, len(lines)):
        part = tmp_path / f"{length}.jsonl"
        part.write_bytes(b"".join(lines[:length]) + b'{"half of a li' * (length < len(lines)))
        again: list[Taken] = []
        other = improved(record=part, on_training=again.append)
        assert len(again) == len(lines) - max(length, 1)
        assert other.schedule == found.schedule
        assert [t.outcome.loss for t in other.trainings] == [
            t.outcome.loss for t in found.trainings
        ]
    assert json.loads(lines[1])["stage"] == "ladder"


def test_a_record_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    improved(record=path, options=ImprovementOptions(ladder=(), iterations=0))
    with pytest.raises(ValueError, match="epochs was 2 and is 1"):
        improved(record=path, options=ImprovementOptions(ladder=(), iterations=0), epochs=1)
    path.write_text('{"settings": 1}\n')
    with pytest.raises(ValueError, match="no record of an improvement"):
        improved(record=path)


def test_adamw_and_hyperparameters_of_the_loss_move_along() -> None:
    smoothing = Hyperparameter("label_smoothing", 1, 0.1, 0.5, "logit")
    found = improved(
        optimizer=adamw_base(2e-4, others=(smoothing,)),
        objective=Objective(cross_entropy, metric=None),
        options=ImprovementOptions(
            ladder=(), iterations=1, trajectories=(3,), confirmations=2, gate=(0.0, 0.1)
        ),
    )
    (first,) = found.plan.iterations
    assert len(first.t) == 5 + 2 + 1 + 1
    assert first.t[0] < 0  # a larger rate would be better
    assert all(math.isfinite(t) for t in first.t)
    assert found.improved
    assert found.schedule["label_smoothing"] != (0.1,)


def test_hundreds_of_values_cost_no_more_trainings() -> None:
    def weighted(module: nn.Module, batch: tuple, values: dict[str, Tensor]) -> Tensor:
        x, y, group = batch
        losses = nn.functional.cross_entropy(module(x), y, reduction="none")
        return (values["weights"][group] * losses).mean()

    def plain(module: nn.Module, batch: tuple, values: object) -> Tensor:
        return nn.functional.cross_entropy(module(batch[0]), batch[1])

    def grouped(key: int) -> TensorBatches:
        own = parts(key)[0]
        return TensorBatches((own.images, own.labels, torch.arange(480) % 120), 32, (key, "g"))

    weights = Hyperparameter("weights", Vector(120), 1.0, 0.5, "log")
    base = sgd_base(0.05, 0.5, 1e-3, others=(weights,))
    found = improved(
        objective=Objective(weighted, plain), batches=grouped, optimizer=base, options=SMALL
    )
    assert len(found.plan.iterations[0].t) == 7 + 120
    assert len(found.trainings) == len(whole().trainings)


def test_dropout_takes_forward_mode() -> None:
    noisy = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Dropout(0.2), nn.Linear(12, 10)).double()
    found = improved(module=noisy)
    again = improved(module=noisy)
    assert found.plan._replace(spent=None) == again.plan._replace(spent=None)  # type: ignore[arg-type]
    assert found.improved


def test_a_module_that_cannot_be_drawn_anew_is_named() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(64, dtype=torch.float64))
            self.net = network()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(self.scale * x)

    with pytest.raises(ValueError, match="Own has a parameter 'scale' and no reset_parameters"):
        improved(module=Own())
    assert improved(module=lambda key: Own()).improved


def test_the_rate_must_be_declared_by_factors() -> None:
    own = InnerOptimizer(sgd_base().rule, (Hyperparameter("learning_rate", 5, 0.1),))
    with pytest.raises(ValueError, match="declare it with scale='log'"):
        improved(optimizer=own)
