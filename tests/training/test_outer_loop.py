"""When an outer loop ends, and how far it trains."""

import pytest

from hypergrad.core.budget import Budget, Spent
from hypergrad.core.outer_optimizer import OuterState
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.training.outer_loop import Best, Evaluation, OuterOptions, OuterProgress


def options(**fields: object) -> OuterOptions:
    return OuterOptions(**{"steps": 10, "epochs": 8, **fields})  # type: ignore[arg-type]


def progress(number: int, gamma: float = 0.1, best: int = 0, trials: int = 0) -> OuterProgress:
    state = OuterState((1.0, -2.0), (gamma, gamma), (1, -1), (0.1, 0.1))
    schedule = sgd_schedule((1.0,), (-2.0,), ())
    kept = Best(best, schedule, Evaluation(0.5, 0.9))
    return OuterProgress(number, state, kept, Spent(gradients=100 * trials, trials=trials))


COST = Spent(gradients=100, trials=1)


@pytest.mark.parametrize(
    ("fields", "where", "why"),
    [
        ({}, progress(3), None),
        ({}, progress(10), ""),
        ({}, progress(3, gamma=0.049), "converged after 3 outer steps"),
        ({}, progress(3, gamma=0.051), None),
        ({"tolerance": 0.0}, progress(3, gamma=1e-9), None),
        ({"patience": 2}, progress(4, best=1), "no better validation accuracy in 2 outer steps"),
        ({"patience": 2}, progress(3, best=1), None),
        (
            {"budget": Budget.parse("4trials")},
            progress(4, trials=4),
            "the budget of 4trials is spent after 4 outer steps",
        ),
        ({"budget": Budget.parse("4trials")}, progress(3, trials=3), None),
        # Half of another outer step would overshoot by as much as stopping falls short.
        ({"budget": Budget.parse("350gradients")}, progress(3, trials=3), None),
        (
            {"budget": Budget.parse("349gradients")},
            progress(3, trials=3),
            "the budget of 349gradients is spent after 3 outer steps",
        ),
        # The first one says nothing about the cost of the others.
        ({"budget": Budget.parse("1trials")}, progress(1, trials=1), None),
        # The next one is four times as long as the last one, which was short.
        (
            {"budget": Budget.parse("390gradients"), "first_horizons": (1, 2)},
            progress(2, trials=2),
            "the budget of 390gradients is spent after 2 outer steps",
        ),
    ],
)
def test_why_a_loop_ends(fields: dict[str, object], where: OuterProgress, why: str | None) -> None:
    assert options(**fields).end(where, COST) == why


def test_first_horizons_are_never_longer_than_the_others() -> None:
    chosen = options(first_horizons=(1, 2, 20))
    assert [chosen.horizon(number) for number in range(5)] == [1, 2, 8, 8, 8]
