"""Runs of hypergradient descent at once, and replayed ensembles, against each run alone."""

import pytest
import torch
from problems import Problem, digits_problem
from torch import nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import adamw, sgd
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Images, Minibatches
from hypergrad.training.ensemble import EnsembleRun, JointRun
from hypergrad.training.graphed_step import Replay, replay_for
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.joint_descent import JointDescentRun

CPU = torch.device("cpu")
RATES = (0.2, 0.05, 0.1, 0.4)
STARTS = (
    {},
    {"momentum": 0.5},
    {"learning_rate": 1e200},
    {"learning_rate": 0.05, "momentum": 0.9},
)  # the third is lost
LEARNED = {"learning_rate": True, "momentum": True, "weight_decay": False}
OPTIONS: dict[str, dict[str, int]] = {"mlp": {"hidden": 8}, "wrn": {"depth": 10, "width": 1}}
ADAM: tuple[str, ...] = ("learning_rate", "beta1", "beta2", "epsilon", "weight_decay")


def digits_of(name: str) -> Problem:
    return digits_problem(name, 16, torch.float64, 0, **OPTIONS.get(name, {}))


def inner(problem: Problem, optimizer: InnerOptimizer | None = None) -> InnerProblem:
    minibatches = Minibatches(Images(problem.images[:96], problem.labels[:96]), 16, (0, "descents"))
    optimizer = optimizer or InnerOptimizer(transform=NormClip(5.0))
    return InnerProblem.over_epochs(problem.model, problem.theta, minibatches, 2, optimizer)


def validation(problem: Problem) -> Minibatches:
    data = Images(problem.images[96:192], problem.labels[96:192])
    return Minibatches(data, 12, (0, "validation"))


def joint(name: str, replay: Replay | None = None, rates: tuple = RATES) -> JointDescentRun:
    problem = digits_of(name)
    return JointDescentRun(
        inner(problem),
        validation(problem),
        outer_rates=rates,
        clip=0.3,
        learned=LEARNED,
        starts=STARTS,
        replay=replay,
    )


def alone(name: str, rate: float, start: dict[str, float]) -> HypergradientDescentRun:
    problem = digits_of(name)
    return HypergradientDescentRun(
        inner(problem),
        validation(problem),
        outer_learning_rate=rate,
        clip=0.3,
        learned=LEARNED,
        start=start,
    )


def finish(run: JointRun | HypergradientDescentRun) -> None:
    while not run.done:
        run.advance()


@pytest.mark.parametrize("replay", ["never", "always"])
@pytest.mark.parametrize("name", ["mlp", "lenet", "wrn"])
def test_every_member_descends_as_it_does_alone(name: str, replay: str) -> None:
    problem = digits_of(name)
    together = joint(name, replay_for(problem.model, CPU, replay))
    finish(together)
    schedules, losses = together.schedules, together.take_losses()
    close = 1e-7 if name == "wrn" else 1e-9  # normalisation amplifies rounding from step to step
    lost = []
    for k, (rate, start) in enumerate(zip(RATES, STARTS, strict=True)):
        run = alone(name, rate, start)
        finish(run)
        if not run.is_finite():
            lost.append(k)
            assert not together.state.theta[k].isfinite().all()
            continue
        mine, own = run.state, together.state
        torch.testing.assert_close(own.theta[k], mine.theta, rtol=close, atol=close)
        torch.testing.assert_close(own.slots[0][k], mine.slots[0], rtol=close, atol=close)
        for key, buffer in mine.buffers.items():
            torch.testing.assert_close(own.buffers[key][k], buffer, rtol=close, atol=close)
        assert losses[k] == pytest.approx(run.take_means()[0], rel=close)
        assert tuple(schedules[k]) == NAMES
        for value in NAMES:
            assert schedules[k][value] == pytest.approx(run.schedule[value], rel=close)
            assert schedules[k][value][0] == start.get(value, 0.0)
        assert len(set(schedules[k]["learning_rate"])) > 3  # moves, often as far as clipped
        assert set(schedules[k]["weight_decay"]) == {0.0}  # it does not
    assert lost == [2]


def test_any_elementwise_rule_descends_as_it_does_alone() -> None:
    problem = digits_problem("mlp", hidden=8)
    given = inner(problem, InnerOptimizer(adamw()))
    start = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3}
    learned = dict.fromkeys(ADAM, True)
    rates = (1e-3, 1e-4)
    together = JointDescentRun(
        given,
        validation(problem),
        outer_rates=rates,
        clip=0.3,
        learned=learned,
        starts=[start, start],
    )
    finish(together)
    for k, rate in enumerate(rates):
        run = HypergradientDescentRun(
            given,
            validation(problem),
            outer_learning_rate=rate,
            clip=0.3,
            learned=learned,
            start=start,
        )
        finish(run)
        for name in ADAM:
            assert together.schedules[k][name] == pytest.approx(run.schedule[name], rel=1e-9)
        torch.testing.assert_close(together.state.theta[k], run.state.theta, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("replay", ["never", "always"])
@pytest.mark.parametrize("kind", ["descent", "schedules"])
def test_it_goes_on_from_a_snapshot_as_if_nothing_had_been(kind: str, replay: str) -> None:
    def begun() -> JointRun:
        return KINDS[kind](0, replay_for(digits_problem("mlp", hidden=8).model, CPU, replay))

    whole, first, second = begun(), begun(), begun()
    finish(whole)
    for _ in range(5):
        first.advance()
    kept = first.snapshot()
    first.advance()  # a snapshot is a copy: what comes after does not touch it
    second.restore(*kept)
    assert second.step == 5
    finish(second)
    (mine, numbers), (theirs, others) = second.snapshot(), whole.snapshot()
    assert numbers == others
    assert list(mine) == list(theirs)
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=0, atol=0, equal_nan=True)


# Replay


def schedules_run(number: int, replay: Replay | None) -> EnsembleRun:
    rates = ((0.05, 0.1, 0.02), (0.2, 0.01, 0.1))[number]
    schedules = [sgd_schedule((rate, 0.5 * rate), (0.9,), (1e-3,)) for rate in rates]
    return EnsembleRun(inner(digits_problem("mlp", hidden=8)), schedules, replay)


KINDS = {
    "descent": lambda number, replay: joint("mlp", replay, (RATES, (0.1, 0.3, 0.2, 0.01))[number]),
    "schedules": schedules_run,
}


@pytest.mark.parametrize("kind", KINDS)
def test_one_recording_serves_runs_with_other_values(kind: str) -> None:
    replay = replay_for(digits_problem("mlp", hidden=8).model, CPU, "always")
    assert replay is not None
    for number in (0, 1, 0):
        plain, replayed = KINDS[kind](number, None), KINDS[kind](number, replay)
        finish(plain)
        finish(replayed)
        assert replay._recorder.recorded == 1
        torch.testing.assert_close(
            replayed.state.theta, plain.state.theta, rtol=1e-11, atol=1e-13, equal_nan=True
        )
        torch.testing.assert_close(
            replayed.take_losses(), plain.take_losses(), rtol=1e-11, atol=0, equal_nan=True
        )


# Refused


def test_starts_are_given_to_all_members() -> None:
    problem = digits_problem("mlp", hidden=8)
    with pytest.raises(ValueError, match="1 starts for 2 outer learning rates"):
        JointDescentRun(
            inner(problem),
            validation(problem),
            outer_rates=(0.1, 0.2),
            clip=1.0,
            learned=LEARNED,
            starts=[{}],
        )


def test_every_start_is_looked_at() -> None:
    problem = digits_problem("mlp", hidden=8)
    with pytest.raises(ValueError, match=r"beta1=1.*where adamw is not finite: use sgd"):
        JointDescentRun(
            inner(problem, InnerOptimizer(adamw())),
            validation(problem),
            outer_rates=(0.1, 0.2),
            clip=1.0,
            learned=dict.fromkeys(ADAM, True),
            starts=[
                {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-3},
                {"beta1": 1.0},
            ],
        )


def test_a_value_of_the_loss_is_refused() -> None:
    problem = digits_problem("mlp", hidden=8)
    optimizer = InnerOptimizer(sgd(), (Hyperparameter("learning_rate", 1, 0.1),))
    with pytest.raises(ValueError, match="has no label_smoothing"):
        JointDescentRun(
            inner(problem, optimizer),
            validation(problem),
            outer_rates=(0.1,),
            clip=1.0,
            learned={"learning_rate": True, "label_smoothing": True},
        )


def test_a_network_that_draws_is_refused() -> None:
    problem = digits_problem("mlp", hidden=8)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).double()
    model = FlatModel(net)
    given = problem._replace(model=model, theta=model.theta())
    with pytest.raises(ValueError, match="Dropout.*draws random numbers"):
        JointDescentRun(
            inner(given), validation(given), outer_rates=(0.1,), clip=1.0, learned=LEARNED
        )
