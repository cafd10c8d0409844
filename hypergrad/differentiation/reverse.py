"""Reverse-mode hypergradients: one pass back through the whole training run, any number of values.

The training is done first and its states are kept, as many as memory allows (see `checkpointing`);
then adjoints go back through every step (see `reverse_step`), from `P_T = d L_val / d theta_T` and
zero for the optimiser's slots. A coefficient's hypergradient is `sum_t B_ti h_t` over its basis,
here divided as in forward mode.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from hypergrad.core.batches import MicroBatches
from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, InnerOptimizer
from hypergrad.core.schedule import Schedule, contributing_steps
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.checkpointing import (
    CheckpointPlan,
    Trajectory,
    checkpoint_plan,
    state_bytes,
)
from hypergrad.differentiation.loss_check import check_loss
from hypergrad.differentiation.per_step import gather
from hypergrad.differentiation.result import Hypergradients
from hypergrad.differentiation.reverse_step import (
    Graph,
    can_fuse,
    graph_bytes,
    outlives_evaluations,
    taken_step,
)
from hypergrad.differentiation.self_test import self_test
from hypergrad.differentiation.way_back import WayBack

__all__ = ["ReverseOptions", "check_reversible", "graphs_from", "hypergradients"]


@dataclass(frozen=True, kw_only=True)
class ReverseOptions:
    """How hypergradients are computed; exact by default.

    Attributes:
        memory_gb: Memory for the states of the inner loop, in units of 1e9 bytes; of the host, if
            the network is on a GPU.
        keep_graphs: Whether the memory that they leave (not on a GPU) holds the graphs of the last
            steps' gradients, which are made anew on the way back otherwise. The same to the bit.
        truncation: `tau` in [0, 1): the first `floor(tau n)` of a window's `n` steps leave the
            tangents of its hyperparameter alone, as in forward mode. Costs a Hessian product a
            step for each further set of hyperparameters that are frozen at other steps.
        clip_adjoints: What stands in for forward mode's clip of products, which has no equal on the
            way back: adjoints longer than so many times the validation gradient are scaled down
            to that. None is exact.
        validation_chunks: `K`, into how many chunks the validation data is divided. With 2 or
            more, the signal-to-noise of every hypergradient is known, at a Hessian product a
            chunk and step.
        self_test: Whether each problem is tested before its first step, see `self_test`.
    """

    memory_gb: float = 2.0
    validation_chunks: int = 1
    truncation: float = 0.0
    clip_adjoints: float | None = None
    keep_graphs: bool = True
    self_test: bool = True

    def __post_init__(self) -> None:
        if not self.memory_gb > 0:
            raise ValueError(f"memory_gb={self.memory_gb} must be above zero")
        if self.validation_chunks < 1:
            raise ValueError(f"validation_chunks={self.validation_chunks} must be at least 1")
        if not 0 <= self.truncation < 1:
            raise ValueError(f"truncation={self.truncation} must be in [0, 1); 0 is exact")
        if self.clip_adjoints is not None and not self.clip_adjoints > 0:
            raise ValueError(f"clip_adjoints={self.clip_adjoints} must be above zero; None is none")


def check_reversible(
    model: FlatModel,
    theta: Tensor,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    options: ReverseOptions | None = None,
) -> None:
    """Refuse a problem whose training steps cannot be taken again and differentiated.

    Args:
        model: The network.
        theta: `(D,)` initial parameters.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: The values.
        options: Say whether the problem is tested; not unless they are given.

    Raises:
        ValueError: For random numbers, which would be others; for whatever `check_loss` and
            `self_test` refuse.
    """
    values = check_loss(model, optimizer, schedule, theta, batch)
    if source := model.random_source(batch, values):
        raise ValueError(
            f"{source} draws random numbers, and reverse mode would draw others on the way back: "
            "use forward mode with strategy='loop'"
        )
    if options is not None and options.self_test:
        self_test(model, theta, batch, optimizer, schedule, None)


def graphs_from(
    model: FlatModel,
    state: InnerState,
    batch: Batch,
    optimizer: BoundOptimizer,
    schedule: Schedule,
    horizon: int,
    plan: CheckpointPlan,
    options: ReverseOptions,
    fused: bool,
) -> int:
    """Return the first step whose graph is kept, with all after it: as many as memory holds.

    Args:
        model: The network and its loss.
        state: The inner loop's start.
        batch: A minibatch of the training.
        optimizer: The inner optimiser.
        schedule: The values.
        horizon: `T`, inner steps.
        plan: The states' share of the memory.
        options: How much there is.
        fused: Whether gradients are taken as `fused` does.

    Returns:
        `horizon` for none: on a GPU, where a graph does not outlive other evaluations, for
        gradients accumulated over several batches, while no parameter can move, and where not all
        states fit.
    """
    impossible = state.theta.is_cuda or isinstance(batch, MicroBatches) or plan.retaken
    if not options.keep_graphs or impossible or not optimizer.can_move(schedule):
        return horizon
    values = optimizer.step_values(optimizer.given(schedule, 0, horizon), state.theta)
    given = model, state, batch, optimizer, values
    if not outlives_evaluations(*given, fused=fused):
        return horizon
    size = graph_bytes(*given, fused=fused)
    count = int((options.memory_gb * 1e9 - plan.bytes) / max(size, 1))
    return horizon - min(count, horizon)


def hypergradients(
    model: FlatModel,
    theta: Tensor,
    batch_at: Callable[[int], Batch],
    validation: Iterable[Batch],
    schedule: Schedule,
    horizon: int,
    options: ReverseOptions = ReverseOptions(),  # noqa: B008 (frozen)
    optimizer: InnerOptimizer = InnerOptimizer(),  # noqa: B008 (frozen)
) -> Hypergradients:
    """Train for `horizon` steps and return the hypergradient of every coefficient of the schedule.

    The same as `forward.hypergradients`, in one backward pass: any number of values costs the same,
    `N = T` included, and memory grows with the horizon.

    Args:
        model: The network and its loss.
        theta: `(D,)` initial parameters.
        batch_at: Maps a 0-based inner step to its minibatch, the same one every time.
        validation: Batches of validation data.
        schedule: The values in use.
        horizon: `T`, inner steps.
        options: Memory; truncation.
        optimizer: The inner optimiser; SGD unless given.

    Returns:
        Hypergradients, contributing steps, and the final inner state.

    Raises:
        ValueError: If a hyperparameter has more coefficients than there are steps, for random
            numbers, if the memory is too small even with checkpoints, or the schedule does not fit
            the optimiser.
    """
    contributing_steps(schedule.bases, horizon, options.truncation)
    bound = optimizer.bind(model, schedule)
    check_reversible(model, theta, batch_at(0), bound, schedule, options)
    state = InnerState.start(theta, len(bound.rule.slots), model.buffers())
    plan = checkpoint_plan(horizon, state_bytes(state), options.memory_gb)
    trajectory = Trajectory(horizon, plan.states)
    values = bound.step_values(bound.given(schedule, 0, horizon), theta)
    fused = can_fuse(model, theta, batch_at(0), bound.named(values.loss))
    first = graphs_from(model, state, batch_at(0), bound, schedule, horizon, plan, options, fused)
    graphs: dict[int, Graph] = {}
    for step in range(horizon):
        trajectory.note(step, state)
        values = bound.step_values(bound.given(schedule, step, horizon), theta)
        given = model, state, batch_at(step), bound, values, step
        taken = taken_step(*given, fused=fused, keep_graph=step >= first)
        state = taken.state
        if taken.graph is not None:
            graphs[step] = taken.graph
    given = model, trajectory, state, batch_at, list(validation), bound, schedule, horizon
    back = WayBack(
        *given,
        fused=fused,
        graphs=graphs,
        validation_chunks=options.validation_chunks,
        truncation=options.truncation,
        clip_adjoints=options.clip_adjoints,
    )
    while not back.done:
        back.advance()
    return gather(back.per_step(), schedule, state, options.truncation)
