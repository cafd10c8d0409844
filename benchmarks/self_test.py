"""`python -m benchmarks.self_test`: what the start-up test costs, in gradients of a minibatch.

The test of a fresh model and a plain gradient of the same minibatch, in turn, in one process.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.record import at_least, open_record
from benchmarks.timing import alternate, summarise
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.seeding import generator
from hypergrad.curvature import gradient
from hypergrad.differentiation.self_test import self_test
from hypergrad.models import build

__all__ = ["main"]

COLUMNS = ("model", "strategy", "batch_size", "seconds", "spread", "gradients", "rounds")
MODELS = {  # strategies, minibatch, image shape
    "lenet": (("stacked", "loop", "reverse"), 128, (1, 28, 28)),
    "wrn": (("fused", "loop", "reverse"), 256, (3, 32, 32)),
}
SCHEDULE = sgd_schedule((0.0,) * 5, (0.0,), (0.0,))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write `measured.csv`.

    Args:
        arguments: As of the command line; None takes those.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.self_test", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    add("--rounds", type=at_least(2), default=7)
    add("--batch-size", type=at_least(1), help="default: 128 for LeNet, 256 for the WRN")
    add("--threads", type=at_least(1), default=1)
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, default=Path("outputs/bench/self_test"))
    given = parser.parse_args(arguments)
    given.device = "cpu"
    log = open_record(given.output, COLUMNS, given)
    for name in given.models:
        strategies, usual, shape = MODELS[name]
        size = given.batch_size or usual
        calls = _calls(name, strategies, size, shape)
        seconds = alternate(calls, given.rounds)
        for strategy in strategies:
            timed = summarise(seconds[strategy], seconds["gradient"])
            cost = 1 / timed.gain
            print(f"{name:6s} {strategy:8s} {timed.seconds:7.3f} s  {cost:5.1f} gradients")
            numbers = timed.seconds, timed.spread, cost, len(seconds[strategy])
            log.append([dict(zip(COLUMNS, (name, strategy, size, *numbers), strict=True))])
    log.close()


def _calls(
    name: str, strategies: Sequence[str], batch_size: int, shape: tuple[int, int, int]
) -> dict[str, Callable[[], object]]:
    stream = generator(0, "benchmark of the start-up test")
    module = build(name, shape, 10, seed=0, options={})
    model = FlatModel(module)
    theta = model.theta()
    batch = (
        torch.randn(batch_size, *shape, generator=stream),
        torch.randint(10, (batch_size,), generator=stream),
    )

    def test(strategy: str) -> object:
        fresh = FlatModel(module)
        bound = InnerOptimizer().bind(fresh, SCHEDULE)
        how = None if strategy == "reverse" else strategy
        return self_test(fresh, theta, batch, bound, SCHEDULE, how)

    calls: dict[str, Callable[[], object]] = {
        "gradient": lambda: gradient(lambda point: model.loss(point, batch), theta)
    }
    return calls | {each: lambda each=each: test(each) for each in strategies}


if __name__ == "__main__":
    main()
