"""What takes a whole outer step: trains for `T` steps, and finds the hypergradients of `N` values.

The values are learning rates, shared over `N` windows of steps; momentum is constant. That is what
all of the contenders can differentiate.
"""

import copy
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contenders import Case
from benchmarks.peers import PEERS, absence
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import sgd
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator
from hypergrad.core.training_step import InnerState, train_step
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.checkpointing import IN_WORK, state_bytes
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.models import build

__all__ = ["OURS", "OUTER", "Problem", "contender", "gradients_about", "outer_problem"]

RATE, MOMENTUM = 1e-3, 0.9
POOL = 8  # minibatches, used in turn: making them is not part of what is timed
DIFFERENCE = {torch.float32: 0.1, torch.float64: 1e-4}  # of a value

Hypergradients = tuple[float, ...]


class Problem(NamedTuple):
    """An outer step to take.

    Attributes:
        case: The network, and the strategy that forward mode takes for it.
        horizon: `T`, inner steps.
        module: The network, as it starts.
        model: The same as a function.
        batches: Minibatches of random images, used in turn.
        optimizer: SGD with `N` learning rates.
        schedule: Their values.
    """

    case: Case
    horizon: int
    module: nn.Module
    model: FlatModel
    batches: list[tuple[Tensor, Tensor]]
    optimizer: InnerOptimizer
    schedule: Schedule

    def batch_at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the minibatch of a 0-based step; that of step -1 is the validation data."""
        return self.batches[step % (POOL - 1)] if step >= 0 else self.batches[-1]

    def window_at(self, step: int) -> int:
        """Return which of the `N` values a step uses."""
        ((window, _),) = self.schedule.bases["learning_rate"].weights(step, self.horizon)
        return window


def outer_problem(
    case: Case,
    columns: int,
    horizon: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """Return the outer step of a network.

    Args:
        case: The network and the size of its batches, which are random numbers.
        columns: `N`, at least 1 and at most `T`.
        horizon: `T`, inner steps.
        device: Where to compute.
        dtype: In what.
    """
    module = build(case.name, case.shape, 10, seed=0, options=dict(case.options))
    module = module.to(device, dtype)
    stream = generator(0, "benchmark of outer steps")
    labels = (torch.arange(case.batch_size) % 10).to(device)
    images = [torch.randn(case.batch_size, *case.shape, generator=stream) for _ in range(POOL)]
    rate = Hyperparameter("learning_rate", columns, start=RATE)
    momentum = Hyperparameter("momentum", start=MOMENTUM, learned=False)
    optimizer = InnerOptimizer(sgd(), (rate, momentum))
    return Problem(
        case,
        horizon,
        module,
        FlatModel(module),
        [(x.to(device, dtype), labels) for x in images],
        optimizer,
        optimizer.start(),
    )


def plain(problem: Problem) -> Hypergradients:
    """Train and no more, as one would by hand: the unit that all others are measured in."""
    net = copy.deepcopy(problem.module).train()
    own = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
    for step in range(problem.horizon):
        x, y = problem.batch_at(step)
        own.zero_grad()
        F.cross_entropy(net(x), y).backward()
        own.step()
    return ()


def in_forward_mode(problem: Problem) -> Hypergradients:
    """Tangents of all values, with the strategy meant for the network."""
    options = ForwardOptions(strategy=problem.case.strategy)
    model, validation = problem.model, [problem.batch_at(-1)]
    run = model, model.theta(), problem.batch_at, validation, problem.schedule, problem.horizon
    return forward.hypergradients(*run, options, optimizer=problem.optimizer).values


def in_reverse_mode(
    states: Callable[[int], int], graphs_gb: float = 0.0
) -> Callable[[Problem], Hypergradients]:
    """Adjoints, with room for so many states, those in work among them, as `T` asks for.

    Args:
        states: Maps `T` to their number.
        graphs_gb: Further memory, for graphs of gradients, in units of 1e9 bytes.
    """

    def run(problem: Problem) -> Hypergradients:
        model, validation = problem.model, [problem.batch_at(-1)]
        run = model, model.theta(), problem.batch_at, validation, problem.schedule, problem.horizon
        size = state_bytes(InnerState.start(model.theta(), 1, model.buffers()))
        # Half a state more: what is asked for must not be lost in rounding.
        memory = (states(problem.horizon) + 0.5) * size / 1e9 + graphs_gb
        options = ReverseOptions(memory_gb=memory, keep_graphs=graphs_gb > 0)
        return reverse.hypergradients(*run, options, problem.optimizer).values

    return run


def by_differences(problem: Problem) -> Hypergradients:
    """Two whole trainings a value, and the difference between where they end."""
    model, schedule, horizon = problem.model, problem.schedule, problem.horizon
    size = RATE * DIFFERENCE[problem.batches[0][0].dtype]
    bound = problem.optimizer.bind(model, schedule)
    theta = model.theta()

    def loss_at(window: int, change: float) -> float:
        state = InnerState.start(theta, 1, model.buffers())
        for step in range(horizon):
            given = dict(bound.given(schedule, step, horizon))
            given["learning_rate"] = RATE + change * (problem.window_at(step) == window)
            values = bound.step_values(given, theta)
            state, _, _ = train_step(model, state, problem.batch_at(step), bound, values, step)
        with torch.no_grad():
            return float(model.validation_loss(state.theta, problem.batch_at(-1), state.buffers))

    found = []
    for window in range(len(schedule.flat)):
        steps = sum(problem.window_at(step) == window for step in range(horizon))
        found.append((loss_at(window, size) - loss_at(window, -size)) / (2 * size) / steps)
    return tuple(found)


OURS: dict[str, Callable[[Problem], Hypergradients]] = {
    "forward": in_forward_mode,
    "reverse": in_reverse_mode(lambda horizon: horizon + IN_WORK),
    "graphs": in_reverse_mode(lambda horizon: horizon + IN_WORK, graphs_gb=4.0),
    "checkpointed": in_reverse_mode(lambda horizon: 2 * math.isqrt(horizon) + IN_WORK),
}
OUTER = ("plain", *OURS, *PEERS, "finite_differences")


def contender(name: str, problem: Problem) -> Callable[[], Hypergradients]:
    """Return what takes the outer step, as often as it is called.

    Args:
        name: One of `OUTER`.
        problem: The outer step.

    Returns:
        The call; it returns the mean hypergradient of a step of every window (`plain`: nothing).

    Raises:
        ValueError: For a peer that is not installed.
    """
    if reason := absence(name):
        raise ValueError(reason)
    if name in PEERS:
        return lambda: _of_peer(name, problem)
    known = {"plain": plain, "finite_differences": by_differences, **OURS}
    return lambda: known[name](problem)


def gradients_about(name: str, columns: int, horizon: int) -> int:
    """Return what an outer step comes to, very roughly, in gradients.

    Args:
        name: One of `OUTER`.
        columns: `N`.
        horizon: `T`.
    """
    a_step = {"plain": 1, "forward": 1 + columns, "finite_differences": 2 * columns}
    return horizon * a_step.get(name, 4)


def _of_peer(name: str, problem: Problem) -> Hypergradients:
    """The sums over windows that a peer differentiates, by the steps of a window."""
    windows = [problem.window_at(step) for step in range(problem.horizon)]
    like = problem.batches[0][0]
    values = like.new_full((len(problem.schedule.flat),), RATE).requires_grad_()
    batches = [problem.batch_at(step) for step in range(problem.horizon)]
    net = copy.deepcopy(problem.module).train()
    sums = PEERS[name](net, values, windows, MOMENTUM, batches, problem.batch_at(-1))
    return tuple(float(own) / windows.count(window) for window, own in enumerate(sums.tolist()))
