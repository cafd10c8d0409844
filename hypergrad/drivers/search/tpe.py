"""Tree-structured Parzen estimators (Bergstra et al., 2011), as Optuna has them: ask and tell.

A proposal is a function of the seed and of what all before it came to: nothing else is remembered.
A search that was killed tells a new study the trials on the disk, in their order, and asks on, so
that there is no second storage that could disagree with them.
"""

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from hypergrad.core.seeding import seed_of
from hypergrad.drivers.search.space import DIMENSIONS

__all__ = ["TpeStudy", "study_of"]

_AXES = [f"x{axis}" for axis in range(DIMENSIONS)]


class TpeStudy:
    """The proposals of one search, kept so that the next one need not begin at the first.

    Args:
        seed: Of the search.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed_of(seed, "tpe") % 2**32
        self._lock = threading.Lock()  # a queue asks in a thread of its own
        self._begin()

    def point(self, told: Sequence[float]) -> tuple[float, ...]:
        """Return where to try next: `(3,)`, a point of the unit cube.

        Args:
            told: What all trials before came to, in their order; more is better.
        """
        with self._lock:
            if list(told[: len(self._told)]) != self._told:
                self._begin()  # a record was taken away or is another one
            for value in told[len(self._told) :]:
                self._study.tell(self._ask(len(self._told)), value)
                self._told.append(value)
            trial = self._ask(len(self._told))
            return tuple(trial.params[axis] for axis in _AXES)

    def _begin(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self._seed)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._axes: dict[str, Any] = {
            axis: optuna.distributions.FloatDistribution(0.0, 1.0) for axis in _AXES
        }
        self._told: list[float] = []
        self._asked: list[Any] = []

    def _ask(self, number: int) -> Any:  # noqa: ANN401 (optuna.Trial; Optuna is optional)
        """The trial of this number, asked for once: each asking moves the sampler's stream on."""
        if number == len(self._asked):
            self._asked.append(self._study.ask(self._axes))
        return self._asked[number]


@lru_cache(maxsize=64)
def study_of(seed: int) -> TpeStudy:
    """Return the study of a seed in this process."""
    return TpeStudy(seed)
