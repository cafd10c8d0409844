"""The states of a training run, last one first, within a memory budget.

With room for all of them every state is kept. With room for `s`, a few are, and the steps between
are taken again; where a stretch has been gone through its room is used for the next one. Which
states to keep so that the fewest steps are taken again is known (Griewank and Walther, "Algorithm
799: revolve", 2000): `s` states and one in work, each step taken `r` times at most, suffice for

    beta(s, r) = (s + r)! / (s! r!)

steps. About `sqrt(2 T)` states take each step twice.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.training_step import InnerState

__all__ = ["CheckpointPlan", "Trajectory", "checkpoint_plan", "state_bytes"]

IN_WORK = 2  # states beside those kept: one before a step and one after it
REPEATS = 5  # times that a step is taken at most


class CheckpointPlan(NamedTuple):
    """How a training run's states fit a memory budget.

    Attributes:
        states: `s`, kept at once at most.
        retaken: Inner steps taken again on the way back.
        bytes: Memory of all states, those in work among them.
    """

    states: int
    retaken: int
    bytes: int


class Trajectory:
    """The states before the inner steps of a run, to be asked for from the last to the first.

    Of a run on a GPU they are kept in the host's memory, pinned.

    Args:
        horizon: `T`, inner steps.
        states: How many are kept at once, see `checkpoint_plan`.
    """

    def __init__(self, horizon: int, states: int) -> None:
        self._horizon, self._states = horizon, states
        self._kept: list[tuple[int, InnerState]] = []
        self._device: torch.device | None = None

    @property
    def kept(self) -> list[int]:
        """The steps whose states are kept, in order."""
        return [step for step, _ in self._kept]

    def note(self, step: int, state: InnerState) -> None:
        """Keep the state before 0-based inner step `step`, if it is one to keep."""
        if self._is_due(step):
            self._keep(step, state)

    def before(self, step: int, advance: Callable[[int, InnerState], InnerState]) -> InnerState:
        """Return the state before a step; it and all that follow are not kept any longer.

        Args:
            step: 0-based: the last one, or the one before that asked for last.
            advance: Maps a step and the state before it, which it may change, to the one after it.
        """
        while True:
            start, state = self._kept[-1]
            if start == step:
                self._kept.pop()
                return self._brought(state)
            room = self._states - len(self._kept) + 1
            middle = step if room == 1 else start + _split(step + 1 - start, room)
            state = self._brought(state).copied()
            for between in range(start, middle):
                state = advance(between, state)
            if room == 1:
                return state
            self._keep(middle, state)

    def snapshot(self) -> tuple[dict[str, Tensor], list[int]]:
        """Return what `restore` needs: stacked tensors, and their steps.

        No more than about `sqrt(T)` states, so that it can be written now and then; after
        `restore` the steps between are taken again.
        """
        gap = max(1, math.isqrt(self._horizon))
        chosen: list[tuple[int, InnerState]] = []
        for step, state in self._kept:
            if not chosen or step - chosen[-1][0] >= gap:
                chosen.append((step, state))
        if not chosen:
            return {}, []
        if self._device is not None and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # the copies to the host have arrived
        states = [state for _, state in chosen]
        slots = range(len(states[0].slots))
        tensors = {"theta": torch.stack([state.theta for state in states])}
        tensors |= {f"slot.{i}": torch.stack([state.slots[i] for state in states]) for i in slots}
        for name in states[0].buffers:
            tensors[f"buffer.{name}"] = torch.stack([state.buffers[name] for state in states])
        return tensors, [step for step, _ in chosen]

    def restore(
        self, tensors: Mapping[str, Tensor], steps: Sequence[int], like: InnerState
    ) -> None:
        """Continue with the states of a snapshot.

        Args:
            tensors: As `snapshot` returned them.
            steps: Likewise.
            like: Any state of the run, for its device.
        """
        self._kept.clear()
        for place, step in enumerate(steps):
            slots = tuple(tensors[f"slot.{i}"][place] for i in range(len(like.slots)))
            buffers = {name: tensors[f"buffer.{name}"][place] for name in like.buffers}
            state = InnerState(tensors["theta"][place], slots, buffers)
            self._keep(step, _mapped(state, lambda t: t.to(like.theta.device, copy=True)))

    def _is_due(self, step: int) -> bool:
        if not self._kept:
            return True
        start, room = self._kept[-1][0], self._states - len(self._kept) + 1
        left = self._horizon - start
        return room > 1 and left > 1 and step >= start + _split(left, room)

    def _keep(self, step: int, state: InnerState) -> None:
        self._device = state.theta.device
        kept = _mapped(state, _to_host) if state.theta.is_cuda else state.copied()
        self._kept.append((step, kept))

    def _brought(self, state: InnerState) -> InnerState:
        device = self._device
        assert device is not None
        if device.type == "cpu":
            return state
        return _mapped(state, lambda tensor: tensor.to(device, non_blocking=True))


def checkpoint_plan(horizon: int, size: int, memory_gb: float) -> CheckpointPlan:
    """Return how many states to keep.

    Args:
        horizon: `T`, inner steps.
        size: Bytes of a state.
        memory_gb: Memory for the states, in units of 1e9 bytes.

    Returns:
        All of them if they fit, as many as do otherwise.

    Raises:
        ValueError: If a step would have to be taken more than five times.

    >>> checkpoint_plan(1000, 500_000, memory_gb=2.0)
    CheckpointPlan(states=1000, retaken=0, bytes=501000000)
    >>> checkpoint_plan(1000, 500_000, memory_gb=0.025)
    CheckpointPlan(states=48, retaken=952, bytes=25000000)
    """
    states = min(int(memory_gb * 1e9 / max(size, 1)) - IN_WORK, horizon)
    if states < 1 or _beta(states, REPEATS) < horizon:
        least = next(s for s in range(1, horizon + 1) if _beta(s, REPEATS) >= horizon) + IN_WORK
        raise ValueError(
            f"reverse mode through {horizon} steps of a state of {size / 1e6:.3g} MB needs "
            f"{math.ceil(least * size / 1e5) / 1e4:.3g} GB even with checkpoints; "
            f"memory_gb={memory_gb:g}: raise it, or use forward mode"
        )
    return CheckpointPlan(states, _retaken(horizon, states), (states + IN_WORK) * size)


def state_bytes(state: InnerState) -> int:
    """Return the memory of one state, in bytes."""
    return sum(tensor.nbytes for tensor in state.tensors())


def _beta(states: int, repeats: int) -> int:
    """The most steps that can be gone back through."""
    return math.comb(states + repeats, states) if repeats >= 0 else 0


def _repeats(length: int, states: int) -> int:
    repeats = 0
    while _beta(states, repeats) < length:
        repeats += 1
    return repeats


def _split(length: int, states: int) -> int:
    """Steps from the start of a stretch to the next state to keep, of those that are optimal."""
    r = _repeats(length, states)
    return max(1, min(_beta(states, r - 1), length - _beta(states - 1, r - 1)))


def _retaken(horizon: int, states: int) -> int:
    """Steps taken again: all on the way back, less those that the training itself has taken."""
    r = _repeats(horizon, states)
    taken = r * horizon - _beta(states + 1, r - 1)
    last, room = 0, states
    while room > 1 and horizon - last > 1:
        last, room = last + _split(horizon - last, room), room - 1
    return taken - last


def _mapped(state: InnerState, change: Callable[[Tensor], Tensor]) -> InnerState:
    buffers = {name: change(buffer) for name, buffer in state.buffers.items()}
    return InnerState(change(state.theta), tuple(map(change, state.slots)), buffers)


def _to_host(tensor: Tensor) -> Tensor:
    home = torch.empty_like(tensor, device="cpu", pin_memory=True)
    return home.copy_(tensor, non_blocking=True)
