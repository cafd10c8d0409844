"""Sign descent."""

import math

import pytest
import torch

from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.outer_optimizer import (
    OuterState,
    averaged_descent,
    backtrack,
    has_converged,
    selection_key,
    sign_descent,
    start,
    step,
)


def of_sgd(counts: tuple[int, ...], first_moves: tuple[float, ...]) -> list[Hyperparameter]:
    return [
        Hyperparameter(name, count, first_move=move)
        for name, count, move in zip("abc", counts, first_moves, strict=True)
    ]


def test_start_is_zero_with_a_step_size_a_hyperparameter() -> None:
    learned = of_sgd((2, 1, 1), (0.1, 0.15, 4e-4))
    state, columns = start(learned)
    assert state == OuterState((0.0,) * 4, (0.1, 0.1, 0.15, 4e-4), (0,) * 4, (0.0,) * 4)
    assert list(columns) == [learned[0], *learned]


def test_moves_against_the_sign_and_halves_on_a_flip() -> None:
    state, _ = start(of_sgd((1, 1, 1), (0.1, 0.15, 4e-4)))
    state = sign_descent(state, [-5.0, 1e-9, 3.0])
    assert state.values == (0.1, -0.15, -4e-4)
    state = sign_descent(state, [0.1, 1e-9, -3.0])
    assert state.step_sizes == (0.05, 0.15, 2e-4)
    assert state.values == pytest.approx((0.05, -0.3, -2e-4))


@pytest.mark.parametrize("h", [0.0, math.nan, math.inf, -math.inf])
def test_zero_or_not_finite_moves_nothing_and_is_no_flip(h: float) -> None:
    before = OuterState((0.3,), (0.1,), (-1,), (0.0,))
    after = sign_descent(before, [h])
    assert after == before
    # the sign before it still counts: the next one up is a flip, the next one down is none
    assert sign_descent(after, [2.0]).step_sizes == (0.05,)
    assert sign_descent(after, [-2.0]).step_sizes == (0.1,)


def test_retreats_approach_the_values_before_the_move() -> None:
    before = OuterState((0.2, 0.4), (0.1, 0.1), (-1, 1), (0.1, 0.1))
    state = sign_descent(before, [-1.0, 1.0])
    for _ in range(30):
        state = backtrack(state)
    assert state.values == pytest.approx(before.values)


def test_the_step_after_a_retreat_does_not_end_at_what_diverged() -> None:
    """Divergence above 0.45, from 0.3 by 0.2, the hypergradient always asking for more."""
    state = OuterState((0.3,), (0.2,), (-1,), (0.2,))
    tried = []
    for _ in range(12):
        state = backtrack(state) if state.values[0] > 0.45 else sign_descent(state, [-1.0])
        tried.append(round(state.values[0], 9))
    assert tried[:4] == [0.5, 0.4, 0.45, 0.5]  # not 0.5, 0.4, 0.5
    assert tried[-1] == pytest.approx(0.45, abs=1e-3)


def test_a_retreat_leaves_alone_what_had_not_moved() -> None:
    state = sign_descent(OuterState((0.3, 0.35), (0.2, 0.15), (-1, -1), (0.2, 0.15)), [-1.0, 0.0])
    back = backtrack(state)
    assert back.values == pytest.approx((0.4, 0.35))
    assert back.step_sizes == pytest.approx((0.05, 0.15))


def test_convergence_is_relative_to_every_value() -> None:
    assert has_converged(OuterState((1.0, -2.0), (0.04, 0.09), (1, 1), (0.0, 0.0)), 0.05)
    assert not has_converged(OuterState((1.0, -2.0), (0.04, 0.11), (1, 1), (0.0, 0.0)), 0.05)
    assert not has_converged(start(of_sgd((1, 1, 1), (0.1, 0.1, 0.1)))[0], 0.05)


def test_what_is_lost_with_nothing_left_to_follow_is_taken_back() -> None:
    state = OuterState((0.6, 0.4), (0.2, 0.2), (-1, -1), (0.2, 0.2))
    assert step(state, None) == backtrack(state)
    assert step(state, [math.nan, math.nan]) == backtrack(state)
    assert step(state, [math.nan, 0.0]) == backtrack(state)
    assert step(state, [math.nan, -1.0]).values == (0.6, pytest.approx(0.6))
    assert step(state, [0.0, 0.0]).values == state.values  # zero moves nothing


def test_rank_is_accuracy_then_loss_and_never_what_is_not_finite() -> None:
    assert selection_key(0.9, 0.5) > selection_key(0.8, 0.1)
    assert selection_key(0.9, 0.3) > selection_key(0.9, 0.5)
    assert selection_key(0.0, 9.0) > selection_key(1.0, math.nan)


def by_torch(hypergradients: list[list[float]], gammas: list[float]) -> list[float]:
    """Where torch's own optimiser of this form ends, from zeros, on normed hypergradients."""
    values = [torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in gammas]
    groups = [{"params": [v], "lr": g} for v, g in zip(values, gammas, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=(0.7, 0.9), eps=1e-3)
    for found in hypergradients:
        norm = math.hypot(*found)
        for value, h in zip(values, found, strict=True):
            value.grad = torch.full((1,), h / norm, dtype=torch.float64)
        optimizer.step()
    return [value.item() for value in values]


def test_steps_along_averages_are_those_of_an_optimiser_of_that_form() -> None:
    found = [[3.0, -1.0, 0.1], [-2.0, -1.0, 0.3], [1.0, -4.0, -0.1], [0.5, 1.0, 0.2]]
    learned = [Hyperparameter("a", 3, first_move=0.2)]
    state, columns = start(learned)
    for each in found:
        state = step(state, each, columns, descent="averaged")
    assert state.values == pytest.approx(by_torch(found, [0.2] * 3), rel=1e-12)
    assert state.step_sizes == (0.2,) * 3
    assert state.averaged == 4


def test_hyperparameters_are_averaged_each_by_itself() -> None:
    learned = [Hyperparameter("a", 2, first_move=0.1), Hyperparameter("b", first_move=0.5)]
    state, columns = start(learned)
    huge = averaged_descent(state, [1.0, 0.5, 1e9], columns)
    small = averaged_descent(state, [1.0, 0.5, 1e-9], columns)
    assert huge.values == pytest.approx(small.values)
    assert huge.values[2] == pytest.approx(-0.5, rel=2e-3)


def test_what_agrees_moves_farther_than_what_flips() -> None:
    state, columns = start([Hyperparameter("a", 2, first_move=0.1)])
    for number in range(6):
        state = step(state, [1.0, (-1.0) ** number], columns, descent="averaged")
    sure, noise = (abs(value) for value in state.values)
    assert sure == pytest.approx(0.6, rel=0.01)
    assert noise < 0.2


@pytest.mark.parametrize("h", [math.nan, math.inf])
def test_what_is_not_finite_leaves_its_value_and_averages_alone(h: float) -> None:
    state, columns = start([Hyperparameter("a", 2, first_move=0.1)])
    state = averaged_descent(state, [1.0, 2.0], columns)
    after = averaged_descent(state, [1.0, h], columns)
    assert after.values[1] == state.values[1]
    assert (after.means[1], after.squares[1]) == (state.means[1], state.squares[1])
    assert math.isfinite(after.values[0])


def test_averages_stay_within_bounds_and_on_scales() -> None:
    learned = [Hyperparameter("a", start=0.5, scale="logit", first_move=1.0, low=0.3)]
    state, columns = start(learned)
    state = step(state, [1.0], columns, descent="averaged")
    assert state.values == (0.3,)
    assert state.moves[0] == pytest.approx(math.log(0.3 / 0.7), rel=1e-9)
