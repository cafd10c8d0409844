"""`python -m benchmarks.rules`: what a step costs under each optimiser, with seven tangents.

One inner step of forward mode with `N = 7` learning rates, all of whose tangents are live, on
random data; each optimiser in turn, round after round, in one process. `sgd-general` is SGD through
the path that serves every rule, beside Appendix A's explicit recursion (`sgd`).
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.record import at_least, open_record
from benchmarks.timing import alternate, summarise
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import Rule, adam, adamw, rmsprop, sgd
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator
from hypergrad.core.training_step import InnerState
from hypergrad.differentiation.active_tangents import ActiveTangents, Direct
from hypergrad.differentiation.options import ForwardOptions
from hypergrad.differentiation.recursion import Tangents, advance
from hypergrad.models import build

__all__ = ["main"]

COLUMNS = ("model", "strategy", "batch_size", "rule", "seconds", "spread", "ratio", "rounds")
COUNT = 7  # 5 + 1 + 1, the paper's values
MODELS = {  # strategy, minibatch, image shape
    "lenet": ("stacked", 128, (1, 28, 28)),
    "wrn": ("fused", 256, (3, 32, 32)),
}


def _general() -> Rule:
    explicit = sgd()
    return Rule(explicit.update, explicit.defaults, explicit.slots, rate=explicit.rate)


RULES: dict[str, Callable[[], Rule]] = {
    "sgd": sgd,
    "sgd-general": _general,
    "nesterov": lambda: sgd(nesterov=True),
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write `measured.csv`.

    Args:
        arguments: As of the command line; None takes those.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.rules", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    add("--rules", nargs="+", default=list(RULES), choices=list(RULES))
    add("--rounds", type=at_least(2), default=15)
    add("--batch-size", type=at_least(1), help="default: 128 for LeNet, 256 for the WRN")
    add("--threads", type=at_least(1), default=1)
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, default=Path("outputs/bench/rules"))
    given = parser.parse_args(arguments)
    given.device = "cpu"
    log = open_record(given.output, COLUMNS, given)
    for name in given.models:
        strategy, usual, shape = MODELS[name]
        size = given.batch_size or usual
        names = list(dict.fromkeys(["sgd", *given.rules]))  # what all are compared with
        steps = {rule: _step(name, RULES[rule](), strategy, size, shape) for rule in names}
        seconds = alternate(steps, given.rounds)
        for rule in names:
            timed = summarise(seconds[rule], seconds["sgd"])
            cost = 1 / timed.gain
            print(f"{name:6s} {rule:12s} {1e3 * timed.seconds:9.2f} ms  {cost:.3f} of sgd")
            numbers = timed.seconds, timed.spread, cost, len(seconds[rule])
            row = dict(zip(COLUMNS, (name, strategy, size, rule, *numbers), strict=True))
            log.append([row])
    log.close()


def _step(
    name: str, rule: Rule, strategy: str, batch_size: int, shape: tuple[int, int, int]
) -> Callable[[], object]:
    """A step from one state, with all its tangents."""
    stream = generator(0, "benchmark of rules")
    model = FlatModel(build(name, shape, 10, seed=0, options={}))
    theta = model.theta()
    batch = (
        torch.randn(batch_size, *shape, generator=stream),
        torch.randint(10, (batch_size,), generator=stream),
    )
    schedule = Schedule({"learning_rate": (1e-3,) * COUNT})
    bound = InnerOptimizer(rule).bind(model, schedule)
    slots = tuple(torch.full_like(theta, 1e-4) for _ in rule.slots)
    state = InnerState(theta, slots, model.buffers())
    tangents = Tangents.start(theta, len(slots), COUNT)
    tangents.Z.normal_(generator=stream)
    values = bound.step_values(bound.given(schedule, 0, COUNT), theta)
    every = tuple(range(COUNT))
    direct = (Direct(0, "learning_rate", 0),)
    active = ActiveTangents(direct, (1.0,), every, every, (True,) * COUNT)
    options = ForwardOptions(strategy=strategy)

    def step() -> object:
        return advance(model, state, tangents, batch, bound, values, 1, active, options)

    return step


if __name__ == "__main__":
    main()
