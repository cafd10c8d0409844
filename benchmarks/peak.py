"""One outer step in a process of its own, and the most memory that it ever held.

`python -m benchmarks.peak` prints JSON; the benchmark `memory` starts it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.contenders import CASES
from benchmarks.outer_contenders import OUTER, contender, outer_problem
from benchmarks.record import apply_settings
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.checkpointing import state_bytes

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Take one outer step and print what it took.

    The JSON has, in bytes: `peak`; `before`, when all was ready to begin; `state`, weights and
    velocity of one step.

    Args:
        arguments: As of the command line; None takes those.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.peak", description=__doc__)
    parser.add_argument("mode", choices=OUTER)
    parser.add_argument("model", choices=list(CASES))
    parser.add_argument("horizon", type=int, help="T, inner steps")
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args(arguments)
    apply_settings(given)
    device = torch.device(given.device)
    problem = outer_problem(CASES[given.model], given.columns, given.horizon, given.device)
    model = problem.model
    size = state_bytes(InnerState.start(model.theta(), 1, model.buffers()))
    take = contender(given.mode, problem)  # imports the peer: its libraries are not the step's
    before = _now(device)
    take()
    print(json.dumps({"peak": _peak(device), "before": before, "state": size}))


def _now(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _peak(device: torch.device) -> int:
    """The most memory so far.

    On a CPU from /proc: the kernel's `ru_maxrss` goes on from the process that started this one.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    main()
