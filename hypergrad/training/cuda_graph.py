"""Steps recorded once as CUDA graphs, and replayed: one launch in place of hundreds.

A step is a function of no arguments that works on tensors which stay where they are, all its
results included; there may be several, each under a key. The first times it is simply called, on a
stream of its own, which warms up what PyTorch sets up lazily; then it is recorded, which executes
nothing, and from then on replayed. So every call is one step, whichever way it goes. On a CPU
there is nothing to gain, but the function that would have been recorded is kept and called again:
what a replay would miss is missed there too.

Recordings share one pool of memory. That is safe in any order, as a step leaves nothing in it.
"""

import warnings
from collections.abc import Callable, Hashable
from typing import Protocol

import torch

from hypergrad.training.host_sync import HostTraffic

__all__ = ["WARM_UP", "Recorder"]

WARM_UP = 3  # calls before a recording; those of PyTorch's own examples

Step = Callable[[], None]


class _Recording(Protocol):
    def replay(self) -> None: ...


class _Call:
    """What stands for a recording on a CPU: the function that would have been recorded."""

    def __init__(self, step: Step) -> None:
        self.replay = step


class Recorder:
    """Calls, records and replays steps.

    Args:
        device: Where the steps compute.
        strict: Refuse a step that cannot be recorded. Otherwise it is called every time, after a
            note.
        note: Is told why, in one line.

    Attributes:
        obstacle: Why nothing is recorded any more; None as long as all goes well.
    """

    def __init__(
        self,
        device: torch.device,
        strict: bool = False,
        note: Callable[[str], None] = warnings.warn,
    ) -> None:
        self.obstacle: str | None = None
        self._device = device
        self._strict = strict
        self._note = note
        self._calls: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording] = {}
        self._cuda = device.type == "cuda"
        # The memory of all recordings, and the stream of all steps that are not replayed.
        self._pool = torch.cuda.graph_pool_handle() if self._cuda else None
        self._stream = torch.cuda.Stream(device) if self._cuda else None

    @property
    def recorded(self) -> int:
        """How many steps are recorded."""
        return len(self._recordings)

    def forget(self) -> None:
        """Drop all recordings, because tensors have moved."""
        self._calls.clear()
        self._recordings.clear()

    def run(self, key: Hashable, step: Step) -> None:
        """Take a step.

        Args:
            key: Names the step: all that is fixed in it, such as its arithmetic.
            step: The same under the same key.

        Raises:
            ValueError: If the step cannot be recorded, and that is asked for.
        """
        if self.obstacle is not None:
            step()
            return
        recording = self._recordings.get(key)
        if recording is None:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls <= WARM_UP:
                self._warm_up(step, watched=calls == 1)
                return
            recording = self._record(step)
            if recording is None:
                step()
                return
            self._recordings[key] = recording
        recording.replay()

    def _warm_up(self, step: Step, watched: bool) -> None:
        """Take the step; the first time, see whether the host has a part in it."""
        if not watched:
            self._call(step)
            return
        with HostTraffic(self._device) as traffic:
            self._call(step)
        if traffic.found:
            names = ", ".join(dict.fromkeys(traffic.found))
            self._give_up(f"it goes through the host ({names})")

    def _call(self, step: Step) -> None:
        if self._stream is None:
            step()
            return
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            step()
        current.wait_stream(self._stream)

    def _record(self, step: Step) -> _Recording | None:
        if not self._cuda:
            return _Call(step)
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(self._device)
        try:
            with torch.cuda.device(self._device):
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    step()
        except RuntimeError as error:
            # A recording that fails at its end leaves its own stream behind as the current one.
            torch.cuda.set_stream(current)
            self._give_up(str(error).partition("\n")[0])
            return None
        return graph

    def _give_up(self, obstacle: str) -> None:
        self.obstacle = obstacle
        self.forget()
        if self._strict:
            raise ValueError(f"replay=always: the inner step cannot be recorded: {obstacle}")
        self._note(f"the inner step is not replayed but called: {obstacle}; replay=never is silent")
