"""Sign descent."""

import math

import pytest

from hypergrad.outer import OuterState, has_converged, retreat, sign_descent, start


def test_start_is_zero_with_a_step_size_a_kind() -> None:
    state = start((2, 1, 1), (0.1, 0.15, 4e-4))
    assert state == OuterState((0.0,) * 4, (0.1, 0.1, 0.15, 4e-4), (0,) * 4)


def test_moves_against_the_sign_and_halves_on_a_flip() -> None:
    state = start((1, 1, 1), (0.1, 0.15, 4e-4))
    state = sign_descent(state, [-5.0, 1e-9, 3.0])
    assert state.values == (0.1, -0.15, -4e-4)
    state = sign_descent(state, [0.1, 1e-9, -3.0])
    assert state.step_sizes == (0.05, 0.15, 2e-4)
    assert state.values == pytest.approx((0.05, -0.3, -2e-4))


@pytest.mark.parametrize("h", [0.0, math.nan, math.inf, -math.inf])
def test_zero_or_not_finite_moves_nothing_and_is_no_flip(h: float) -> None:
    before = OuterState((0.3,), (0.1,), (-1,))
    after = sign_descent(before, [h])
    assert after == before
    # the sign before it still counts: the next one up is a flip, the next one down is none
    assert sign_descent(after, [2.0]).step_sizes == (0.05,)
    assert sign_descent(after, [-2.0]).step_sizes == (0.1,)


def test_retreats_approach_the_values_before_the_move() -> None:
    before = OuterState((0.2, 0.4), (0.1, 0.1), (-1, 1))
    state = sign_descent(before, [-1.0, 1.0])
    for _ in range(30):
        state = retreat(state)
    assert state.values == pytest.approx(before.values)


def test_convergence_is_relative_to_every_value() -> None:
    assert has_converged(OuterState((1.0, -2.0), (0.04, 0.09), (1, 1)), 0.05)
    assert not has_converged(OuterState((1.0, -2.0), (0.04, 0.11), (1, 1)), 0.05)
    assert not has_converged(start((1, 1, 1), (0.1, 0.1, 0.1)), 0.05)
