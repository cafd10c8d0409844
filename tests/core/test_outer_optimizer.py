"""Sign descent."""

import math

import pytest

from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.outer_optimizer import (
    OuterState,
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
