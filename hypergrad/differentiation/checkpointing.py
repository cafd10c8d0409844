"""The states of an inner loop, within a memory budget (square-root checkpointing)."""

import math
from collections.abc import Callable

from hypergrad.core.training_step import InnerState

__all__ = ["Trajectory", "checkpoint_interval", "state_bytes"]


class Trajectory:
    """The state before every inner step, or before every `interval`-th one.

    Args:
        horizon: `T`, inner steps.
        state: Any state of the loop: all have one size.
        memory_gb: Memory for the states, in units of 1e9 bytes.

    Raises:
        ValueError: If that is too little even with checkpoints.

    Attributes:
        interval: Steps between two states that are kept.
    """

    def __init__(self, horizon: int, state: InnerState, memory_gb: float) -> None:
        self.interval = checkpoint_interval(horizon, state_bytes(state), memory_gb)
        self._horizon = horizon
        self._kept: dict[int, InnerState] = {}

    def note(self, step: int, state: InnerState) -> None:
        """Keep the state before 0-based inner step `step`, if it is one to keep."""
        if step % self.interval == 0:
            self._kept[step] = state.copied()

    @property
    def starts(self) -> range:
        """The steps whose states are kept."""
        return range(0, self._horizon, self.interval)

    def states(
        self, start: int, advance: Callable[[int, InnerState], InnerState]
    ) -> list[tuple[int, InnerState]]:
        """Return the states from a kept one up to the next, taking the steps between again.

        Args:
            start: One of `starts`; its state is given away, and not kept any longer.
            advance: Maps a step and the state before it to the one after it.

        Returns:
            Pairs of a step and the state before it, in order.
        """
        state = self._kept.pop(start)
        found = [(start, state)]
        for step in range(start + 1, min(start + self.interval, self._horizon)):
            state = advance(step - 1, state.copied())
            found.append((step, state))
        return found


def checkpoint_interval(horizon: int, size: int, memory_gb: float) -> int:
    """Return the number of steps between two kept states: 1 if all of them fit.

    Args:
        horizon: `T`, inner steps.
        size: Bytes of a state.
        memory_gb: Memory for the states, in units of 1e9 bytes.

    Returns:
        1, or about `sqrt(T)`.

    Raises:
        ValueError: If the memory is too small even so.

    >>> checkpoint_interval(1000, 500_000, memory_gb=2.0)
    1
    >>> checkpoint_interval(1000, 500_000, memory_gb=0.1)
    32
    """
    if horizon * size <= memory_gb * 1e9:
        return 1
    interval = math.isqrt(horizon - 1) + 1
    # Those kept, those of the stretch taken again, and one on its way.
    needed = (-(-horizon // interval) + interval + 1) * size / 1e9
    if needed > memory_gb:
        raise ValueError(
            f"reverse mode through {horizon} steps of a state of {size / 1e6:.3g} MB needs "
            f"{needed:.3g} GB even with checkpoints; memory_gb={memory_gb:g}: raise it, or use "
            "forward mode"
        )
    return interval


def state_bytes(state: InnerState) -> int:
    """Return the memory of one state, in bytes."""
    return sum(tensor.nbytes for tensor in state.tensors())
