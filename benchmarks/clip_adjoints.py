"""What clipping adjoints does where training is chaotic: `python -m benchmarks.clip_adjoints`.

Hypergradients of LeNet on scikit-learn's digits, from weights that differ in rounding.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.record import at_least, open_record
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.data import Minibatches, in_even_batches, load
from hypergrad.differentiation.reverse import ReverseOptions, hypergradients
from hypergrad.models import build, resolve
from hypergrad.training.sign_agreement import nudged

__all__ = ["main"]

COLUMNS = ("learning_rate", "limit", "clipped", "largest", "same_sign", "t")
LIMITS = (None, 100.0, 10.0, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rates", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    add("--momentum", type=float, default=0.9)
    add("--steps", type=at_least(1), default=150)
    add("--trajectories", type=at_least(2), default=8)
    add("--threads", type=at_least(1), default=1)
    add("--keep-memory", action=argparse.BooleanOptionalAction, default=True)
    add("--output", type=Path, default=Path("outputs/bench/clip_adjoints"))
    given = parser.parse_args(arguments)
    given.device = "cpu"
    log = open_record(given.output, COLUMNS, given)
    table = Table("learning rate", "limit", "clipped", "largest", "same sign", "|t|")
    for rate in given.rates:
        for limit in LIMITS:
            found, clipped = _hypergradients(rate, given, limit)
            mean, spread = found.mean(dim=0), found.std(dim=0)
            agree = (found.sign() == found[0].sign()).double().mean().item()
            t = (mean.abs() / spread * len(found) ** 0.5).median().item()
            largest, name = found.abs().max().item(), "none" if limit is None else f"{limit:g}"
            numbers = rate, name, clipped, largest, agree, t
            log.append([dict(zip(COLUMNS, numbers, strict=True))])
            table.add_row(
                f"{rate:g}", name, f"{clipped:.0%}", f"{largest:.1e}", f"{agree:.0%}", f"{t:.1f}"
            )
    Console().print(table)
    log.close()


def _hypergradients(
    rate: float, given: argparse.Namespace, limit: float | None
) -> tuple[torch.Tensor, float]:
    """`(trajectories, 7)` hypergradients, and the share of the adjoints that were clipped."""
    data = load("digits", image_size=28)
    module = build(resolve("lenet"), data.shape, data.n_classes, seed=0, options={})
    model = FlatModel(module)
    schedule = sgd_schedule((rate,) * 5, (given.momentum,), (1e-4,))
    batches = Minibatches(data.train, 64, (0, "clip_adjoints"))
    validation = list(in_even_batches(data.test, 64))
    options = ReverseOptions(clip_adjoints=limit, self_test=False)
    found, clipped = [], 0.0
    for k in range(given.trajectories):
        theta = nudged(model.theta(), k) if k else model.theta()
        own = hypergradients(model, theta, batches.at, validation, schedule, given.steps, options)
        found.append(own.values)
        clipped = own.diagnostics[0].clipped_products or 0.0
    return torch.tensor(found, dtype=torch.float64), clipped


if __name__ == "__main__":
    main()
