"""Which mode suits a run: the faster one on its network, where that is possible and fits memory."""

from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import InnerState
from hypergrad.data import Dataset
from hypergrad.differentiation.checkpointing import CheckpointPlan
from hypergrad.differentiation.recursion import tangent_bytes
from hypergrad.differentiation.reverse import ReverseOptions, graphs_from
from hypergrad.differentiation.reverse_step import can_fuse, graph_bytes
from hypergrad.drivers.inner_optimizer import columns_at, inner_optimizer
from hypergrad.drivers.probe import Probe, horizon_of, probe, states

__all__ = ["ModeCost", "mode_costs", "with_mode"]

CLEARLY = 0.9  # of forward mode's time: what is nearer may be the noise of a probe
MOVING = 1e-3  # in place of a value at zero: any at which parameters move


class ModeCost(NamedTuple):
    """What a mode takes on this machine.

    Attributes:
        seconds: An inner step, there and back.
        bytes: Memory on top of a plain training's.
        note: What that memory is, for people.
    """

    seconds: float
    bytes: int
    note: str


def mode_costs(
    config: RunConfig, data: Dataset, model: FlatModel, found: Probe, memory_gb: float | None = None
) -> dict[str, ModeCost | str]:
    """Return what `forward` and `reverse` mode take; for one that cannot be had, why.

    Reverse mode keeps states, and graphs in the memory that they leave; both count.

    Args:
        config: The run's configuration.
        data: The images.
        model: The network.
        found: What steps take.
        memory_gb: For what reverse mode keeps; what is configured unless given.
    """
    n_train, theta = len(data.train), model.theta()
    slots, horizon = len(inner_optimizer(config).rule.slots), horizon_of(config, n_train)
    count = sum(columns_at(config, max(horizon, 1)))
    tangents = count * tangent_bytes(theta.nbytes, slots)
    note = f"{count} tangents, whatever the horizon"
    costs: dict[str, ModeCost | str] = {
        "forward": ModeCost(max(found.steps.forward, found.steps.train), tangents, note)
    }
    if config.method.name == "unshared":
        costs["forward"] = "it would need a tangent for every inner step"
    costs["reverse"] = _irreversible(config, data, model) or _reverse_cost(
        config, data, model, found, memory_gb or config.reverse.memory_gb
    )
    return costs


def _irreversible(config: RunConfig, data: Dataset, model: FlatModel) -> str:
    """Why reverse mode cannot be had whatever its memory; empty if it can."""
    if config.method.clip_products is not None:
        return "c_HZ (method.clip_products) has no equal on the way back"
    if config.hvp.precision is not None:
        return f"its products are exact (hvp.precision={config.hvp.precision})"
    optimizer = inner_optimizer(config)
    schedule = optimizer.start()
    bound = optimizer.bind(model, schedule)
    values = bound.step_values(bound.given(schedule, 0, 1000), model.theta())
    if source := model.random_source(_batch(config, data), bound.named(values.loss)):
        return f"{source} draws random numbers, which would be others on the way back"
    return ""


def _reverse_cost(
    config: RunConfig, data: Dataset, model: FlatModel, found: Probe, memory_gb: float
) -> ModeCost | str:
    """What reverse mode takes in so much memory; for too little of it, why."""
    horizon = max(horizon_of(config, len(data.train)), 1)
    try:
        kept = states(config, len(data.train), model, memory_gb)
    except ValueError as error:
        return str(error)
    again = kept.retaken / horizon
    if kept.retaken:
        note = f"{kept.states} states, {again:.2f} steps taken again for each"
        return ModeCost(found.steps.reverse(again), kept.bytes, note)
    graphs, size = _kept_graphs(config, data, model, kept, memory_gb)
    note = f"all {horizon:,} states" + (f", {graphs:,} graphs" if graphs else "")
    seconds = found.steps.reverse(again, graphs / horizon)
    return ModeCost(seconds, kept.bytes + graphs * size, note)


def _kept_graphs(
    config: RunConfig, data: Dataset, model: FlatModel, kept: CheckpointPlan, memory_gb: float
) -> tuple[int, int]:
    """How many graphs are kept in the memory that the states leave, once parameters move; bytes."""
    optimizer = inner_optimizer(config)
    start = optimizer.start()
    schedule = Schedule.from_flat([value or MOVING for value in start.flat], start.bases)
    bound = optimizer.bind(model, schedule)
    horizon, batch = max(horizon_of(config, len(data.train)), 1), _batch(config, data)
    theta, buffers = model.theta(), model.buffers()
    state = InnerState.start(theta, len(bound.rule.slots), buffers)
    values = bound.step_values(bound.given(schedule, 0, horizon), theta)
    fused = can_fuse(model, theta, batch, bound.named(values.loss))
    options = ReverseOptions(memory_gb=memory_gb, keep_graphs=config.reverse.keep_graphs)
    first = graphs_from(model, state, batch, bound, schedule, horizon, kept, options, fused)
    if first == horizon:
        return 0, 0
    size = graph_bytes(model, state, batch, bound, values, fused=fused)
    return horizon - first, size


def _batch(config: RunConfig, data: Dataset) -> tuple[Tensor, Tensor]:
    """A minibatch in memory of its own, as in a run: a view would keep all images."""
    size = config.method.batch_size
    return data.train.images[:size].clone(), data.train.labels[:size].clone()


def with_mode(config: RunConfig, data: Dataset, model: FlatModel) -> tuple[RunConfig, str]:
    """Return the configuration with a mode in place of `auto`, and why, in a line.

    Forward mode, unless reverse mode is clearly faster: it tells more of how far to trust what it
    finds, and what a probe measures is noisy.

    Args:
        config: The run's configuration, with `method.mode=auto`.
        data: The images.
        model: The network.
    """
    forward, reverse = mode_costs(config, data, model, probe(config, data, model)).values()
    if isinstance(reverse, str):
        mode, why = "forward", reverse
    elif isinstance(forward, str):
        mode, why = "reverse", forward
    else:
        mode = "reverse" if reverse.seconds < CLEARLY * forward.seconds else "forward"
        why = (
            f"a step takes {forward.seconds * 1e3:.3g} ms forward, {reverse.seconds * 1e3:.3g} ms "
            f"in reverse, with {reverse.bytes / 1e6:,.0f} MB ({reverse.note})"
        )
    method = replace(config.method, mode=mode)
    return replace(config, method=method), f"method.mode={mode}: {why}"
