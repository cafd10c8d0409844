"""Moves: factors on scales, what moves along, and the chain rule."""

import math

import pytest

from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.rules.base_schedules import HELD, STEP_SIZE, adamw_base, annealed, sgd_base
from hypergrad.training.improvement.moves import Moves


def moves(**given: float) -> Moves:
    return Moves(sgd_base(**given).learned(), STEP_SIZE, HELD)  # type: ignore[arg-type]


def test_the_base_is_where_it_begins() -> None:
    assert moves().base == (0.1,) * 5 + (0.9, 5e-4)
    assert moves().sizes == (0.6,) * 5 + (0.6, 1.5)
    assert list(moves().bases) == ["learning_rate", "momentum", "weight_decay"]


def test_nothing_moves_by_nothing() -> None:
    assert moves().moved(moves().base, (0.0,) * 7) == pytest.approx(moves().base, rel=1e-15)


def test_a_step_keeps_its_size_while_momentum_moves() -> None:
    by = [0.0] * 5 + [math.log(2), 0.0]
    found = moves().moved(moves().base, by)
    assert found[5] == pytest.approx(0.95)
    assert found[:5] == pytest.approx((0.05,) * 5)
    assert found[0] / (1 - found[5]) == pytest.approx(0.1 / (1 - 0.9))


def test_what_moves_along_stops_where_its_cause_does() -> None:
    found = moves().moved(moves().base, [0.0] * 5 + [50.0, 0.0])
    assert found[5] == 0.995
    assert found[0] / (1 - found[5]) == pytest.approx(0.1 / (1 - 0.9))


def test_steps_are_scaled_alone() -> None:
    assert moves().scaled(moves().base, 1.3) == pytest.approx((0.13,) * 5 + (0.9, 5e-4))


def test_the_chain_rule_against_differences() -> None:
    space = moves(learning_rate=0.2, momentum=0.7, weight_decay=1e-3)

    def loss(values: tuple[float, ...]) -> float:
        return sum((i + 1) * math.sin(3 * value) for i, value in enumerate(values))

    at = space.moved(space.base, (0.1, -0.2, 0.3, 0.0, 0.05, 0.2, -0.4))
    slopes = [(i + 1) * 3 * math.cos(3 * value) for i, value in enumerate(at)]
    found = space.gradient(at, slopes)
    for i in range(7):
        step = [0.0] * 7
        step[i] = 1e-5
        there = loss(space.moved(at, step))
        back = loss(space.moved(at, [-own for own in step]))
        assert found[i] == pytest.approx((there - back) / 2e-5, rel=1e-7)


def test_adamw_holds_nothing() -> None:
    space = Moves(adamw_base().learned(), STEP_SIZE)
    found = space.moved(space.base, [0.0] * 5 + [0.3, 0.3, 0.0])
    assert found[:5] == space.base[:5]
    assert found[5] == pytest.approx(1 - 0.1 * math.exp(-0.3))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="nothing sets learning_rate"):
        Moves([Hyperparameter("momentum")], STEP_SIZE)
    with pytest.raises(ValueError, match="scale='log'"):
        Moves([Hyperparameter("learning_rate", 1, 0.1)], STEP_SIZE)
    with pytest.raises(ValueError, match="no shape 'cosin'"):
        annealed("cosin")
    with pytest.raises(ValueError, match="give tenths"):
        annealed("multistep", milestones=(0.35,))


@pytest.mark.parametrize(
    ("kind", "heights"),
    [
        ("cosine", [0.5 * (1 + math.cos(math.pi * (t + 0.5) / 10)) for t in range(10)]),
        ("linear", [1 - t / 9 for t in range(10)]),
        ("multistep", [1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008]),
        ("constant", [1] * 10),
    ],
)
def test_shapes(kind: str, heights: list[float]) -> None:
    basis = annealed(kind)
    found = [sum(weight for _, weight in basis.weights(t, 10)) for t in range(10)]
    assert found == pytest.approx(heights)


def test_a_warm_up_in_front() -> None:
    basis = annealed("constant", warmup=0.2)
    found = [sum(weight for _, weight in basis.weights(t, 10)) for t in range(3)]
    assert found == pytest.approx([0.5, 1.0, 1.0])
