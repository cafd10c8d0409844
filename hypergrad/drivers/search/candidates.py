"""What a search tries, in a fixed order, whatever processes share it."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, islice, product

import torch

from hypergrad.config.schema import RunConfig
from hypergrad.core.rules.sgd import NAMES
from hypergrad.core.rules.sgd_schedules import preset_schedule, sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.seeding import generator
from hypergrad.drivers.search.hyperband import brackets, promoted
from hypergrad.drivers.search.space import DIMENSIONS, bounds_of, values_at
from hypergrad.drivers.search.tpe import study_of

__all__ = ["Candidate", "Scores", "candidates", "count_of"]


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
        epochs: Of a training that Hyperband makes shorter than the others; None for a whole one.
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
    epochs: int | None = None

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
        """Return all of it, ready for JSON; a whole training's has no `epochs`."""
        found: dict[str, object] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
        if self.epochs is None:  # records are named after this, those of earlier versions too
            del found["epochs"]
        return found

    def share(self, epochs: int) -> float:
        """Return how long its training is, as a share of one of `epochs`."""
        return 1.0 if self.epochs is None else self.epochs / epochs

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
        short = [] if self.epochs is None else [f"{self.epochs} epochs"]
        return " ".join([self.schedule, *texts, *short])


# What a candidate came to: what orders trials by validation; None if it is not finished.
Scores = Callable[[Candidate], tuple[float, float] | None]


def _none_finished(candidate: Candidate) -> None:
    return None


def candidates(
    config: RunConfig, seed: int, scores: Scores = _none_finished
) -> Iterator[Candidate]:
    """Yield the settings that a search tries with one seed: a pure function of its arguments.

    What `tpe` and `hyperband` try depends on what came of the settings before, and ends where that
    is not known yet.

    Args:
        config: The run's configuration.
        seed: Of the repeat. A grid has the same settings for all; a random search draws its own.
        scores: What has come of the settings; asked after each was yielded.

    Yields:
        `search.trials` settings at most; without an end where only the budget sets one.
    """
    if config.search.kind == "grid":
        yield from _grid(config)
        return
    end = config.search.trials
    adaptive = {"tpe": _tpe, "hyperband": _hyperband}
    if config.search.kind in adaptive:
        yield from islice(adaptive[config.search.kind](config, seed, scores), end)
        return
    for number in count() if end is None else range(end):
        if config.search.kind == "random":
            yield _random(config, seed, number)
        elif config.search.kind == "random_space":
            yield _tuned(config, number, _drawn(seed, "random space", number))
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


def _drawn(*key: int | str) -> list[float]:
    """A point of the unit cube, evenly."""
    return torch.rand(DIMENSIONS, generator=generator(*key), dtype=torch.float64).tolist()


def _tpe(config: RunConfig, seed: int, scores: Scores) -> Iterator[Candidate]:
    """One at a time: each is proposed when all before it are known."""
    told: list[float] = []
    while True:
        candidate = _tuned(config, len(told), study_of(seed).point(told))
        yield candidate
        found = scores(candidate)
        if found is None:
            return
        told.append(max(found[0], 0.0))  # the accuracy; a loss that is not finite has -inf


def _hyperband(config: RunConfig, seed: int, scores: Scores) -> Iterator[Candidate]:
    """Bracket by bracket, then from the first one again, with other settings."""
    search, number, drawn = config.search, count(), count()
    while True:
        for rungs in brackets(config.epochs, search.min_epochs, search.reduction):
            points = [_drawn(seed, "hyperband", next(drawn)) for _ in range(rungs[0].settings)]
            settings = [_tuned(config, 0, point) for point in points]
            for rung, after in zip(rungs, [*rungs[1:], None], strict=True):
                epochs = None if rung.epochs == config.epochs else rung.epochs
                tried = [replace(c, number=next(number), epochs=epochs) for c in settings]
                yield from tried
                if after is None:
                    continue
                found = [key for c in tried if (key := scores(c)) is not None]
                if len(found) < len(tried):
                    return
                settings = [tried[place] for place in promoted(found, after.settings)]


def _tuned(config: RunConfig, number: int, point: Sequence[float]) -> Candidate:
    """The schedule of the group `baseline`, with the three numbers at a point of the space."""
    hand = config.baseline
    stepwise = hand.schedule == "multistep"
    rate, momentum, decay = values_at(bounds_of(config.search.space), point)
    return Candidate(
        number,
        hand.schedule,
        (rate,),
        (momentum,),
        (decay,),
        hand.factor if stepwise else None,
        tuple(hand.milestones) if stepwise else (),
    )


def _restart(config: RunConfig, number: int) -> Candidate:
    """All outer learning rates from the first weights, then all from the next, and so on."""
    rates = config.search.hyper_learning_rates
    restart, place = divmod(number, len(rates))
    return Candidate(number, "hd", outer_learning_rate=rates[place], restart=restart)
