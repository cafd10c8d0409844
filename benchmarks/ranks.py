"""`torchrun --nproc-per-node 2 -m benchmarks.ranks`: forward mode on ranks, or reverse mode on one?

Each round takes whole inner runs, one after the other: in forward mode on one rank and shared among
the ranks, in reverse mode on one rank, with the states of all steps kept and with those of every
`sqrt(T)`-th. Each process has one thread. While rank 0 computes alone, the others wait for its
word. Beside wall time stands the processor time of the busiest rank, which a machine that others
use disturbs less.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CASES, schedule_of
from benchmarks.record import at_least, write_provenance
from benchmarks.timing import summarise
from hypergrad.cli.malloc import keep_freed_memory
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation import forward, reverse
from hypergrad.differentiation.checkpointing import state_bytes
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.reverse import ReverseOptions
from hypergrad.models import build
from hypergrad.parallel.ranks import ALONE, Ranks, join_ranks
from hypergrad.runs.run_log import CsvLog

__all__ = ["main"]

COLUMNS = ("model", "batch_size", "columns", "steps", "contender", "round", "seconds", "busiest")
Times = list[tuple[float, float]]
STRATEGIES = {"lenet": "stacked", "wrn_16_1": "fused"}  # as in conf/model
LIMIT, MINIBATCHES = 3.0, 8
REFERENCE = "reverse, 1 rank, all states"


def main(arguments: Sequence[str] | None = None) -> None:
    """Time what is asked for; rank 0 prints a table and writes a CSV.

    Args:
        arguments: As of the command line; None takes those.
    """
    given = _parse(arguments)
    ranks = join_ranks()
    if ranks.size == 1:
        raise SystemExit(
            "start it on several ranks: torchrun --nproc-per-node 2 -m benchmarks.ranks"
        )
    keep_freed_memory()
    torch.set_num_threads(1)
    found = _measure(_inner_runs(given.model, given.columns, given.steps, ranks), ranks, given)
    if ranks.rank == 0:
        _report(found, ranks, given)
    ranks.leave()


def _inner_runs(
    name: str, columns: int, horizon: int, ranks: Ranks
) -> dict[str, Callable[[], object]]:
    """Whole inner runs with their hypergradients, by contender."""
    torch.manual_seed(0)
    case = CASES[name]
    model = FlatModel(build(case.name, case.shape, 10))
    labels = torch.arange(case.batch_size) % 10
    batches = [(torch.randn(case.batch_size, *case.shape), labels) for _ in range(MINIBATCHES)]
    size = state_bytes(InnerState.start(model.theta(), 1, model.buffers()))
    few = (horizon - 1) * size / 1e9  # room for all states but one
    optimizer = InnerOptimizer(transform=ElementwiseClip(LIMIT))
    given = (
        model,
        model.theta(),
        lambda step: batches[step % MINIBATCHES],
        batches[:1],
        schedule_of(columns),
        horizon,
    )

    def in_forward(who: Ranks) -> None:
        options = ForwardOptions(strategy=STRATEGIES[name], self_test=False)
        forward.hypergradients(*given, options, who, optimizer)

    def in_reverse(memory: float) -> None:
        if ranks.rank == 0:
            options = ReverseOptions(memory_gb=memory, self_test=False)
            reverse.hypergradients(*given, options, optimizer)

    return {
        "forward, 1 rank": lambda: in_forward(ALONE) if ranks.rank == 0 else None,
        f"forward, {ranks.size} ranks": lambda: in_forward(ranks),
        REFERENCE: lambda: in_reverse(2.0),
        "reverse, 1 rank, checkpoints": lambda: in_reverse(few),
    }


def _measure(
    contenders: dict[str, Callable[[], object]], ranks: Ranks, given: argparse.Namespace
) -> dict[str, Times]:
    """Seconds a step, wall and of the busiest processor, of each contender in each round."""
    seconds: dict[str, Times] = {name: [] for name in contenders}
    for number in range(given.rounds + 1):
        for name, call in contenders.items():
            ranks.collect([])
            began, busy = time.perf_counter(), time.process_time()
            call()
            busiest = max(ranks.collect([time.process_time() - busy]))  # waits for the last one
            wall = time.perf_counter() - began
            if number:  # the first round warms up
                seconds[name].append((wall / given.steps, busiest / given.steps))
    return seconds


def _report(seconds: dict[str, Times], ranks: Ranks, given: argparse.Namespace) -> None:
    given.output.mkdir(parents=True, exist_ok=True)
    write_provenance(given.output, "cpu", [0], sys.argv, ranks=ranks.size)
    log = CsvLog(given.output / "seconds.csv", COLUMNS)
    fixed = {
        "model": given.model,
        "batch_size": CASES[given.model].batch_size,
        "columns": given.columns,
        "steps": given.steps,
    }
    log.append(
        {**fixed, "contender": contender, "round": number, "seconds": took, "busiest": busy}
        for contender, times in seconds.items()
        for number, (took, busy) in enumerate(times)
    )
    log.close()
    heads = "contender", "wall ms", "spread", "by reverse", "busiest ms", "spread", "by reverse"
    table = Table(*heads, title=f"{given.model}, N = {given.columns}, a step of {given.steps}")
    for contender in seconds:
        cells = []
        for which in (0, 1):
            own, reference = ([pair[which] for pair in seconds[n]] for n in (contender, REFERENCE))
            timed = summarise(own, reference)
            cells += [f"{1e3 * timed.seconds:.2f}", f"{100 * timed.spread:.0f} %"]
            cells.append(f"{1 / timed.gain:.2f}")
        table.add_row(contender, *cells)
    Console(width=120).print(table)
    print(f"written: {log.path}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.ranks", description=__doc__)
    add = parser.add_argument
    add("--model", default="lenet", choices=list(STRATEGIES))
    add("--columns", type=at_least(3), default=7, help="values, at least 3")
    add("--steps", type=at_least(3), default=64, help="inner steps of a run, at least the values")
    add("--rounds", type=at_least(2), default=9, help="timed rounds, at least 2")
    add("--output", type=Path, default=Path("outputs/bench_ranks"), help="folder of the CSV")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
