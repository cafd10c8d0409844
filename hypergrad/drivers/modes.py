"""Which mode suits a run: the faster one on its network, where that is possible and fits memory."""

from dataclasses import replace
from typing import NamedTuple

from hypergrad.config.schema import RunConfig
from hypergrad.core.functional_model import FlatModel
from hypergrad.data import Dataset
from hypergrad.drivers.inner_optimizer import columns_at, inner_optimizer
from hypergrad.drivers.probe import Probe, horizon_of, probe, states

__all__ = ["ModeCost", "mode_costs", "with_mode"]


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

    Args:
        config: The run's configuration.
        data: The images.
        model: The network.
        found: What steps take.
        memory_gb: For the states of reverse mode; what is configured unless given.
    """
    n_train, theta = len(data.train), model.theta()
    slots, horizon = len(inner_optimizer(config).rule.slots), horizon_of(config, n_train)
    count = sum(columns_at(config, max(horizon, 1)))
    # Tangents of weights and slots before and after a step, and the products.
    tangents = (2 * (1 + slots) + 1) * count * theta.nbytes
    note = f"{count} tangents, whatever the horizon"
    costs: dict[str, ModeCost | str] = {
        "forward": ModeCost(max(found.steps.forward, found.steps.train), tangents, note)
    }
    if config.method.name == "unshared":
        costs["forward"] = "it would need a tangent for every inner step"
    try:
        kept = states(config, n_train, model, memory_gb or config.reverse.memory_gb)
        again = kept.retaken / max(horizon, 1)
        note = f"all {horizon:,} states"
        if kept.retaken:
            note = f"{kept.states} states, {again:.2f} steps taken again for each"
        costs["reverse"] = ModeCost(found.steps.reverse(again), kept.bytes, note)
    except ValueError as error:
        costs["reverse"] = str(error)
    if config.method.clip_products is not None:
        costs["reverse"] = "c_HZ (method.clip_products) has no equal on the way back"
    elif config.hvp.precision is not None:
        costs["reverse"] = f"its products are exact (hvp.precision={config.hvp.precision})"
    return costs


def with_mode(
    config: RunConfig, data: Dataset, model: FlatModel, source: str | None
) -> tuple[RunConfig, str]:
    """Return the configuration with a mode in place of `auto`, and why, in a line.

    Args:
        config: The run's configuration, with `method.mode=auto`.
        data: The images.
        model: The network.
        source: What in it draws random numbers, or None.
    """
    forward, reverse = mode_costs(config, data, model, probe(config, data, model)).values()
    if source is not None:
        reverse = f"{source} draws random numbers, which would be others on the way back"
    if isinstance(reverse, str):
        mode, why = "forward", reverse
    elif isinstance(forward, str):
        mode, why = "reverse", forward
    else:
        mode = "forward" if forward.seconds <= reverse.seconds else "reverse"
        why = (
            f"a step takes {forward.seconds * 1e3:.3g} ms forward, {reverse.seconds * 1e3:.3g} ms "
            f"in reverse, with {reverse.bytes / 1e6:,.0f} MB of states"
        )
    method = replace(config.method, mode=mode)
    return replace(config, method=method), f"method.mode={mode}: {why}"
