"""`python -m benchmarks.ensembles`: inner steps of several trials at once, and one after the other.

Whole inner steps of trials with schedules, and of hypergradient descent: one member after the
other, all in one evaluation with the layers of `vmap`, and with those of an ensemble. In turn, in
one process, on random images.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks.record import at_least, open_record
from benchmarks.stand_in import stand_in
from benchmarks.timing import CLOCKS, alternate, summarise
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Minibatches
from hypergrad.models import build
from hypergrad.training import ensemble, joint_descent
from hypergrad.training.ensemble import EnsembleRun
from hypergrad.training.hypergradient_descent import HypergradientDescentRun
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import InnerRun, ScheduledRun
from hypergrad.training.joint_descent import JointDescentRun

__all__ = ["main"]

COLUMNS = ("model", "kind", "members", "way", "batch_size", "seconds", "spread", "gain", "rounds")
DATA = {"lenet": "mnist", "wrn": "cifar10"}
KINDS = ("schedules", "descents")
ALONE = "one after the other"
BATCHES = 20  # different minibatches


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write `measured.csv`: seconds of a step of one member.

    Args:
        arguments: As of the command line; None takes those.
    """
    parser = argparse.ArgumentParser("python -m benchmarks.ensembles", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["lenet"], choices=list(DATA))
    add("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    add("--members", nargs="+", type=at_least(2), default=[4, 16])
    add("--batch-size", type=at_least(1), default=128)
    add("--rounds", type=at_least(2), default=11)
    add("--clock", choices=list(CLOCKS), default="wall")
    add("--threads", type=at_least(1), default=1)
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, default=Path("outputs/bench/ensembles"))
    given = parser.parse_args(arguments)
    given.device = "cpu"
    log = open_record(given.output, COLUMNS, given)
    for model in given.models:
        for kind in given.kinds:
            for members in given.members:
                steps = 2 * (given.rounds + 1)  # some are not timed
                calls = _calls(model, kind, members, given.batch_size, steps)
                seconds = alternate(calls, given.rounds, given.clock)
                for way in calls:
                    timed = summarise(seconds[way], seconds[ALONE])
                    own = timed.seconds / members
                    print(
                        f"{model:6s} {kind:10s} {members:3d} {way:20s} {1e3 * own:8.2f} ms  "
                        f"{timed.gain:5.2f} times as fast, spread {timed.spread:.0%}"
                    )
                    numbers = given.batch_size, own, timed.spread, timed.gain, len(seconds[way])
                    row = model, kind, members, way, *numbers
                    log.append([dict(zip(COLUMNS, row, strict=True))])
    log.close()


def _calls(
    name: str, kind: str, members: int, batch_size: int, steps: int
) -> dict[str, Callable[[], object]]:
    """A step of every member, each way."""
    data = stand_in(DATA[name], BATCHES * batch_size, batch_size)
    channels, height, width = data.train.images.shape[1:]
    module = build(name, (channels, height, width), 10, seed=0, options={})
    model = FlatModel(module)
    minibatches = Minibatches(data.train, batch_size, (0, "ensembles"))
    optimizer = InnerOptimizer(transform=ElementwiseClip(3.0))
    problem = InnerProblem(model, model.theta(), minibatches, steps, optimizer)
    make = _schedules if kind == "schedules" else _descents
    alone, together = make(problem, members)
    plain = make(problem, members)[1]

    def with_vmap() -> None:
        with (
            patch.object(ensemble, "batched_layers", lambda *_: nullcontext()),
            patch.object(joint_descent, "batched_layers", lambda *_: nullcontext()),
        ):
            plain.advance()

    def one_after_the_other() -> None:
        for run in alone:
            run.advance()

    return {ALONE: one_after_the_other, "vmap": with_vmap, "ensemble": together.advance}


def _schedules(problem: InnerProblem, members: int) -> tuple[list[InnerRun], InnerRun]:
    schedules = [sgd_schedule((0.01 * (1 + k / members),), (0.9,), (5e-4,)) for k in range(members)]
    return [ScheduledRun(problem, each) for each in schedules], EnsembleRun(problem, schedules)


def _descents(problem: InnerProblem, members: int) -> tuple[list[InnerRun], InnerRun]:
    rates = [0.001 * (1 + k / members) for k in range(members)]
    learned: dict[str, bool] = {name: True for name in NAMES}
    validation = problem.minibatches
    alone: list[InnerRun] = [
        HypergradientDescentRun(
            problem, validation, outer_learning_rate=rate, clip=1.0, learned=learned
        )
        for rate in rates
    ]
    return alone, JointDescentRun(problem, validation, outer_rates=rates, clip=1.0, learned=learned)


if __name__ == "__main__":
    main()
