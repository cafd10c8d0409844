"""`torchrun --nproc-per-node 2 -m benchmarks.ranks`: do ranks gain more than as many threads?

Each round takes, one after the other: the step with all tangents on one rank, with one thread and
with as many as there are ranks; the step shared among the ranks, with one thread each; and what the
ranks exchange at a step, alone. While rank 0 computes alone, the others wait for its word. Beside
wall time stands the processor time of the busiest rank, which a machine that others use disturbs
less; threads that wait for each other count in it, ranks that do not.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CASES
from benchmarks.record import at_least, write_provenance
from benchmarks.timing import summarise
from hypergrad.cli.malloc import keep_freed_memory
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.forward import forward_step
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents
from hypergrad.models import build
from hypergrad.parallel.ranks import ALONE, Ranks, join_ranks
from hypergrad.runs.run_log import CsvLog

__all__ = ["main"]

COLUMNS = ("model", "batch_size", "columns", "contender", "round", "seconds", "busiest")
Times = list[tuple[float, float]]
STRATEGIES = {"lenet": "stacked", "wrn_16_1": "fused"}  # as in conf/model
LIMIT, HORIZON = 3.0, 1000


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
    found = {
        name: _measure(_stepper(name, given.columns), ranks, given.rounds, steps)
        for name, steps in zip(given.models, given.steps, strict=True)
    }
    if ranks.rank == 0:
        _report(found, ranks, given)
    ranks.leave()


def _stepper(name: str, columns: int) -> Callable[[Ranks], InnerState]:
    """Return an inner step late in a run, where the tangents of every value have a product."""
    torch.manual_seed(0)
    case = CASES[name]
    model = FlatModel(build(case.name, case.shape, 10))
    state = InnerState.start(model.theta(), 1, model.buffers())
    batch = torch.randn(case.batch_size, *case.shape), torch.arange(case.batch_size) % 10
    schedule = sgd_schedule((0.01,) * (columns - 2), (0.9,), (1e-3,))
    Z = 1e-2 * torch.randn(columns, model.size)
    optimizer = InnerOptimizer(transform=ElementwiseClip(LIMIT)).bind(model, schedule)
    options = ForwardOptions(strategy=STRATEGIES[name])

    def step(ranks: Ranks) -> InnerState:
        share = list(ranks.share(columns))
        own = Tangents.start(state.theta, 1, len(share))
        own = own._replace(Z=Z[share], S=(Z[share],), reached=(True,) * len(share))
        given = batch, optimizer, schedule, HORIZON - 1, HORIZON, options, ranks
        return forward_step(model, state, own, *given)[0]

    return step


def _measure(
    step: Callable[[Ranks], InnerState], ranks: Ranks, rounds: int, steps: int
) -> dict[str, Times]:
    """Seconds a step, wall and of the busiest processor, of each contender in each round."""
    after = step(ranks)

    def shared() -> None:
        ranks.broadcast_number(0)  # the order
        step(ranks)

    def exchange() -> None:
        ranks.broadcast_number(0)
        ranks.broadcast_tensors(after.tensors())

    def alone() -> None:
        if ranks.rank == 0:
            step(ALONE)

    one, many = "1 rank, 1 thread", f"1 rank, {ranks.size} threads"
    together = f"{ranks.size} ranks, 1 thread each"
    contenders = {one: alone, many: alone, together: shared, "exchange": exchange}
    seconds: dict[str, Times] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            torch.set_num_threads(ranks.size if name == many else 1)
            ranks.collect([])
            began, busy = time.perf_counter(), time.process_time()
            for _ in range(steps):
                call()
            busiest = max(ranks.collect([time.process_time() - busy]))  # waits for the last one
            if number:  # the first round warms up
                seconds[name].append(((time.perf_counter() - began) / steps, busiest / steps))
    return seconds


def _report(found: dict[str, dict[str, Times]], ranks: Ranks, given: argparse.Namespace) -> None:
    given.output.mkdir(parents=True, exist_ok=True)
    write_provenance(given.output, "cpu", [0], sys.argv, ranks=ranks.size)
    log = CsvLog(given.output / "seconds.csv", COLUMNS)
    for name, seconds in found.items():
        fixed = {
            "model": name,
            "batch_size": CASES[name].batch_size,
            "columns": given.columns,
        }
        log.append(
            {**fixed, "contender": contender, "round": number, "seconds": took, "busiest": busy}
            for contender, times in seconds.items()
            for number, (took, busy) in enumerate(times)
        )
        heads = "contender", "ms", "spread", "vs threads", "busiest ms", "spread", "vs 1 thread"
        table = Table(*heads, title=f"{name}, N = {given.columns}")
        walls, busies = (
            {contender: [pair[which] for pair in times] for contender, times in seconds.items()}
            for which in (0, 1)
        )
        for contender in seconds:
            cells = []
            for clocked, reference in (
                (walls, f"1 rank, {ranks.size} threads"),
                (busies, "1 rank, 1 thread"),
            ):
                timed = summarise(clocked[contender], clocked[reference])
                cells += [f"{1e3 * timed.seconds:.2f}", f"{100 * timed.spread:.0f} %"]
                cells.append("" if contender == "exchange" else f"{timed.gain:.2f}x")
            table.add_row(contender, *cells)
        Console().print(table)
    log.close()
    print(f"written: {log.path}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.ranks", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["lenet", "wrn_16_1"], choices=list(STRATEGIES))
    add("--steps", nargs="+", type=int, default=[10, 1], help="steps timed together, a model each")
    add("--columns", type=at_least(3), default=7, help="tangents, at least 3")
    add("--rounds", type=at_least(2), default=9, help="timed rounds, at least 2")
    add("--output", type=Path, default=Path("outputs/bench_ranks"), help="folder of the CSV")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
