"""A training of a plan: its hypergradients against differences of whole trainings in float64."""

import math

import pytest
import torch
from problems import digits_problem
from torch import nn

from hypergrad.core.base_schedules import base_schedule
from hypergrad.core.basis import Hats, Vector, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.core.objective import Objective, accuracy
from hypergrad.core.rules.move_sets import movable
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.improvement.trainer import Subject, outcome_of, untrained_loss
from hypergrad.training.improvement.trainings import Key, Training
from hypergrad.training.inner_problem import InnerProblem

STEPS = 12
OPTIONS = ReverseOptions()


class Draws:
    def __init__(self) -> None:
        self.problem = digits_problem("mlp", hidden=8, smooth=True)

    steps_per_epoch = STEPS

    def at(self, step: int) -> tuple:
        return self.problem.batch_at(step)


def subject(optimizer: InnerOptimizer, objective: Objective | None = None) -> Subject:
    draws = Draws()
    own = draws.problem
    model = own.model
    if objective is not None:
        model = FlatModel(model.module, objective)
    problem = InnerProblem(model, own.theta, draws, STEPS, optimizer)
    return Subject(problem, own.validation, own.validation, 0)


def loss_at(space: MoveSpace, given: Subject, p: torch.Tensor, margin: float) -> float:
    training = Training(Key("direction", 0), Candidate(tuple(p.tolist()), 0.5), margin)
    return outcome_of(training, given, space, OPTIONS).loss


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_derivatives_by_the_moves_are_those_of_whole_trainings(name: str) -> None:
    optimizer = movable(name, rates=Hats(3), clip=3.0)
    space = MoveSpace(optimizer, base_schedule(optimizer, warmup=0.2))
    p = torch.linspace(-0.3, 0.4, space.size, dtype=torch.float64)
    _check(space, subject(optimizer), p)


def test_values_of_the_loss_move_in_the_same_loop() -> None:
    smooth = H("label_smoothing", 1, 0.1, scale="logit")
    weights = H("class_weights", Vector(10, Windows(1)), 1.0, scale="log")
    optimizer = movable("sgd", rates=2, others=(smooth, weights))
    space = MoveSpace(optimizer, base_schedule(optimizer))
    objective = Objective(cross_entropy, metric=accuracy)
    _check(space, subject(optimizer, objective), torch.zeros(space.size, dtype=torch.float64))


def _check(space: MoveSpace, given: Subject, p: torch.Tensor) -> None:
    training = Training(Key("direction", 0), Candidate(tuple(p.tolist()), 0.5), 1.3, True)
    found = outcome_of(training, given, space, OPTIONS).hypergradients
    assert found is not None
    step = 1e-4  # of a logarithm: truncation error 1e-8, rounding 1e-12
    for i, e in enumerate(torch.eye(space.size, dtype=torch.float64)):
        above, below = (loss_at(space, given, p + s * step * e, 1.3) for s in (1, -1))
        central = (above - below) / (2 * step)
        assert found[i] == pytest.approx(central, rel=2e-5, abs=1e-8), space.names[i]


def test_a_training_that_diverges_has_no_loss_and_no_hypergradients() -> None:
    optimizer = movable("sgd")
    space = MoveSpace(optimizer, base_schedule(optimizer))
    given = subject(optimizer)._replace(lost=0.1)
    training = Training(Key("direction", 0), space.origin, 1e200, True)
    found = outcome_of(training, given, space, OPTIONS)
    assert (found.loss, found.accuracy, found.diverged) == (math.inf, 0.1, True)
    assert found.hypergradients is None


def test_costs_are_counted() -> None:
    optimizer = movable("sgd")
    space = MoveSpace(optimizer, base_schedule(optimizer))
    given = subject(optimizer)
    plain = outcome_of(Training(Key("ladder", 0), space.origin), given, space, OPTIONS)
    assert plain.spent[1:] == (STEPS, 0, 1)
    back = outcome_of(
        Training(Key("direction", 0), space.origin, differentiate=True), given, space, OPTIONS
    )
    assert back.spent.products in (STEPS - 1, STEPS)
    assert back.loss == plain.loss  # the same training
    assert untrained_loss(given) == pytest.approx(math.log(10), rel=0.1)
    assert isinstance(given.problem.model.net, nn.Module)
