"""What to do where memory does not suffice: what is known of the need, and what would fit.

A note on the exception, in the library's words; the command line shows it in place of the error.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from hypergrad.core.limits import is_out_of_memory
from hypergrad.core.schedule import Schedule
from hypergrad.differentiation.recursion import tangent_bytes
from hypergrad.training.inner_problem import InnerProblem

__all__ = ["NOTE", "MemoryNeed", "explain", "explaining", "memory_of"]

NOTE = "out of memory"  # how the note begins
SPARE = 0.8  # share of all memory that tangents or states may take: activations need the rest


class MemoryNeed(NamedTuple):
    """What finding hypergradients keeps, beside the network's activations.

    Attributes:
        device: Where.
        values: `N`, coefficients that are learned.
        slots: State tensors of the optimiser, each of the weights' size.
        weights: Bytes of the weights.
        state: Bytes of weights, slots and buffers.
        horizon: `T`, inner steps.
        reverse: Whether in reverse mode.
    """

    device: torch.device
    values: int
    slots: int
    weights: int
    state: int
    horizon: int
    reverse: bool

    @classmethod
    def of(
        cls, problem: InnerProblem, schedule: Schedule, *, reverse: bool = False
    ) -> "MemoryNeed":
        """Return the need of an outer step."""
        theta, slots = problem.theta, len(problem.optimizer.rule.slots)
        buffers = sum(buffer.nbytes for buffer in problem.model.buffers().values())
        state = (1 + slots) * theta.nbytes + buffers
        count = len(schedule.flat)
        return cls(theta.device, count, slots, theta.nbytes, state, problem.horizon, reverse)

    @property
    def per_value(self) -> int:
        """Bytes of a tangent of weights and slots, before and after a step, and a product."""
        return tangent_bytes(self.weights, self.slots)

    @property
    def few_states(self) -> int:
        """Bytes of the states of reverse mode if each step is taken twice."""
        return math.ceil(math.sqrt(2 * self.horizon) + 3) * self.state


@contextlib.contextmanager
def explaining(need: Callable[[], MemoryNeed]) -> Iterator[None]:
    """Let an error for want of memory that leaves this block say what would fit."""
    try:
        yield
    except Exception as error:
        explain(error, need)
        raise


def explain(error: BaseException, need: Callable[[], MemoryNeed | None] = lambda: None) -> None:
    """Add the note to an error for want of memory that has none yet; any other stays as it is.

    Args:
        error: Anything.
        need: Gives what is known of the need; None where it is not for hypergradients.
    """
    noted = any(note.startswith(NOTE) for note in getattr(error, "__notes__", ()))
    if is_out_of_memory(error) and not noted:
        error.add_note(_advice(need(), error))


def _advice(need: MemoryNeed | None, error: BaseException) -> str:
    smaller = "smaller batches (batch_size) or a smaller network"
    if need is None:
        where = torch.device("cuda" if "cuda" in str(error).lower() else "cpu")
        return f"{_opening(where, error)}: {smaller} would need less"
    remedies = [*_remedies(need, memory_of(need.device)), smaller]
    return f"{_opening(need.device, error)}: {'; '.join(remedies)}"


def _opening(device: torch.device, error: BaseException) -> str:
    most, asked = memory_of(device), _asked(str(error))
    facts = [] if most is None else [f"{_size(most)} in all"]
    facts += [] if asked is None else [f"{_size(asked)} more asked for"]
    return f"{NOTE} on {device}" + (f" ({', '.join(facts)})" if facts else "")


def _remedies(need: MemoryNeed, most: int | None) -> Iterator[str]:
    """What would need less, the largest saving first."""
    tangents, states = need.values * need.per_value, need.few_states
    states_gb = f"{max(states / 1e9, 1e-3):.2g}"
    if need.reverse:
        yield (
            f"reverse mode needs {_size(states)} for its states if it takes each step twice: "
            f"memory_gb={states_gb} with keep_graphs=False"
        )
        yield "validation_chunks=1 needs one adjoint"
        if tangents < states:
            yield f"forward mode keeps {_size(tangents)} for {_count(need.values)}"
        return
    yield f"forward mode keeps {_size(tangents)} of tangents for {_count(need.values)}"
    if most is not None and tangents > SPARE * most:
        fit = int(SPARE * most / need.per_value)
        if fit:
            yield f"{_count(fit)} would fit: take fewer windows"
    if states < tangents:
        yield f"use reverse mode, whose states fit {_size(states)}: memory_gb={states_gb}"
    if need.values > 1:
        yield "strategy='loop' takes one product at a time"


def memory_of(device: torch.device) -> int | None:
    """Return the bytes that a process may have on a device, or None where that is not known.

    Of a CPU, the least of what the machine has, what its container or job may take, and what
    `ulimit -v` leaves to the process.
    """
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return None
        return torch.cuda.get_device_properties(device).total_memory
    if device.type != "cpu":
        return None
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    # None of these three is everywhere: Windows has no sysconf and no resource, macOS no cgroups.
    with contextlib.suppress(AttributeError, ValueError, OSError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            yield limit
    with contextlib.suppress(ValueError, OSError):  # "max" is no number
        yield int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii"))


_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def _asked(text: str) -> int | None:
    """How many bytes an allocator was asked for.

    >>> _asked("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    2147483648
    >>> _asked("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes.")
    4000
    """
    found = re.search(r"allocate ([\d.]+) (bytes|[KMGT]iB)", text)
    return None if found is None else int(float(found[1]) * _UNITS[found[2]])


def _size(count: float) -> str:
    """Bytes for people.

    >>> _size(2.5e9), _size(3e6), _size(100)
    ('2.5 GB', '3 MB', '0.0001 MB')
    """
    return f"{count / 1e9:,.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _count(values: int) -> str:
    return f"{values:,} value{'s' if values != 1 else ''}"
