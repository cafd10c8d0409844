"""One inner run in a process of its own, and the most memory that it ever held.

`python -m benchmarks.peak` prints JSON; the benchmark `memory` starts it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.contenders import schedule_of
from benchmarks.record import apply_settings
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.seeding import generator
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.checkpointing import state_bytes
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.models import build

__all__ = ["MODELS", "MODES", "main"]

CLIP = 3.0


class Small(NamedTuple):
    """A network whose ten thousand steps take a minute: memory does not depend on its size alone.

    Attributes:
        name: For `models.build`.
        shape: (channels, height, width) of an image.
        batch_size: Examples.
        strategy: How forward mode computes Hessian products.
    """

    name: str
    shape: tuple[int, int, int]
    batch_size: int
    strategy: str


MODELS = {
    "mlp": Small("mlp", (1, 8, 8), 32, "stacked"),
    "lenet": Small("lenet", (1, 28, 28), 8, "stacked"),
}
MODES = ("forward", "reverse", "checkpointed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one inner run and print what it took.

    The JSON has, in bytes: `peak`; `before`, when all was ready to begin; `state`, weights and
    velocity of one step.

    Args:
        arguments: As of the command line; None takes those.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.peak", description=__doc__)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("model", choices=list(MODELS))
    parser.add_argument("horizon", type=int, help="T, inner steps")
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args(arguments)
    apply_settings(given)
    case, device = MODELS[given.model], torch.device(given.device)
    model = FlatModel(build(case.name, case.shape, 10).to(device))
    theta = model.theta()
    size = state_bytes(InnerState.start(theta, 1, model.buffers()))

    def batch_at(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        stream = generator("peak", step)
        x = torch.randn(case.batch_size, *case.shape, generator=stream)
        return x.to(device), (torch.arange(case.batch_size) % 10).to(device)

    run = model, theta, batch_at, [batch_at(-1)], schedule_of(given.columns), given.horizon
    optimizer = InnerOptimizer(transform=ElementwiseClip(CLIP))
    before = _now(device)
    if given.mode == "forward":
        options = ForwardOptions(strategy=case.strategy)
        forward.hypergradients(*run, options, optimizer=optimizer)
    else:
        # All states and a little over, or a little too little for all of them.
        share = 1.01 if given.mode == "reverse" else 0.99
        budget = share * given.horizon * size / 1e9
        reverse.hypergradients(*run, reverse.ReverseOptions(memory_gb=budget), optimizer)
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
