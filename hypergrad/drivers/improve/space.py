"""What moves in an improvement, and how: what a configuration says of it."""

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.core.base_schedules import base_schedule
from hypergrad.core.basis import Cosine, Hats, Windows
from hypergrad.core.budget import Budget
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.move_space import MoveSpace
from hypergrad.core.rules.move_sets import movable
from hypergrad.drivers.inner_optimizer import inner_optimizer
from hypergrad.training.improvement.options import ImproveOptions

__all__ = ["improve_options", "move_space"]

BASES = {"windows": Windows, "hats": Hats, "cosine": Cosine}


def move_space(config: RunConfig) -> MoveSpace:
    """Return the space that a configuration declares.

    SGD that would begin at zero, as the paper does, moves around the group `baseline`; all else
    around its declared starts.

    Raises:
        ConfigError: For starts that cannot move on their scales.
    """
    improve, baseline, given = config.improve, config.baseline, inner_optimizer(config)
    try:
        optimizer, shape = given, improve.shape
        if not given.moves_at_start:
            optimizer, shape = _around_baseline(config, given), baseline.schedule
        base = base_schedule(
            optimizer,
            shape,
            warmup=improve.warmup,
            milestones=baseline.milestones,
            factor=baseline.factor,
        )
        return MoveSpace(optimizer, base)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _around_baseline(config: RunConfig, given: InnerOptimizer) -> InnerOptimizer:
    """SGD around the group `baseline`; what else is declared, of the loss say, stays with it."""
    if config.optimizer.name != "sgd" or any(each.where for each in given.hyperparameters):
        raise ValueError(
            "the rates start at zero, and a schedule is improved from one that trains: give "
            "hyperparameters.learning_rate.start=VALUE and scale=log"
        )
    baseline, declared = config.baseline, config.hyperparameters["learning_rate"]
    start = {
        "learning_rate": baseline.learning_rate,
        "momentum": baseline.momentum,
        "weight_decay": baseline.weight_decay,
    }
    moving = movable(
        "sgd",
        rates=BASES[declared.basis](max(declared.count, 1)),
        start=start,
        others=[each for each in given.hyperparameters if each.name not in start],
        options=config.optimizer.options,
    )
    return InnerOptimizer(moving.rule, moving.hyperparameters, given.transform)


def improve_options(config: RunConfig, seed: int) -> ImproveOptions:
    """Return how the schedule of a seed is improved.

    Raises:
        ConfigError: For settings that do not fit together.
    """
    own = config.improve
    try:
        return ImproveOptions(
            direction=own.direction,
            scales=tuple(own.scales),
            rung=own.rung,
            iterations=own.iterations,
            trajectories=own.trajectories,
            repeats=own.repeats,
            margins=tuple(own.margins),
            steps=tuple(own.steps),
            radius=own.radius,
            gate=(own.gate[0], own.gate[1]),
            memory=own.memory,
            final=own.final,
            final_margins=tuple(own.final_margins),
            choose=own.choose,
            judged=own.judged,
            cap=own.cap,
            budget=None if config.budget is None else Budget.parse(config.budget),
            seed=seed,
        )
    except ValueError as error:
        raise ConfigError(f"improve: {error}") from error
