"""Inner runs of hypergradient descent."""

from problems import Problem, digits_problem

from hypergrad.core.rules.sgd import NAMES
from hypergrad.data import Images, Minibatches
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import steps


def descent(problem: Problem) -> HypergradientDescentRun:
    train, held_out = (
        Images(problem.images[a:b], problem.labels[a:b]) for a, b in ((0, 96), (96, 192))
    )
    inner = InnerProblem.over_epochs(
        problem.model, problem.theta, Minibatches(train, 16, (0, "hd")), 2
    )
    validation = Minibatches(held_out, 16, (0, "hd-validation"))
    return HypergradientDescentRun(
        inner, validation, outer_learning_rate=0.2, clip=1.0, learned=dict.fromkeys(NAMES, True)
    )


def test_it_remembers_what_every_step_used_across_a_snapshot() -> None:
    problem = digits_problem("mlp", hidden=8)
    whole, begun, resumed = (descent(problem) for _ in range(3))
    rows = [row for _ in steps(whole) for row in whole.take_history()]
    for _ in range(5):
        begun.advance()
    begun.take_history()
    resumed.restore(*begun.snapshot())
    for _ in steps(resumed):
        pass
    assert tuple(whole.schedule) == NAMES
    for name in NAMES:
        assert whole.schedule[name] == tuple(row[name] for row in rows)
    assert len(rows) == 12
    assert resumed.schedule == whole.schedule
    assert len(set(whole.schedule["learning_rate"])) == 12  # it moves at every step
