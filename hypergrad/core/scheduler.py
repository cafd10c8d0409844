"""A schedule as a scheduler of PyTorch, for training loops that know nothing of this package."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import LRScheduler

from hypergrad.core.basis import Basis
from hypergrad.core.rules.torch_optim import without_wrapper

__all__ = ["HyperparameterScheduler"]

KEPT = ("last_epoch", "base_lrs", "_step_count", "_last_lr")  # of torch's own state


class Applicable(Protocol):
    """A schedule, as far as a scheduler needs it."""

    @property
    def bases(self) -> Mapping[str, Basis]:
        """The basis of every hyperparameter."""
        ...

    def columns(self) -> Iterator[tuple[str, int, float]]:
        """Yield (name, index, coefficient)."""
        ...

    def apply(self, optimizer: torch.optim.Optimizer, step: int, horizon: int) -> None:
        """Set the values of one step."""
        ...


class HyperparameterScheduler(LRScheduler):
    """Sets all values of an optimiser, the learning rate and every other, for the coming step.

    It is made before the first step of the optimiser, which it sets the first values for, and
    stepped after every one, as any scheduler is; an epoch of PyTorch's is a step here. After the
    last step of the horizon the last values stay. Training that goes on with them is warned of.

    Its state is the position: values are a pure function of it, so that training resumed in the
    middle has the same bits. Loading it sets the values too.

    Args:
        optimizer: As for `Schedule.apply`.
        schedule: What it goes through.
        horizon: Steps of the training.
        last_epoch: Steps taken less one, to begin in the middle; -1 starts.

    Raises:
        ValueError: For a horizon without a step, and as `Schedule.apply`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Applicable,
        horizon: int,
        last_epoch: int = -1,
    ) -> None:
        if horizon < 1:
            raise ValueError(f"{horizon=}: a training has at least one step")
        self.horizon = horizon
        self._schedule = schedule
        self._warned = False
        super().__init__(without_wrapper(optimizer), last_epoch)  # type: ignore[arg-type]

    def get_lr(self) -> list[float | torch.Tensor]:
        """Set all values of the step, and return the learning rates, which PyTorch sets again."""
        if self.last_epoch > self.horizon and not self._warned:
            self._warned = True
            warnings.warn(
                f"training goes on beyond the {self.horizon} steps of its schedule, with the "
                "values of the last one",
                RuntimeWarning,
                stacklevel=4,
            )
        step = min(max(self.last_epoch, 0), self.horizon - 1)
        self._schedule.apply(self.optimizer, step, self.horizon)
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the position, and what must be the same where it is loaded."""
        own = {"horizon": self.horizon, "schedule": _digest(self._schedule)}
        return {**{name: getattr(self, name) for name in KEPT}, **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the position of a state, and set the values of its step.

        Args:
            state_dict: From `state_dict`.

        Raises:
            ValueError: For that of another schedule or horizon, and what is no such state.
        """
        lacks = [name for name in (*KEPT, "horizon", "schedule") if name not in state_dict]
        if lacks:
            raise ValueError(f"no state of a {type(self).__name__}: it has no {lacks[0]}")
        if state_dict["schedule"] != _digest(self._schedule):
            raise ValueError(
                "the state is of another schedule: load the one that it was saved with"
            )
        if state_dict["horizon"] != self.horizon:
            raise ValueError(
                f"the state is of a training of {state_dict['horizon']} steps, and this one has "
                f"{self.horizon}: a schedule does not change its horizon on the way"
            )
        self.__dict__.update({name: state_dict[name] for name in KEPT})
        self.get_lr()


def _digest(schedule: Applicable) -> str:
    """What tells schedules apart by value, in every process."""
    values = list(schedule.columns())
    forms = [(type(basis).__name__, basis.count, basis.size) for basis in schedule.bases.values()]
    return hashlib.sha256(json.dumps([values, forms]).encode()).hexdigest()
