"""Inner runs of any optimiser: replayed, resumed, several at once, and however long."""

import json
import os
import subprocess
import sys
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from places import ROOT, TESTS
from sklearn.datasets import load_digits
from torch import Tensor, nn

from hypergrad.core.basis import Basis, Hats, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import NormClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.losses import cross_entropy
from hypergrad.core.objective import Objective, accuracy
from hypergrad.core.rules import Rule, adamw, rmsprop, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.data.sources import TensorBatches
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.training.differentiated_run import ForwardRun, ReverseRun
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.graphed_step import replay_for
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

HORIZON = 9
CPU = torch.device("cpu")

RULES: dict[str, Rule] = {
    "sgd": sgd(),
    "nesterov": sgd(nesterov=True),
    "dampening": sgd(dampening=0.3),
    "adamw": adamw(),
    "rmsprop": rmsprop(),
    "centered": rmsprop(centered=True),
}
RATES = {"sgd": 0.1, "nesterov": 0.1, "dampening": 0.1}  # the others: 0.01
OTHERS = {"momentum": 0.5, "beta1": 0.8, "beta2": 0.95, "smoothing": 0.9, "epsilon": 1e-3}
BASES = {"windows": Windows, "hats": Hats}


@cache
def digits(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data, dtype=dtype) / 8 - 1, torch.tensor(data.target)


def validation(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    images, labels = digits(dtype)
    return [(images[600:650], labels[600:650]), (images[650:670], labels[650:670])]


def declared(rule: str, basis: str, groups: bool) -> tuple[Hyperparameter, ...]:
    """Everything that the rule takes, with a value of the loss; rates in groups if asked for."""
    rate = RATES.get(rule, 0.01)
    starts = (rate, 0.5 * rate, 0.7 * rate)
    over: Basis = BASES[basis](3)
    others = [
        Hyperparameter(name, 1, OTHERS.get(name, 0.01))
        for name in RULES[rule].defaults
        if name != "learning_rate"
    ]
    smoothing = Hyperparameter("label_smoothing", BASES[basis](2), (0.1, 0.05))
    if not groups:
        return Hyperparameter("learning_rate", over, starts), *others, smoothing
    lower = tuple(0.7 * start for start in starts)
    return (
        Hyperparameter(
            "body", over, starts, sets="learning_rate", where=lambda name, _: name[0] == "0"
        ),
        Hyperparameter(
            "head", over, lower, sets="learning_rate", where=lambda name, _: name[0] != "0"
        ),
        *others,
        smoothing,
    )


def problem(
    rule: str, basis: str = "hats", groups: bool = True, dtype: torch.dtype = torch.float64
) -> InnerProblem:
    torch.manual_seed(0)
    layers = nn.Linear(64, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 10)
    model = FlatModel(nn.Sequential(*layers).to(dtype), Objective(cross_entropy, metric=accuracy))
    images, labels = digits(dtype)
    batches = TensorBatches((images[:200], labels[:200]), 16, (0, "runs"))
    optimizer = InnerOptimizer(RULES[rule], declared(rule, basis, groups), NormClip(1.4))
    return InnerProblem(model, model.theta(), batches, HORIZON, optimizer)


def forward_run(given: InnerProblem, replay: str = "never") -> ForwardRun:
    options = ForwardOptions()
    return ForwardRun(given, given.optimizer.start(), options, replay_for(given.model, CPU, replay))


def reverse_run(given: InnerProblem, room: float = 7.5, truncation: float = 0.0) -> ReverseRun:
    # Not all of the states fit: steps between those kept are taken again.
    slots = len(given.optimizer.rule.slots)
    state = (1 + slots) * given.theta.numel() * given.theta.element_size()
    options = ReverseOptions(memory_gb=room * state / 1e9, truncation=truncation)
    return ReverseRun(given, given.optimizer.start(), options)


def finish(run: ScheduledRun | EnsembleRun) -> None:
    while not run.done:
        run.advance()


def found(run: ForwardRun | ReverseRun) -> Hypergradients:
    finish(run)
    return run.hypergradients(validation(run.state.theta.dtype))


# Replay


@pytest.mark.parametrize("groups", [False, True], ids=["global", "groups"])
@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("rule", RULES)
def test_replayed_steps_are_the_steps(rule: str, basis: str, groups: bool) -> None:
    """Up to rounding: a replayed step has its values in tensors, a plain one in numbers."""
    plain, replayed = (
        found(forward_run(problem(rule, basis, groups), replay)) for replay in ("never", "always")
    )
    theta = plain.state.theta
    torch.testing.assert_close(replayed.state.theta, theta, rtol=0, atol=1e-13)
    for name, buffer in plain.state.buffers.items():
        torch.testing.assert_close(replayed.state.buffers[name], buffer, rtol=1e-12, atol=1e-13)
    a, b = (torch.tensor(each.values, dtype=torch.float64) for each in (plain, replayed))
    assert bool((a != 0).all())
    torch.testing.assert_close(b, a, rtol=1e-12, atol=1e-12 * float(a.abs().max()))
    assert replayed.contributing == plain.contributing


@pytest.mark.parametrize("rule", RULES)
def test_replayed_steps_keep_single_precision(rule: str) -> None:
    plain, replayed = (
        found(forward_run(problem(rule, dtype=torch.float32), replay))
        for replay in ("never", "always")
    )
    assert replayed.state.theta.dtype == torch.float32
    assert all(slot.dtype == torch.float32 for slot in replayed.state.slots)
    a, b = (torch.tensor(each.values, dtype=torch.float64) for each in (plain, replayed))
    torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5 * float(a.abs().max()))


# From a snapshot


def tensors(run: ScheduledRun) -> dict[str, list]:
    return {name: tensor.tolist() for name, tensor in run.snapshot()[0].items()}


@pytest.mark.parametrize("mode", ["forward", "replayed", "reverse"])
@pytest.mark.parametrize("rule", ["adamw", "nesterov", "centered"])
def test_a_run_goes_on_from_a_snapshot_as_if_nothing_had_been(rule: str, mode: str) -> None:
    def begun() -> ForwardRun | ReverseRun:
        given = problem(rule)
        if mode == "reverse":
            return reverse_run(given)
        return forward_run(given, "always" if mode == "replayed" else "never")

    whole, first, second = begun(), begun(), begun()
    finish(whole)
    for _ in range(4):
        first.advance()
    kept = first.snapshot()
    first.advance()  # a snapshot is a copy: what comes after does not touch it
    second.restore(*kept)
    assert second.step == 4
    finish(second)
    assert tensors(second) == tensors(whole)
    ours, theirs = found(second), found(whole)
    assert ours.values == theirs.values
    assert ours.diagnostics == theirs.diagnostics
    assert any(ours.values)


class Killed(Exception):
    """As a signal would, between two steps."""


@pytest.mark.parametrize("truncation", [0.0, 0.5])
@pytest.mark.parametrize("room", [5.5, 7.5, 1e3])
@pytest.mark.parametrize("rule", ["adamw", "nesterov"])
def test_a_way_back_goes_on_from_a_snapshot(rule: str, room: float, truncation: float) -> None:
    """Whatever the step it is broken off at, whether all states are kept or few."""

    def begun() -> ReverseRun:
        basis = "windows" if truncation else "hats"
        return reverse_run(problem(rule, basis), room, truncation)

    whole = begun()
    theirs = found(whole)
    for stop in range(1, HORIZON + 1):
        first, second = begun(), begun()
        finish(first)

        def tick(back: int, stop: int = stop) -> None:
            if back == stop:
                raise Killed

        with pytest.raises(Killed):
            first.hypergradients(validation(torch.float64), tick)
        tensors, scalars = first.snapshot()
        second.restore(tensors, json.loads(json.dumps(scalars)))
        seen: list[int] = []
        ours = second.hypergradients(validation(torch.float64), seen.append)
        assert seen == list(range(stop + 1, HORIZON + 1))  # no step is gone back through twice
        assert ours.values == theirs.values
        assert ours.diagnostics == theirs.diagnostics
        assert second.cost() == whole.cost()
    assert any(theirs.values)


# Several at once


def other(schedule: Schedule, share: float) -> Schedule:
    values = {name: tuple(share * x for x in own) for name, own in schedule.items()}
    return Schedule(values, schedule.bases)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("rule", ["adamw", "nesterov", "rmsprop"])
def test_the_members_of_an_ensemble_are_trained_as_they_are_alone(rule: str, basis: str) -> None:
    given = problem(rule, basis)
    start = given.optimizer.start()
    schedules = [start, other(start, 0.9), other(start, 0.5)]
    together = EnsembleRun(given, schedules)
    finish(together)
    losses = together.take_losses()
    assert together.state.theta.shape == (3, given.model.size)
    for k, schedule in enumerate(schedules):
        alone = ScheduledRun(given, schedule)
        finish(alone)
        own, mine = together.state, alone.state
        torch.testing.assert_close(own.theta[k], mine.theta, rtol=0, atol=1e-12)
        for theirs, slot in zip(own.slots, mine.slots, strict=True):
            torch.testing.assert_close(theirs[k], slot, rtol=0, atol=1e-12)
        for name, buffer in mine.buffers.items():
            torch.testing.assert_close(own.buffers[name][k], buffer, rtol=1e-12, atol=1e-12)
        assert losses[k] == pytest.approx(alone.take_means()[0], rel=1e-12)
    assert not torch.allclose(together.state.theta[0], together.state.theta[1])


def test_an_ensemble_refuses_schedules_of_other_names() -> None:
    given = problem("sgd")._replace(optimizer=InnerOptimizer(sgd()))
    schedules = [Schedule({"learning_rate": (0.1,)}), Schedule({"learning_rate": (0.1,)} | MORE)]
    with pytest.raises(ValueError, match="train them one at a time"):
        EnsembleRun(given, schedules)


MORE = {"momentum": (0.5,)}


def test_an_ensemble_refuses_a_rule_that_mixes_parameters() -> None:
    def update(g: Tensor, theta: Tensor, slots: tuple, values: dict, step: int) -> tuple:
        return theta - values["rate"] * g / g.norm(), slots

    rule = Rule(update, {"rate": 0.01}, rate="rate", elementwise=False, name="normalised")
    given = problem("sgd")._replace(optimizer=InnerOptimizer(rule))
    with pytest.raises(ValueError, match="normalised mixes parameters"):
        EnsembleRun(given, [Schedule({"rate": (0.1,)})] * 2)


# However long

SCRIPT = """
import sys
import torch
from problems import digits_problem
from hypergrad.core.basis import Hats
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import adamw
from hypergrad.differentiation.forward import hypergradients
from hypergrad.differentiation.options import ForwardOptions
torch.set_num_threads(1)
problem = digits_problem("mlp", batch_size=8, dtype=torch.float32, hidden=8)
optimizer = InnerOptimizer(adamw(), (Hyperparameter("learning_rate", Hats(2), 0.001),))
found = hypergradients(problem.model, problem.theta, problem.batch_at, problem.validation,
                       optimizer.start(), int(sys.argv[1]), ForwardOptions(strategy="loop"),
                       optimizer=optimizer)
assert all(h == h for h in found.values), found.values
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def peak(horizon: int) -> int:
    """Peak resident memory in KiB of a process that does one inner run."""
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(horizon)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_a_hundred_times_the_steps_of_adamw_need_the_same_memory() -> None:
    assert peak(10_000) <= 1.02 * peak(100)


def test_a_loss_of_ones_own_without_values_is_trained_the_same() -> None:
    given = problem("adamw", groups=False)
    theirs = FlatModel(
        given.model.module, Objective(lambda m, b, v: F.cross_entropy(m(b[0]), b[1]))
    )
    rates = tuple(
        each for each in given.optimizer.hyperparameters if each.name != "label_smoothing"
    )
    optimizer = InnerOptimizer(adamw(), rates, NormClip(1.4))
    runs = []
    for model in (given.model, theirs):
        run = forward_run(given._replace(model=model, optimizer=optimizer))
        runs.append(found(run))
    assert torch.equal(runs[0].state.theta, runs[1].state.theta)
    torch.testing.assert_close(runs[0].values, runs[1].values, rtol=1e-12, atol=1e-14)
