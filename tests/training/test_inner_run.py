"""The one stepping loop."""

from problems import Problem, digits_problem

from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Images, Minibatches
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun, steps

CALM = sgd_schedule((0.05,), (0.9,), ())
WILD = sgd_schedule((1e200,), (0.0,), ())  # lost after two steps


def inner_problem(problem: Problem, epochs: int = 3) -> InnerProblem:
    data = Images(problem.images[:64], problem.labels[:64])
    minibatches = Minibatches(data, 16, (0, "steps"))  # four an epoch
    return InnerProblem.over_epochs(problem.model, problem.theta, minibatches, epochs)


def test_rows_are_due_evenly_through_every_epoch() -> None:
    problem = inner_problem(digits_problem("mlp", hidden=8))
    for rows, due in ((1, [4, 8, 12]), (2, [2, 4, 6, 8, 10, 12]), (0, [])):
        run = ScheduledRun(problem, CALM)
        assert [run.step for is_due in steps(run, rows) if is_due] == due
        assert run.done


def test_a_lost_run_ends_with_the_row_that_shows_it_and_stays_ended() -> None:
    problem = inner_problem(digits_problem("mlp", hidden=8))
    run = ScheduledRun(problem, WILD)
    assert len(list(steps(run))) == 4
    assert (run.step, run.done, run.is_lost()) == (4, False, True)
    again = ScheduledRun(problem, WILD)
    again.restore(*run.snapshot())
    assert list(steps(again)) == []  # as if it had never been interrupted
    assert len(list(steps(ScheduledRun(problem, WILD), rows_per_epoch=0))) == 12


def test_an_ensemble_is_lost_with_its_last_member() -> None:
    problem = inner_problem(digits_problem("mlp", hidden=8))
    assert len(list(steps(EnsembleRun(problem, [WILD, CALM])))) == 12
    assert len(list(steps(EnsembleRun(problem, [WILD, WILD])))) == 4
