"""Whether a schedule holds elsewhere: on fresh seeds, over another horizon, with another model.

On the whole training set, tested on the test set, beside the schedule that it should beat: the one
that `improve` began with, or the run's hand-set baseline.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.core.dead_network import is_dead
from hypergrad.core.schedule import Schedule, schedule_in
from hypergrad.core.seeding import seed_of
from hypergrad.drivers.batching import hand_set_schedule, minibatches_of
from hypergrad.drivers.context import RunContext, make_model
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.runs.directory import RunDirectory
from hypergrad.training.improvement.interval import Interval, interval
from hypergrad.training.inner_loop import evaluated
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun, steps

__all__ = ["Confirmation", "confirm", "rival_of", "stretched", "with_confirmation"]


class Confirmation(NamedTuple):
    """What came of it.

    Attributes:
        horizon: Inner steps of a training.
        epochs: Likewise.
        network: Its name.
        schedule: Test accuracies with the schedule; that of a training that diverged is chance.
        rival: With the other one, of the same weights and batches; empty without one.
        dead: Trainings with the schedule that ended no better than a constant predictor.
    """

    horizon: int
    epochs: int
    network: str
    schedule: tuple[float, ...]
    rival: tuple[float, ...]
    dead: int

    @property
    def difference(self) -> Interval | None:
        """How much better the schedule is, paired; None without a rival."""
        if not self.rival:
            return None
        return interval([a - b for a, b in zip(self.schedule, self.rival, strict=True)])

    def __str__(self) -> str:
        mean, worst = statistics.fmean(self.schedule), min(self.schedule)
        text = (
            f"{len(self.schedule)} fresh trainings of {self.network} over {self.horizon:,} steps "
            f"({self.epochs} epochs): test accuracy {100 * mean:.2f} %, worst {100 * worst:.2f} %"
        )
        if (seen := self.difference) is not None:
            half = f" ± {100 * seen.half:.2f}" if math.isfinite(seen.half) else ""
            text += f", {100 * seen.mean:+.2f}{half} points to the schedule it began with"
        return text


def stretched(epochs: int, horizon: str) -> int:
    """Return the epochs of a horizon as people write it.

    Args:
        epochs: Of the run.
        horizon: `5x`, so many times as long; or `20`, epochs.

    Raises:
        ConfigError: For anything else, and less than an epoch.

    >>> stretched(2, "5x"), stretched(10, "0.5x"), stretched(2, "30")
    (10, 5, 30)
    """
    text = horizon.strip()
    try:
        found = float(text[:-1]) * epochs if text.endswith("x") else float(text)
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and round(found) >= 1):
        raise ConfigError(f"--horizon {horizon}: write 5x, or epochs as in 20")
    return round(found)


def rival_of(run: RunDirectory, config: RunConfig, seed: int) -> Callable[[int], Schedule] | None:
    """Return what a schedule of a run is set beside, as a function of the inner steps.

    Args:
        run: Of `hypergrad run` or `improve`.
        config: Its configuration.
        seed: Of its repeat.

    Returns:
        None for an optimiser without a hand-set baseline.
    """
    entries = run.read_json("schedule.json").get("schedules", [])
    own = next((entry for entry in entries if entry["seed"] == seed), {})
    if "base" in own:
        base = schedule_in({**own["base"], "learned_for": own.get("learned_for")})
        return lambda horizon: base
    if config.is_plain_sgd and config.baseline.enabled:
        return lambda horizon: hand_set_schedule(config, horizon)
    return None


def confirm(
    context: RunContext,
    schedule: Schedule,
    rival: Callable[[int], Schedule] | None,
    *,
    trainings: int,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Confirmation:
    """Train with a schedule, and with what it is set beside, on seeds that nothing has used.

    Args:
        context: Data, network and horizon.
        schedule: Stretches to the horizon.
        rival: As `rival_of` returns it.
        trainings: Of each.
        seed: Which fresh seeds.
        note: Is told of each training.
    """
    config, data = context.config, context.data
    optimizer, found = inner_optimizer(config), ([], [])
    horizon = config.epochs * (len(data.train) // config.method.batch_size)
    tried = [schedule, *([] if rival is None else [rival(horizon)])]
    for number in range(trainings):
        fresh = seed_of("confirm", seed, number) % 2**31
        for own, accuracies in zip(tried, found, strict=False):
            model = make_model(config, data, fresh)
            minibatches = minibatches_of(config, data.train, fresh, "confirm", 0)
            given = model, model.theta(), minibatches, config.epochs, optimizer
            inner = ScheduledRun(InnerProblem.over_epochs(*given), own)
            for _ in steps(inner):
                pass
            whole = inner.came_through()
            accuracy = evaluated(inner, data.test)[1] if whole else data.test.chance
            accuracies.append(accuracy)
            which = "the schedule" if own is schedule else "what it began with"
            note(f"training {number + 1} of {trainings} with {which}: {100 * accuracy:.2f} %")
    both = tuple(found[0]), tuple(found[1])
    dead = sum(is_dead(own, data.test.chance, len(data.test)) for own in both[0])
    return Confirmation(horizon, config.epochs, config.model.name, *both, dead)


def with_confirmation(schedule: Schedule, seen: Confirmation) -> Schedule:
    """Return the schedule with a line in its origin of where it held, or did not."""
    origin = schedule.origin
    assert origin is not None, "what is exported has an origin"
    before = f"{origin.confirmed}; " if origin.confirmed else ""
    kept = replace(origin, confirmed=f"{before}{seen}")
    return Schedule(schedule, schedule.bases, schedule.learned_for, kept)
