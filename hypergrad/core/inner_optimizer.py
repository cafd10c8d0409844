"""The inner optimiser: a rule, what is done to its gradient, and which values are set for what."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hypergrad.core.basis import Basis, per_step
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import GradientTransform, NoClip
from hypergrad.core.hyperparameters import Hyperparameter
from hypergrad.core.rules import DEFAULT, Rule
from hypergrad.core.rules.check import check_rule
from hypergrad.core.rules.learned_for import Fixed, Group, LearnedFor
from hypergrad.core.schedule import Schedule, Value

__all__ = ["Assignment", "BoundOptimizer", "InnerOptimizer", "StepValues"]


@dataclass(frozen=True)
class InnerOptimizer:
    """An optimiser whose hyperparameters are declared, but have no values yet.

    Attributes:
        rule: The update.
        hyperparameters: What is set, for the rule or for the loss; what a rule takes and nobody
            sets stays at its default.
        transform: Of the gradient, before the rule sees it.

    Raises:
        ValueError: If two hyperparameters have one name.
    """

    rule: Rule = DEFAULT
    hyperparameters: tuple[Hyperparameter, ...] = ()
    transform: GradientTransform = NoClip()

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", tuple(self.hyperparameters))
        names = [declared.name for declared in self.hyperparameters]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two hyperparameters are named {name!r}: give each its own name")

    @property
    def bases(self) -> dict[str, Basis]:
        """The bases of all that is learned, by name, in the order of the declarations."""
        return {each.name: each.over for each in self.hyperparameters if each.learned}

    def learned(self, horizon: int | None = None) -> list[Hyperparameter]:
        """Return what is learned.

        Args:
            horizon: Inner steps, for a value of each step's own in place of the bases.
        """
        learned = [each for each in self.hyperparameters if each.learned and each.over.count]
        if horizon is None:
            return learned
        return [replace(each, basis=per_step(each.over, horizon)) for each in learned]

    def learned_for(self, model: FlatModel | None = None) -> LearnedFor:
        """Return the training that a schedule of this optimiser suits.

        Args:
            model: The network; without one, groups that have values of their own are not known.
        """
        known, groups = self.rule.in_torch, self._groups(model)
        fixed = {
            e.name: Fixed(e.coefficients, e.over) for e in self.hyperparameters if not e.learned
        }
        of_loss = {e.target: e.name for e in self.hyperparameters if not self._of_rule(e)}
        set_everywhere = {
            name
            for name in self.rule.defaults
            if groups and all(name in group.hyperparameters for group in groups)
        }
        values = {
            name: value
            for name, value in self.rule.defaults.items()
            if name not in set_everywhere and not math.isnan(value)
        }
        kind, options = "", {}
        if known is not None:
            kind = known.kind.__name__
            options = {n: v for n, v in known.options.items() if n not in self.rule.defaults}
        return LearnedFor(kind, options, values, groups, of_loss, fixed, self.transform)

    def _of_rule(self, declared: Hyperparameter) -> bool:
        return declared.target in self.rule.defaults

    def _groups(self, model: FlatModel | None) -> tuple[Group, ...]:
        """Which hyperparameters set what of which parameters; empty if that cannot be told."""
        own = [each for each in self.hyperparameters if self._of_rule(each)]
        if model is None:
            alike = all(each.where is None for each in own)
            return (Group({each.target: each.name for each in own}),) if alike else ()
        divided: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for name, parameter in model.trainable().items():
            chosen = [each for each in own if each.where is None or each.where(name, parameter)]
            setters = tuple((each.target, each.name) for each in chosen)
            divided.setdefault(setters, []).append(name)
        return tuple(Group(dict(setters), tuple(names)) for setters, names in divided.items())

    def start(self) -> Schedule:
        """Return the schedule of all starting values that are learned."""
        values = {each.name: each.coefficients for each in self.hyperparameters if each.learned}
        return Schedule(values, self.bases, self.learned_for())

    @property
    def moves_at_start(self) -> bool:
        """Whether the parameters can move at the starting values."""
        rates = [each for each in self.hyperparameters if each.target == self.rule.rate]
        grouped = all(each.where is not None for each in rates)
        default = self.rule.defaults.get(self.rule.rate or "", 1.0)
        moves = grouped and default != 0 and not math.isnan(default)
        return moves or any(any(each.coefficients) for each in rates)

    def bind(self, model: FlatModel, schedule: Schedule) -> "BoundOptimizer":
        """Return the optimiser for one network, and for schedules of one form.

        Args:
            model: The network.
            schedule: Gives the names, in the order of the columns of Z. A name that is not declared
                sets the value of that name for all parameters.

        Raises:
            ValueError: For a rule that cannot be differentiated through; for a value that is set
                twice for a parameter, or not at all though the rule needs it; for `where` on a
                hyperparameter of the loss, or one that fits nothing.
        """
        check_rule(self.rule)
        declared = {each.name: each for each in self.hyperparameters}
        missing = [n for n, each in declared.items() if each.learned and n not in schedule]
        if missing:
            raise ValueError(f"the schedule has no {', '.join(missing)}, though it is declared")
        own = [declared.get(name) or Hyperparameter(name) for name in schedule if schedule[name]]
        fixed = [each for name, each in declared.items() if name not in schedule]
        bases = schedule.bases | {each.name: each.over for each in fixed}
        assignments = tuple(
            _assignment(self.rule, each, model, bases[each.name].size) for each in (*own, *fixed)
        )
        _check_coverage(self.rule, assignments)
        constants = Schedule(
            {each.name: each.coefficients for each in fixed},
            {each.name: each.over for each in fixed},
        )
        return BoundOptimizer(self, assignments, constants, model.size)


@dataclass(frozen=True)
class Assignment:
    """A hyperparameter, and what it sets in one network.

    Attributes:
        name: Of the hyperparameter.
        target: The value that it sets.
        of_loss: Whether the loss asks for it, rather than the rule.
        mask: `(D,)`, 1 for the parameters that it is set for; None for all.
        size: Entries of its value.
    """

    name: str
    target: str
    of_loss: bool
    mask: Tensor | None = field(compare=False)
    size: int = 1


class StepValues(NamedTuple):
    """What one inner step uses.

    Attributes:
        rule: All values of the rule, by name.
        loss: `(M,)` all values of the loss, one after another.
    """

    rule: Mapping[str, float | Tensor]
    loss: Tensor


@dataclass(frozen=True)
class BoundOptimizer:
    """An inner optimiser for one network.

    Attributes:
        declared: The optimiser.
        assignments: What each hyperparameter sets, those of the schedule first.
        fixed: The values of those that are not in the schedule.
        parameters: `D`.
    """

    declared: InnerOptimizer
    assignments: tuple[Assignment, ...]
    fixed: Schedule
    parameters: int

    @property
    def rule(self) -> Rule:
        """The update."""
        return self.declared.rule

    @property
    def transform(self) -> GradientTransform:
        """What is done to the gradient before."""
        return self.declared.transform

    @cached_property
    def by_name(self) -> dict[str, Assignment]:
        """The assignments by the names of their hyperparameters."""
        return {each.name: each for each in self.assignments}

    @cached_property
    def loss_entries(self) -> dict[str, slice]:
        """Where each hyperparameter of the loss lies among all values of the loss."""
        found, start = {}, 0
        for each in self.assignments:
            if each.of_loss:
                found[each.name] = slice(start, start + each.size)
                start += each.size
        return found

    @cached_property
    def loss_size(self) -> int:
        """`M`, values of the loss."""
        return sum(each.size for each in self.assignments if each.of_loss)

    @cached_property
    def learned(self) -> tuple[Assignment, ...]:
        """The assignments of the hyperparameters of the schedule."""
        return tuple(each for each in self.assignments if each.name not in self.fixed)

    @cached_property
    def targets(self) -> tuple[str, ...]:
        """The values of the rule that the schedule sets."""
        return tuple(dict.fromkeys(each.target for each in self.learned if not each.of_loss))

    def given(self, schedule: Schedule, step: int, horizon: int) -> dict[str, Value]:
        """Return all values of a step, by the names of their hyperparameters.

        Args:
            schedule: Of the form that the optimiser is bound for.
            step: 0-based.
            horizon: `T`, inner steps.
        """
        return {**schedule.at(step, horizon), **self.fixed.at(step, horizon)}

    def moves(self, schedule: Schedule, step: int, horizon: int) -> bool:
        """Whether the parameters can move in a step of a schedule."""
        given = self.given(schedule, step, horizon)
        return self._default_moves or any(given[name] != 0 for name in self._rates)

    def can_move(self, schedule: Schedule) -> bool:
        """Whether the parameters can move in any step of a schedule."""
        own = {**schedule, **self.fixed}
        return self._default_moves or any(any(own[name]) for name in self._rates)

    @cached_property
    def _rates(self) -> list[str]:
        return [each.name for each in self.assignments if self.is_rate(each.name)]

    @cached_property
    def _default_moves(self) -> bool:
        """Whether some parameters move at the rule's default, whatever is set."""
        rate = self.rule.rate
        if rate is None:
            return True
        masks = [self.by_name[name].mask for name in self._rates]
        return self.rule.defaults[rate] != 0 and not _covers(masks)

    def is_rate(self, name: str) -> bool:
        """Whether a hyperparameter is one without which nothing moves."""
        each = self.by_name[name]
        return not each.of_loss and each.target == self.rule.rate

    def step_values(self, given: Mapping[str, Value | Tensor], like: Tensor) -> StepValues:
        """Return what a step uses.

        Args:
            given: As from `given`; or tensors in place of numbers, where steps are recorded
                (scalars) or `K` models step together (`(K, 1)`).
            like: Gives the loss's values their type and device.
        """
        values: dict[str, float | Tensor] = dict(self.rule.defaults)
        for each in self.assignments:
            if each.of_loss:
                continue
            value = given[each.name]
            assert not isinstance(value, tuple), "a rule's values are numbers"
            if each.mask is None:
                values[each.target] = value
            else:
                others = values[each.target]
                if not isinstance(others, Tensor):  # NaN is overwritten: some group has each
                    others = like.new_full((self.parameters,), others)
                values[each.target] = torch.where(each.mask > 0, value, others)
        return StepValues(values, self._loss_values(given, like))

    def named(self, loss_values: Tensor) -> dict[str, Tensor]:
        """Return the values of the loss by name: scalars, or vectors of their size."""
        return {
            self.by_name[name].target: loss_values[..., entries]
            if self.by_name[name].size > 1
            else loss_values[..., entries.start]
            for name, entries in self.loss_entries.items()
        }

    def _loss_values(self, given: Mapping[str, Value | Tensor], like: Tensor) -> Tensor:
        own = [given[name] for name in self.loss_entries]
        if not own:
            return like.new_zeros(0)
        if any(isinstance(value, Tensor) for value in own):
            return torch.cat([torch.as_tensor(v).to(like).reshape(*_lead(v), -1) for v in own], -1)
        # Kept while they stay the same: making them from numbers waits for a GPU.
        key = tuple(_numbers(own)), like.dtype, like.device  # type: ignore[arg-type]
        if key not in self._kept:
            self._kept.clear()
            self._kept[key] = like.new_tensor(key[0])
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple, Tensor]:
        return {}


def _numbers(values: Sequence[Value]) -> Iterator[float]:
    for value in values:
        if isinstance(value, tuple):
            yield from value
        else:
            yield value


def _lead(value: object) -> tuple[int, ...]:
    """The dimensions of several models, of `(K, 1)` values."""
    return tuple(value.shape[:-1]) if isinstance(value, Tensor) else ()


def _assignment(rule: Rule, declared: Hyperparameter, model: FlatModel, size: int) -> Assignment:
    name, target = declared.name, declared.target
    of_loss = target not in rule.defaults
    if of_loss and declared.where is not None:
        raise ValueError(
            f"{name} has a `where`, but {rule.name} takes no {target}: it takes "
            f"{', '.join(rule.defaults)}, and what the loss asks for belongs to no parameter"
        )
    if not of_loss and size > 1:
        raise ValueError(f"{name} has {size} entries a step: a value of {rule.name} is a number")
    mask = None
    if declared.where is not None:
        mask = model.mask(declared.where)
        if not bool(mask.any()):
            raise ValueError(f"`where` of {name} is true for no parameter of the network")
        if bool(mask.all()):
            mask = None
    return Assignment(name, target, of_loss, mask, size)


def _check_coverage(rule: Rule, assignments: Sequence[Assignment]) -> None:
    """Refuse a value that is set twice for a parameter, or missing where it is needed."""
    of_loss = [each for each in assignments if each.of_loss]
    for each in of_loss:
        twice = [other.name for other in of_loss if other.target == each.target]
        if len(twice) > 1:
            raise ValueError(f"{' and '.join(twice)} set {each.target} of the loss: one must do")
    for target, default in rule.defaults.items():
        own = [each for each in assignments if each.target == target and not each.of_loss]
        if len(own) > 1:
            names = " and ".join(each.name for each in own)
            masks = [each.mask for each in own if each.mask is not None]
            if len(masks) < len(own) or bool((torch.stack(masks).sum(dim=0) > 1).any()):
                raise ValueError(
                    f"{names} set {target} for the same parameters: make them disjoint"
                )
        if math.isnan(default):
            if not _covers([each.mask for each in own]):
                raise ValueError(
                    f"{rule.name} needs a {target} for every parameter: "
                    f"declare a hyperparameter {target!r}"
                )


def _covers(masks: Sequence[Tensor | None]) -> bool:
    """Whether every parameter is in one of some masks."""
    parts = [mask for mask in masks if mask is not None]
    return len(parts) < len(masks) or (bool(parts) and bool(torch.stack(parts).sum(dim=0).all()))
