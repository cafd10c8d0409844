"""Moves of a base schedule: the base itself at zero, each scale by hand, bounds, errors."""

import math

import pytest
import torch

from hypergrad.core.base_schedules import base_schedule
from hypergrad.core.basis import Hats, Vector, Windows
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.move_space import Candidate, MoveSpace
from hypergrad.core.rules import adamw, sgd
from hypergrad.core.rules.move_sets import movable
from hypergrad.core.schedule import Schedule


def space(*declared: H, base: Schedule | None = None) -> MoveSpace:
    optimizer = InnerOptimizer(sgd(), declared)
    return MoveSpace(optimizer, base or base_schedule(optimizer, "constant"))


@pytest.mark.parametrize("shape", ["cosine", "constant", "multistep"])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_at_zero_it_is_the_base(name: str, shape: str) -> None:
    optimizer = movable(name)
    base = base_schedule(optimizer, shape, warmup=0.1)
    own = MoveSpace(optimizer, base)
    found = own.schedule(own.origin, 23)
    for step in range(23):
        given = base.at(step, 23)
        for value, number in found.at(step, 23).items():
            assert number == pytest.approx(given[value], rel=1e-12), (value, step)


def test_a_cosine_falls_from_the_declared_rate_to_nothing() -> None:
    rates = [
        base_schedule(movable("sgd")).at(step, 1000)["learning_rate"] for step in (0, 500, 999)
    ]
    assert rates == pytest.approx([0.1, 0.05, 0.0], abs=1e-4)


def test_each_scale_moves_as_its_equation_says() -> None:
    own = space(
        H("learning_rate", 1, 0.1, scale="log"),
        H("momentum", 1, 0.9, scale="log1m"),
        H("weight_decay", 1, 0.01, scale="linear"),
        H("label_smoothing", 1, 0.1, scale="logit"),
    )
    m = (math.log(2), math.log(3), 0.02, 1.0)
    found = own.schedule(Candidate(m, 5.0), 4).at(0, 4)
    beta = 1 - 0.1 / 3
    assert found["momentum"] == pytest.approx(beta)
    # What is felt, rate / (1 - momentum), is held; the factor multiplies it.
    assert found["learning_rate"] == pytest.approx(5 * 0.1 * 2 * (1 - beta) / 0.1)
    assert found["weight_decay"] == pytest.approx(0.03)
    assert math.log(
        found["label_smoothing"] / (1 - found["label_smoothing"])  # type: ignore[operator]
    ) == pytest.approx(math.log(0.1 / 0.9) + 1)


def test_rates_of_averages_are_not_coupled() -> None:
    optimizer = movable("adamw")
    own = MoveSpace(optimizer, base_schedule(optimizer, "constant"))
    moves = dict.fromkeys(own.names, 0.0) | {("beta1", 0): 1.0}
    found = own.schedule(Candidate(tuple(moves.values())), 5).at(0, 5)
    assert found["learning_rate"] == pytest.approx(1e-3)
    assert found["beta1"] == pytest.approx(1 - 0.1 / math.e)


def test_a_base_of_ones_own_keeps_its_shape_under_moves() -> None:
    base = Schedule({"learning_rate": (0.3, 0.1, 0.2)})
    own = space(H("learning_rate", Hats(2), 1.0, scale="log"), base=base)
    found = own.schedule(Candidate((0.0, 1.0)), 6)["learning_rate"]
    given = [0.3, 0.3, 0.1, 0.1, 0.2, 0.2]
    assert found == pytest.approx([v * math.exp(t / 5) for t, v in enumerate(given)])


def test_vectors_move_by_their_coefficients() -> None:
    weights = H("class_weights", Vector(3, Windows(1)), (1.0, 2.0, 3.0), scale="log")
    own = space(H("learning_rate", 1, 0.1, scale="log"), weights)
    assert own.size == 4
    found = own.schedule(Candidate((0.0, 0.0, math.log(2), 0.0)), 7)
    assert found.at(3, 7)["class_weights"] == pytest.approx((1.0, 4.0, 3.0))


def test_bounds_hold() -> None:
    own = space(
        H("learning_rate", 1, 0.1, scale="log", low=0.01, high=0.2),
        H("momentum", 1, 0.9, scale="log1m", low=0.0, high=0.99),
    )
    assert own.schedule(Candidate((9.0, 9.0)), 3).at(0, 3) == {
        "learning_rate": 0.2,
        "momentum": 0.99,
    }
    assert own.schedule(Candidate((-9.0, -9.0)), 3).at(0, 3)["momentum"] == 0.0


def test_a_step_goes_so_far_and_no_further() -> None:
    own = space(H("learning_rate", 2, 0.1, 0.5, "log"))
    assert own.moved(own.origin, (1.0, -2.0)).moves == (0.5, -1.0)
    assert own.moved(own.origin, (100.0, 0.0)).moves == (8.0, 0.0)


def test_the_chain_rule_is_the_derivative_of_the_values() -> None:
    optimizer = movable("sgd")
    own = MoveSpace(optimizer, base_schedule(optimizer, warmup=0.2))
    p, horizon = torch.linspace(-0.5, 0.7, own.size, dtype=torch.float64), 11
    candidate = Candidate(tuple(p.tolist()), 1.3)
    given = {
        name: torch.linspace(-1, 2, horizon, dtype=torch.float64) * (i + 1)
        for i, name in enumerate(("learning_rate", "momentum", "weight_decay"))
    }

    def total(at: torch.Tensor) -> float:
        values = own.values(at, horizon, 1.3)
        return sum(float((values[name] * g).sum()) for name, g in given.items())

    found = own.pulled(candidate, horizon, given)
    for i, e in enumerate(torch.eye(own.size, dtype=torch.float64)):
        central = (total(p + 1e-6 * e) - total(p - 1e-6 * e)) / 2e-6
        assert found[i] == pytest.approx(central, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("declared", "base", "message"),
    [
        ([H("learning_rate", 1, 0.1, learned=False)], Schedule({}), "nothing moves"),
        ([H("learning_rate", 1, 0.1)], Schedule({"momentum": (0.9,)}), "the base has no"),
        (
            [H("learning_rate", 1, 0.1, scale="log")],
            Schedule({"learning_rate": (0.0,)}),
            "cannot move on a log scale",
        ),
        (
            [H("momentum", 1, 0.5, scale="log1m", high=0.9)],
            Schedule({"momentum": (0.95,)}),
            "momentum=0.95 in the base: not in its bounds",
        ),
    ],
)
def test_a_base_that_cannot_move_is_refused(
    declared: list[H], base: Schedule, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MoveSpace(InnerOptimizer(sgd(), tuple(declared)), base)


def test_unknown_moves_and_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="no moves are known of 'lion'"):
        movable("lion")
    with pytest.raises(ValueError, match="sgd has no beta1"):
        movable("sgd", start={"beta1": 0.9})
    with pytest.raises(ValueError, match="no shape 'step'"):
        base_schedule(InnerOptimizer(adamw(), (H("learning_rate", 1, 0.1),)), "step")
