"""Hypergradient descent: one-step hypergradients against central differences."""

import pytest
import torch
from problems import digits_problem

from hypergrad.core.schedule import StepValues
from hypergrad.core.sgd import InnerState, clip_gradient, sgd_step, train_step
from hypergrad.differentiation.one_step import hypergradient_descent_step


def test_one_step_hypergradients_equal_central_differences() -> None:
    problem = digits_problem("mlp", hidden=8, smooth=True)
    model, validation = problem.model, problem.validation[0]
    state = InnerState(problem.theta, torch.full_like(problem.theta, 0.01), {})
    values = (0.1, 0.5, 1e-2)
    taken = hypergradient_descent_step(
        model,
        state,
        values,
        problem.batch_at(0),
        validation,
        learning_rate=0.2,
        clip=1e-3,
        clip_gradient=None,
    )

    def loss(alpha: float, beta: float, mu: float) -> float:
        step = StepValues(alpha, beta, mu, (0, 0, 0))
        after = train_step(model, state, problem.batch_at(0), step, None)[0]
        return float(model.loss(after.theta, *validation))

    for index in range(3):
        up, down = list(values), list(values)
        up[index] += 1e-5
        down[index] -= 1e-5
        slope = (loss(*up) - loss(*down)) / 2e-5
        assert taken.hypergradients[index] == pytest.approx(slope, rel=1e-6)
    # each value moves by the outer learning rate times the clipped hypergradient
    for new, old, h in zip(taken.values, values, taken.hypergradients, strict=True):
        assert new == pytest.approx(old - 0.2 * max(-1e-3, min(1e-3, h)), rel=1e-12)


def test_from_zero_only_the_learning_rate_moves() -> None:
    problem = digits_problem("mlp", hidden=8)
    state = InnerState.start(problem.theta, {})
    taken = hypergradient_descent_step(
        problem.model,
        state,
        (0.0, 0.0, 0.0),
        problem.batch_at(0),
        problem.validation[0],
        learning_rate=0.2,
        clip=1.0,
        clip_gradient=None,
    )
    assert taken.values[0] > 0
    assert taken.values[1:] == (0.0, 0.0)
    assert torch.equal(taken.state.theta, problem.theta)


def test_an_inner_step_is_that_of_torch_sgd() -> None:
    theta = torch.tensor([1.0, -2.0], dtype=torch.float64)
    parameter = theta.clone().requires_grad_()
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.5, weight_decay=0.01)
    v = torch.zeros_like(theta)
    for step in range(4):
        g = torch.tensor([0.3, -5.0], dtype=torch.float64) * (step + 1)
        clipped, passes = clip_gradient(g, 3.0)
        parameter.grad = clipped.clone()
        optimizer.step()
        theta, v = sgd_step(theta, v, clipped, StepValues(0.1, 0.5, 0.01, (0, 0, 0)))
        assert passes is not None
        assert passes.tolist() == [True, False]
    torch.testing.assert_close(theta, parameter.detach(), rtol=1e-14, atol=0)
