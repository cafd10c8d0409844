"""Bases: the values at every step, and by what their hypergradients are averaged."""

import json
import math
from dataclasses import dataclass

import pytest
import torch

from hypergrad.core.basis import (
    Basis,
    Cosine,
    Hats,
    Linear,
    Vector,
    WarmUp,
    Window,
    Windows,
    basis_from,
    contributing_steps,
    described,
    per_step,
    span,
    truncated_steps,
    windows,
)
from hypergrad.core.schedule import Schedule

HORIZONS = [1, 2, 7, 60, 185]


def matrix(basis: Basis, horizon: int) -> torch.Tensor:
    """`B`, `(T, N)`."""
    found = torch.zeros(horizon, basis.count, dtype=torch.float64)
    for t in range(horizon):
        for i, weight in basis.weights(t, horizon):
            found[t, i] += weight
    return found


# Each of them


@pytest.mark.parametrize("horizon", HORIZONS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
def test_hats_sum_to_one_and_are_not_negative(count: int, horizon: int) -> None:
    B = matrix(Hats(count), horizon)
    torch.testing.assert_close(B.sum(dim=1), torch.ones(horizon, dtype=torch.float64))
    assert bool((B >= 0).all())
    assert bool((B.count_nonzero(dim=1) <= 2).all())


@pytest.mark.parametrize("count", [2, 3, 5])
def test_hats_interpolate_between_their_knots(count: int) -> None:
    horizon = 8 * (count - 1) + 1
    B = matrix(Hats(count), horizon)
    for knot in range(count):
        assert B[8 * knot].tolist() == [float(i == knot) for i in range(count)]
    for t in range(horizon):
        for i in range(count):
            assert float(B[t, i]) == pytest.approx(max(0.0, 1 - abs(t / 8 - i)), abs=1e-12)


def test_one_hat_is_a_constant_and_one_step_has_the_first() -> None:
    assert all(Hats(1).weights(t, 9) == ((0, 1.0),) for t in range(9))
    assert Hats(4).weights(0, 1) == ((0, 1.0),)


@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (1, 9), (4, 9), (9, 9), (5, 185)])
def test_cosines_are_orthogonal(count: int, horizon: int) -> None:
    B = matrix(Cosine(count), horizon)
    squares = torch.full((count,), horizon / 2, dtype=torch.float64)
    squares[0] = horizon
    torch.testing.assert_close(B.T @ B, squares.diag(), rtol=0, atol=1e-12 * horizon)
    for t in range(horizon):
        for i in range(count):
            assert float(B[t, i]) == pytest.approx(
                math.cos(math.pi * i * (2 * t + 1) / 2 / horizon)
            )


@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (1, 7), (3, 7), (5, 185), (7, 7), (4, 10)])
def test_windows_share_out_the_steps(count: int, horizon: int) -> None:
    B = matrix(Windows(count), horizon)
    assert bool((B.sum(dim=1) == 1).all())
    lengths = B.sum(dim=0)
    assert lengths.max() - lengths.min() <= 1
    for i, (start, stop) in enumerate(windows(count, horizon)):
        assert B[:, i].nonzero().flatten().tolist() == list(range(start, stop))


@pytest.mark.parametrize("inner", [Windows(2), Hats(3), Cosine(2)])
@pytest.mark.parametrize(("share", "steps"), [(0.0, 0), (0.04, 0), (0.3, 6), (0.99, 20)])
def test_a_warm_up_rises_in_a_line_and_then_is_the_basis(
    inner: Basis, share: float, steps: int
) -> None:
    plain, risen = matrix(inner, 20), matrix(WarmUp(share, inner), 20)
    factor = torch.ones(20, dtype=torch.float64)
    factor[:steps] = (torch.arange(steps) + 1) / max(steps, 1)
    assert round(share * 20) in (steps, 1)
    if round(share * 20) == steps:
        torch.testing.assert_close(risen, factor[:, None] * plain)
    assert (WarmUp(share, inner).count, WarmUp(share, inner).size) == (inner.count, 1)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_warm_up_over_another_share_is_refused(share: float) -> None:
    with pytest.raises(
        ValueError, match=r"a warm-up over .* of the steps: use a share in \[0, 1\)"
    ):
        WarmUp(share, Windows(1))


def test_a_linear_basis_is_its_function_without_zeros() -> None:
    basis = Linear(lambda t, T: (1.0, t / T, 0), 3)
    assert basis.weights(0, 4) == ((0, 1.0),)
    assert basis.weights(3, 4) == ((0, 1.0), (1, 0.75))
    with pytest.raises(ValueError, match="the basis has 2 values at a step: give 3"):
        Linear(lambda t, T: (1.0, t / T), 3).weights(0, 4)


# Vectors


def test_every_entry_of_a_vector_is_over_the_same_basis() -> None:
    basis = Vector(3, Hats(2))
    assert (basis.count, basis.size) == (2, 3)
    values = (1.0, 10.0, 100.0, 3.0, 30.0, 300.0)  # entry j of function i is at i * size + j
    schedule = Schedule({"weights": values}, {"weights": basis})
    assert schedule.at(0, 5)["weights"] == (1.0, 10.0, 100.0)
    assert schedule.at(2, 5)["weights"] == (2.0, 20.0, 200.0)
    assert schedule.at(4, 5)["weights"] == (3.0, 30.0, 300.0)
    with pytest.raises(ValueError, match="5 values of weights for a basis of 6: give 6"):
        Schedule({"weights": values[:5]}, {"weights": basis})


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_vector_of_fewer_than_two_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"a vector of {size}: give at least 2, or its basis"):
        Vector(size)


def test_a_value_of_each_steps_own() -> None:
    assert per_step(Hats(3), 9) == Windows(9)
    assert per_step(Vector(4, Hats(3)), 9) == Vector(4, Windows(9))
    assert matrix(per_step(Hats(3), 9), 9).equal(torch.eye(9, dtype=torch.float64))


# On file


BASES: list[Basis] = [
    Windows(3),
    Hats(4),
    Cosine(2),
    WarmUp(0.25, Hats(3)),
    Vector(10),
    Vector(5, WarmUp(0.1, Cosine(3))),
    WarmUp(0.1, Vector(5, Windows(2))),
]


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_a_basis_comes_back_from_json(basis: Basis) -> None:
    again = basis_from(json.loads(json.dumps(described(basis))))
    assert again == basis
    assert [again.weights(t, 9) for t in range(9)] == [basis.weights(t, 9) for t in range(9)]


@dataclass(frozen=True)
class Steep:
    """One of the user's own; its first function comes in two parts."""

    count: int = 2
    size: int = 1

    def weights(self, step: int, horizon: int) -> tuple[tuple[int, float], ...]:
        return (0, 0.25), (1, ((step + 1) / horizon) ** 2), (0, 0.5)


@pytest.mark.parametrize("basis", [Steep(), Linear(lambda t, T: (1.0,), 1), Vector(3, Steep())])
def test_what_is_code_cannot_be_written_down(basis: Basis) -> None:
    with pytest.raises(ValueError, match="cannot be written down: it is code"):
        described(basis)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no basis 'spline': use windows, hats, cosine, warmup"):
        basis_from({"kind": "spline", "count": 3})


# Where they are not zero, and how much they weigh


@pytest.mark.parametrize("horizon", [7, 20])
@pytest.mark.parametrize(
    "basis", [Windows(3), Hats(1), Hats(3), Cosine(2), WarmUp(0.3, Hats(3)), Steep()], ids=str
)
def test_a_span_is_from_the_first_to_the_last_step_of_a_function(
    basis: Basis, horizon: int
) -> None:
    B = matrix(basis, horizon)
    for i in range(basis.count):
        active = B[:, i].nonzero().flatten().tolist()
        assert span(basis, i, horizon) == Window(active[0], active[-1] + 1)


def test_a_function_that_is_never_used_has_an_empty_span() -> None:
    assert span(Hats(3), 1, 2) == Window(0, 0)


@pytest.mark.parametrize("horizon", [7, 20])
@pytest.mark.parametrize(
    "basis", [Windows(3), Hats(3), Cosine(4), WarmUp(0.3, Hats(3)), Vector(2, Hats(3))], ids=str
)
def test_steps_that_contribute_are_the_sums_of_the_weights(basis: Basis, horizon: int) -> None:
    sums = matrix(basis, horizon).abs().sum(dim=0).tolist()
    found = contributing_steps(basis, horizon)
    assert len(found) == basis.count * basis.size
    for index, steps in enumerate(found):
        assert steps == pytest.approx(sums[index // basis.size])


def test_windows_leave_out_what_is_truncated() -> None:
    assert contributing_steps(Windows(2), 20, truncation=0.25) == (8, 8)
    assert contributing_steps(Windows(1), 100, truncation=0.29) == (71,)
    assert [truncated_steps(Window(0, n), 0.15) for n in (1, 6, 7, 20)] == [0, 0, 1, 3]
    assert contributing_steps(Windows(0), 20) == ()


@pytest.mark.parametrize("basis", [Hats(2), Cosine(2), WarmUp(0.3, Windows(2)), Vector(3)], ids=str)
def test_truncation_is_of_windows_alone(basis: Basis) -> None:
    with pytest.raises(ValueError, match=f"truncation=0.1 .*{type(basis).__name__} has none"):
        contributing_steps(basis, 20, truncation=0.1)


def test_a_function_that_is_zero_throughout_is_refused() -> None:
    with pytest.raises(ValueError, match="3 functions do not fit 2 inner steps: one of them is"):
        contributing_steps(Hats(3), 2)
    with pytest.raises(ValueError, match="3 windows do not fit 2 inner steps: use at most 2"):
        contributing_steps(Windows(3), 2)
