"""Hypergradient descent: one-step hypergradients against central differences."""

import pytest
import torch
from problems import digits_problem

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer
from hypergrad.core.rules import sgd
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.differentiation.one_step import hypergradient_descent_step

NAMES = ("learning_rate", "momentum", "weight_decay")
ALL = dict.fromkeys(NAMES, True)


def bound(model: FlatModel) -> BoundOptimizer:
    return InnerOptimizer().bind(model, sgd_schedule((0.0,), (0.0,), (0.0,)))


def test_one_step_hypergradients_equal_central_differences() -> None:
    problem = digits_problem("mlp", hidden=8, smooth=True)
    model, validation = problem.model, problem.validation[0]
    state = InnerState(problem.theta, (torch.full_like(problem.theta, 0.01),), {})
    values = dict(zip(NAMES, (0.1, 0.5, 1e-2), strict=True))
    optimizer = bound(model)
    taken = hypergradient_descent_step(
        model,
        state,
        values,
        0,
        problem.batch_at(0),
        validation,
        optimizer,
        learning_rate=0.2,
        clip=1e-3,
        learned=ALL,
    )

    def loss(moved: dict[str, float]) -> float:
        used = optimizer.step_values(moved, state.theta)
        after = train_step(model, state, problem.batch_at(0), optimizer, used, 0)[0]
        return float(model.loss(after.theta, validation))

    for name in NAMES:
        up, down = dict(values), dict(values)
        up[name] += 1e-5
        down[name] -= 1e-5
        slope = (loss(up) - loss(down)) / 2e-5
        assert taken.hypergradients[name] == pytest.approx(slope, rel=1e-6)
    # each value moves by the outer learning rate times the clipped hypergradient
    assert list(taken.values) == list(taken.hypergradients) == list(NAMES)
    for name, old in values.items():
        h = taken.hypergradients[name]
        assert taken.values[name] == pytest.approx(old - 0.2 * max(-1e-3, min(1e-3, h)), rel=1e-12)


def test_from_zero_only_the_learning_rate_moves() -> None:
    problem = digits_problem("mlp", hidden=8)
    state = InnerState.start(problem.theta, 1, {})
    taken = hypergradient_descent_step(
        problem.model,
        state,
        dict.fromkeys(NAMES, 0.0),
        0,
        problem.batch_at(0),
        problem.validation[0],
        bound(problem.model),
        learning_rate=0.2,
        clip=1.0,
        learned=ALL,
    )
    assert taken.values["learning_rate"] > 0
    assert taken.values["momentum"] == taken.values["weight_decay"] == 0.0
    assert torch.equal(taken.state.theta, problem.theta)


def test_an_inner_step_is_that_of_torch_sgd() -> None:
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    parameter = theta.clone().requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.5, weight_decay=0.01)
    slots = (torch.zeros_like(theta),)
    values = dict(zip(NAMES, (0.1, 0.5, 0.01), strict=True))
    for step in range(4):
        g = torch.tensor([0.3, -5.0], dtype=torch.float64) * (step + 1)
        clipped, multiply, _ = ElementwiseClip(3.0).with_derivative(g)
        parameter.grad = clipped.clone()
        optimizer.step()
        theta, slots = sgd().update(clipped, theta, slots, values, step)
        assert multiply(torch.ones(1, 2)).tolist() == [[1.0, 0.0]]
    torch.testing.assert_close(theta, parameter.detach(), rtol=1e-14, atol=0)
