"""Which mode is taken: what a step of each costs, and what forbids one."""

import pytest
from problems import digits_problem
from torch import nn

from hypergrad.core.basis import Hats, Vector, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.differentiation import mode
from hypergrad.differentiation.mode import (
    StepSeconds,
    adjoint_rows,
    faster_options,
    live_tangents,
    step_seconds,
)
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions


def test_a_window_lives_from_its_start_to_the_end() -> None:
    bases = {"a": Windows(5), "b": Windows(1)}
    assert live_tangents(bases, 100) == pytest.approx(3 + 1)
    assert live_tangents(bases, 100, truncation=0.25) == pytest.approx(3)
    assert live_tangents({"a": Windows(100)}, 100) == pytest.approx(50.5)
    assert live_tangents({"a": Vector(3, Windows(2))}, 100) == pytest.approx(4.5)
    assert live_tangents({"a": Hats(2)}, 101) == pytest.approx((101 + 100) / 101)


@pytest.mark.parametrize(
    ("counts", "truncation"), [((5, 1), 0.15), ((5, 1), 0.5), ((4, 4), 0.2), ((1, 1), 0.0)]
)
def test_adjoints_that_go_back_are_counted_as_they_are_taken(
    counts: tuple[int, int], truncation: float
) -> None:
    from hypergrad.core.training_step import InnerState, train_step
    from hypergrad.differentiation.checkpointing import Trajectory
    from hypergrad.differentiation.way_back import WayBack

    problem, horizon = digits_problem("mlp", hidden=4), 100
    schedule = sgd_schedule((0.1,) * counts[0], (0.5,) * counts[1], ())
    bound = InnerOptimizer().bind(problem.model, schedule)
    state = InnerState.start(problem.theta, 1, problem.model.buffers())
    trajectory = Trajectory(horizon, horizon)
    for step in range(horizon):
        trajectory.note(step, state)
        values = bound.step_values(bound.given(schedule, step, horizon), problem.theta)
        state, _, _ = train_step(problem.model, state, problem.batch_at(step), bound, values, step)
    given = problem.model, trajectory, state, problem.batch_at, problem.validation, bound, schedule
    back = WayBack(*given, horizon, fused=False, truncation=truncation)
    while not back.done:
        back.advance()
    bases = {name: basis for name, basis in schedule.bases.items() if basis.count}
    assert back.products / horizon == pytest.approx(adjoint_rows(bases, truncation), abs=0.03)


def test_many_values_are_tried_at_a_few_and_cost_in_proportion() -> None:
    problem = digits_problem("mlp", hidden=8)
    schedule = sgd_schedule((0.1,) * 900, (), ())
    bound = InnerOptimizer().bind(problem.model, schedule)
    given = problem.model, problem.theta, problem.batch_at(0), bound, schedule, 1000
    found = step_seconds(*given)
    assert min(found) > 0
    assert found.forward > 10 * found.back
    assert isinstance(faster_options(*given), ReverseOptions)


def test_few_values_or_random_numbers_take_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = digits_problem("mlp", hidden=8)
    many, few = sgd_schedule((0.1,) * 64, (), ()), sgd_schedule((0.1,), (0.5,), ())
    monkeypatch.setattr(mode, "step_seconds", lambda *_, **__: StepSeconds(1.0, 9.0, 2.0, 1.0))

    def chosen(model: FlatModel, schedule: object, horizon: int = 200) -> type:
        bound = InnerOptimizer().bind(model, schedule)  # type: ignore[arg-type]
        batch = problem.batch_at(0)
        return type(faster_options(model, model.theta(), batch, bound, schedule, horizon))  # type: ignore[arg-type]

    assert chosen(problem.model, many) is ReverseOptions
    assert chosen(problem.model, few) is ForwardOptions
    layers = nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 10)
    assert chosen(FlatModel(nn.Sequential(*layers).double()), many) is ForwardOptions
    monkeypatch.setattr(mode, "step_seconds", lambda *_, **__: StepSeconds(1.0, 5.0, 2.0, 1.0))
    assert chosen(problem.model, many) is ForwardOptions  # not twice as fast


def test_steps_taken_again_count() -> None:
    found = StepSeconds(1.0, 5.0, 2.5, 1.5)
    assert found.reverse() == 4.0
    assert found.reverse(0.5) == 4.75
    assert found.reverse(kept=0.5) == 3.25  # a gradient less on the way back
