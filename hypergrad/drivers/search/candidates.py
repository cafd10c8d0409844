"""What a search tries, in a fixed order, whatever processes share it."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import count, product

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import preset_schedule, sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator

__all__ = ["Candidate", "candidates", "count_of"]


@dataclass(frozen=True)
class Candidate:
    """One schedule to try, or one way to run hypergradient descent.

    Attributes:
        number: Its place in the search, from 0; for a random search, among its seed's own.
        schedule: `constant`, `multistep`, `cosine`: set by hand; `windows`: values shared over
            windows; `hd`: hypergradient descent.
        learning_rate: Initial value of a schedule set by hand, or the values of the windows.
        momentum: Likewise.
        weight_decay: Likewise.
        factor: Decay at each milestone; None where there is none.
        milestones: Fractions of the run.
        outer_learning_rate: Of hypergradient descent.
        restart: How often hypergradient descent began anew: other weights, split and batches.
    """

    number: int
    schedule: str
    learning_rate: tuple[float, ...] = ()
    momentum: tuple[float, ...] = ()
    weight_decay: tuple[float, ...] = ()
    factor: float | None = None
    milestones: tuple[float, ...] = ()
    outer_learning_rate: float | None = None
    restart: int = 0

    def over(self, horizon: int) -> Schedule:
        """Return the schedule of a training of `horizon` inner steps; not for `hd`."""
        if self.schedule == "windows":
            return sgd_schedule(self.learning_rate, self.momentum, self.weight_decay)
        (rate,), (momentum,), (decay,) = self.learning_rate, self.momentum, self.weight_decay
        return preset_schedule(
            self.schedule,
            horizon,
            learning_rate=rate,
            momentum=momentum,
            weight_decay=decay,
            milestones=self.milestones,
            factor=1.0 if self.factor is None else self.factor,
        )

    def as_dict(self) -> dict[str, object]:
        """Return all of it, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def __str__(self) -> str:
        """What it is, in a few words for people."""
        if self.schedule == "hd":
            again = f" restart {self.restart}" if self.restart else ""
            return f"outer rate {self.outer_learning_rate:g}{again}"
        names = zip(("α", "β", "μ"), NAMES, strict=True)
        texts = [
            f"{name} {' '.join(f'{value:.3g}' for value in getattr(self, kind))}"
            for name, kind in names
            if any(getattr(self, kind))
        ]
        if self.factor is not None:
            texts.insert(1, f"η {self.factor:g}")
        return " ".join([self.schedule, *texts])


def candidates(config: RunConfig, seed: int) -> Iterator[Candidate]:
    """Yield the settings that a search tries with one seed: a pure function of its arguments.

    Args:
        config: The run's configuration.
        seed: Of the repeat. A grid has the same settings for all; a random search draws its own.

    Yields:
        `search.trials` settings at most; without an end where only the budget sets one.
    """
    if config.search.kind == "grid":
        yield from _grid(config)
        return
    end = config.search.trials
    for number in count() if end is None else range(end):
        if config.search.kind == "random":
            yield _random(config, seed, number)
        else:
            yield _restart(config, number)


def count_of(config: RunConfig) -> int | None:
    """Return how many settings a search tries with each seed; None if only a budget ends it."""
    if config.search.kind == "grid":
        return math.prod(len(values) for values in config.search.grid.values())
    return config.search.trials


def _grid(config: RunConfig) -> Iterator[Candidate]:
    """All combinations of the grid's values, the last named one fastest."""
    grid = config.search.grid
    for number, values in enumerate(product(*grid.values())):
        hand = replace(config.baseline, **dict(zip(grid, values, strict=True)))
        stepwise = hand.schedule == "multistep"
        yield Candidate(
            number,
            hand.schedule,
            (hand.learning_rate,),
            (hand.momentum,),
            (hand.weight_decay,),
            hand.factor if stepwise else None,
            tuple(hand.milestones) if stepwise else (),
        )


def _random(config: RunConfig, seed: int, number: int) -> Candidate:
    search, declared = config.search, config.hyperparameters
    ranges = (search.learning_rate_range, search.momentum_range, search.weight_decay_range)
    counts = [declared[name].count for name in NAMES]
    stream = generator(seed, "random search", number)
    drawn = [
        torch.rand(count, generator=stream, dtype=torch.float64) * (high - low) + low
        for count, (low, high) in zip(counts, ranges, strict=True)
    ]
    rates, momenta, decays = (tuple(values.tolist()) for values in drawn)
    return Candidate(number, "windows", rates, momenta, decays)


def _restart(config: RunConfig, number: int) -> Candidate:
    """All outer learning rates from the first weights, then all from the next, and so on."""
    rates = config.search.hyper_learning_rates
    restart, place = divmod(number, len(rates))
    return Candidate(number, "hd", outer_learning_rate=rates[place], restart=restart)
