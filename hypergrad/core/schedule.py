"""Schedules: the values of hyperparameters over the inner steps of a training run."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hypergrad.core import basis as bases_
from hypergrad.core import schedule_file
from hypergrad.core.basis import Basis, Windows, basis_from
from hypergrad.core.gradient_transforms import clip_gradients
from hypergrad.core.module_copy import unwrapped
from hypergrad.core.rules.learned_for import PLAIN, LearnedFor
from hypergrad.core.rules.torch_optim import Settable, made, set_group_values, without_wrapper
from hypergrad.core.schedule_file import Contents, Origin
from hypergrad.core.scheduler import HyperparameterScheduler
from hypergrad.core.strict_json import Node

__all__ = ["Schedule", "contributing_steps", "schedule_in"]

Value = float | tuple[float, ...]


class Schedule(Mapping[str, tuple[float, ...]]):
    """The coefficients of every hyperparameter, and the basis that makes them a value a step.

    It has no horizon: the same schedule stretches to any number of steps. A hyperparameter without
    coefficients is neither learned nor set: it stays at its optimiser's default.

    Args:
        values: Coefficients by name, in the order of the columns of Z.
        bases: Of those that are not windows, by name.
        learned_for: The training that the values suit; plain SGD unless given.
        origin: Where they come from, for people.

    Attributes:
        learned_for: The same. It is no part of what makes two schedules equal.
        origin: Likewise.

    Raises:
        ValueError: If a basis has another number of coefficients, or belongs to no value.

    >>> Schedule({"learning_rate": (0.1, 0.01), "momentum": (0.9,)}).at(5, horizon=10)
    {'learning_rate': 0.01, 'momentum': 0.9}
    """

    def __init__(
        self,
        values: Mapping[str, Sequence[float]],
        bases: Mapping[str, Basis] | None = None,
        learned_for: LearnedFor | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.learned_for = learned_for
        self.origin = origin
        self._values = {name: tuple(map(float, own)) for name, own in values.items()}
        self._bases = {name: Windows(len(own)) for name, own in self._values.items()} | dict(
            bases or {}
        )
        for name, basis in self._bases.items():
            if name not in self._values:
                raise ValueError(f"a basis for {name!r}, which is not among {list(self._values)}")
            given, wanted = len(self._values[name]), basis.count * basis.size
            if given != wanted:
                raise ValueError(f"{given} values of {name} for a basis of {wanted}: give {wanted}")

    def __getitem__(self, name: str) -> tuple[float, ...]:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return list(self.items()) == list(other.items()) and self._bases == other._bases

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        bases = {
            name: basis for name, basis in self._bases.items() if not isinstance(basis, Windows)
        }
        return f"Schedule({self._values}{f', {bases}' if bases else ''})"

    @classmethod
    def from_flat(
        cls,
        values: Sequence[float],
        bases: Mapping[str, Basis],
        learned_for: LearnedFor | None = None,
    ) -> "Schedule":
        """Return the schedule whose coefficients, one hyperparameter after another, are `values`.

        Raises:
            ValueError: If there are more or fewer of them.
        """
        total = sum(basis.count * basis.size for basis in bases.values())
        if len(values) != total:
            raise ValueError(f"{len(values)} values given for {total} hyperparameters")
        own, start = {}, 0
        for name, basis in bases.items():
            own[name] = tuple(values[start : start + basis.count * basis.size])
            start += basis.count * basis.size
        return cls(own, bases, learned_for)

    @property
    def bases(self) -> dict[str, Basis]:
        """The basis of every hyperparameter."""
        return dict(self._bases)

    @property
    def counts(self) -> dict[str, int]:
        """Coefficients of every hyperparameter."""
        return {name: len(own) for name, own in self._values.items()}

    @property
    def flat(self) -> tuple[float, ...]:
        """All coefficients: the order of the columns of Z."""
        return tuple(value for own in self._values.values() for value in own)

    def as_dict(self) -> dict[str, list[float]]:
        """Return a mapping from name to coefficients, ready for JSON."""
        return {name: list(own) for name, own in self._values.items()}

    def at(self, step: int, horizon: int) -> dict[str, Value]:
        """Return the values in use at one inner step.

        Args:
            step: `t`, 0-based inner step.
            horizon: `T`, inner steps.

        Returns:
            A number by name, or a tuple of them where the basis is of a vector.

        Raises:
            ValueError: If `step` is outside the horizon.
        """
        if not 0 <= step < horizon:
            raise ValueError(f"step {step} is outside the horizon 0..{horizon - 1}")
        return {
            name: _value(own, self._bases[name], step, horizon)
            for name, own in self._values.items()
            if own
        }

    def loss_values(self, step: int, horizon: int) -> dict[str, Value]:
        """Return the values of one inner step that the loss asks for, as it calls them.

        Args:
            step: 0-based.
            horizon: `T`, inner steps.
        """
        values = self._all_at(step, horizon)
        return {target: values[name] for target, name in self._known.of_loss.items()}

    def apply(self, optimizer: Settable, step: int, horizon: int) -> None:
        """Set the values of one step in an optimiser of PyTorch: call it before every `step()`.

        What belongs to the loss is for the training loop: see `loss_values`.

        Args:
            optimizer: As the schedule was learned for: SGD without dampening or Nesterov, unless
                `learned_for` says otherwise. From `optimizer`, or any whose parameters share all
                their values.
            step: 0-based step of that loop.
            horizon: Its number of steps; the schedule stretches to it.

        Raises:
            ValueError: For another optimiser or other settings, parameter groups with values of
                their own, and values that it does not take.
        """
        optimizer, values = without_wrapper(optimizer), self._all_at(step, horizon)
        setters = self._known.setters(optimizer, self._given)
        for group, names in zip(optimizer.param_groups, setters, strict=True):
            own = {target: values[name] for target, name in names.items()}
            used = {target for target, name in names.items() if any(self._coefficients(name))}
            set_group_values(type(optimizer).__name__, group, own, used)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser that the schedule was learned for, for the same network.

        It has the class, the options, the groups of parameters and all other values that the
        schedule was learned with. Under `hyperparameters` each group says which of them set what.

        Args:
            model: The network, wrapped or not.

        Returns:
            An optimiser of `torch.optim`, with the values of a first step.

        Raises:
            ValueError: For a rule that PyTorch lacks, a network with other trainable parameters,
                or groups that are not recorded.
        """
        known, inside = self._known, unwrapped(model)
        parameters = {name: p for name, p in inside.named_parameters() if p.requires_grad}
        groups = known.parameter_groups(parameters, self._given)
        optimizer = made(known.kind, known.options, groups)
        for group in optimizer.param_groups:
            set_group_values(known.kind, group, known.values, used=())
        steps = self.origin.steps if self.origin else None
        self.apply(optimizer, 0, steps or max(1, *self.counts.values()))
        return optimizer

    def scheduler(
        self, optimizer: torch.optim.Optimizer, horizon: int, last_epoch: int = -1
    ) -> HyperparameterScheduler:
        """Return what sets all values of an optimiser: step it after every step of that.

        Args:
            optimizer: As for `apply`.
            horizon: Steps of the training; the schedule stretches to it.
            last_epoch: As of any scheduler of PyTorch; -1 starts.

        Raises:
            ValueError: As `apply`, and for a horizon without a step.
        """
        return HyperparameterScheduler(optimizer, self, horizon, last_epoch)

    def clip(self, parameters: Iterable[Tensor]) -> None:
        """Clip gradients as in the training that the schedule was learned on: after `backward()`.

        Args:
            parameters: All that the optimiser steps. Their gradients are changed in place, where
                that training clipped them.

        Raises:
            ValueError: If it is not known how, or the clip is the user's own.
        """
        if self._known.clip is None:
            raise ValueError(
                "how gradients were clipped is not recorded with this schedule: clip them as the "
                "run's method.clip_gradient or method.clip_norm says"
            )
        clip_gradients(self._known.clip, parameters)

    def save(self, path: str | Path) -> None:
        """Write the schedule to a file that travels: all that an ordinary script needs of it.

        Args:
            path: A JSON file; one that is there is replaced.

        Raises:
            ValueError: For values that are not finite, and a basis or a gradient transform of
                one's own, which is code.
            OSError: If the file cannot be written.
        """
        schedule_file.write(path, self.contents)

    @classmethod
    def load(cls, path: str | Path) -> "Schedule":
        """Read a file that `save` or `hypergrad export` wrote.

        Raises:
            ValueError: In one line: for another file, another version, and damage.
        """
        return cls(*schedule_file.read(path))

    @property
    def contents(self) -> Contents:
        """What a file of it holds."""
        return Contents(dict(self._values), self.bases, self.learned_for, self.origin)

    @property
    def _known(self) -> LearnedFor:
        return self.learned_for or PLAIN

    @property
    def _given(self) -> list[str]:
        """The hyperparameters that have values."""
        return [name for name, own in self._values.items() if own]

    def _coefficients(self, name: str) -> tuple[float, ...]:
        return self._values[name] if name in self._values else self._known.fixed[name].values

    def _all_at(self, step: int, horizon: int) -> dict[str, Value]:
        """All values of a step by name: of what is learned, and of what is not."""
        fixed = {
            name: _value(each.values, each.basis, step, horizon)
            for name, each in self._known.fixed.items()
        }
        return {**fixed, **self.at(step, horizon)}

    def columns(self) -> Iterator[tuple[str, int, float]]:
        """Yield (name, index, coefficient) in the order of the columns of Z."""
        for name, own in self._values.items():
            for index, value in enumerate(own):
                yield name, index, value

    def is_finite(self) -> bool:
        """Whether every coefficient is a finite number."""
        return all(map(math.isfinite, self.flat))


def contributing_steps(
    bases: Mapping[str, Basis], horizon: int, truncation: float = 0.0
) -> tuple[float, ...]:
    """Return by what each coefficient's hypergradient is divided, hyperparameter by hyperparameter.

    Args:
        bases: By name, in the order of `Schedule.columns`.
        horizon: `T`, inner steps.
        truncation: `tau` in [0, 1).

    Raises:
        ValueError: If a basis has more functions than there are steps.
    """
    return tuple(
        steps
        for basis in bases.values()
        for steps in bases_.contributing_steps(basis, horizon, truncation)
    )


def _value(own: tuple[float, ...], basis: Basis, step: int, horizon: int) -> Value:
    weights = basis.weights(step, horizon)
    if basis.size > 1 or isinstance(basis, bases_.Vector):
        size = basis.size
        return tuple(sum(w * own[i * size + j] for i, w in weights) for j in range(size))
    if len(weights) == 1 and weights[0][1] == 1:
        return own[weights[0][0]]
    return sum(weight * own[i] for i, weight in weights)


def schedule_in(entry: Mapping) -> Schedule:
    """Return the schedule in an entry of a run's `schedule.json`, which holds more beside it."""
    values = {name: own for name, own in entry.items() if isinstance(own, list)}
    bases = {name: basis_from(kept) for name, kept in entry.get("bases", {}).items()}
    known = Node(entry.get("learned_for"), "learned_for")
    return Schedule(values, bases, known.optional(schedule_file.learned_for_from))
