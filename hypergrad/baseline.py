"""Schedules that people set by hand."""

import math

from hypergrad.schedule import Schedule
from hypergrad.schema import BaselineConfig

__all__ = ["baseline_schedule"]


def baseline_schedule(settings: BaselineConfig, horizon: int) -> Schedule:
    """Return a hand-set schedule as one learning rate a step.

    Args:
        settings: Kind of schedule, initial learning rate, momentum, weight decay.
        horizon: Inner steps.

    Returns:
        Constant, decayed at milestones (PyTorch's MultiStepLR), or annealed to zero by half a
        cosine.

    >>> settings = BaselineConfig(schedule="multistep", learning_rate=1.0, factor=0.5)
    >>> baseline_schedule(settings, 5).learning_rate
    (1.0, 1.0, 0.5, 0.25, 0.125)
    """

    def rate(step: int) -> float:
        if settings.schedule == "cosine":
            return settings.learning_rate * (1 + math.cos(math.pi * step / horizon)) / 2
        if settings.schedule == "multistep":
            passed = sum(step >= milestone * horizon for milestone in settings.milestones)
            return settings.learning_rate * settings.factor**passed
        return settings.learning_rate

    rates = tuple(rate(step) for step in range(horizon))
    return Schedule(rates, (settings.momentum,), (settings.weight_decay,))
