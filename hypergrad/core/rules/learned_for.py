"""What a schedule was learned for, beside its values: optimiser, groups of parameters, clip."""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from hypergrad.core.basis import Basis
from hypergrad.core.gradient_transforms import GradientTransform, NoClip
from hypergrad.core.rules.torch_optim import (
    SWITCHES,
    Settable,
    check_values,
    group_value,
)

__all__ = ["PLAIN", "SETTERS", "Fixed", "Group", "LearnedFor"]

SETTERS = "hyperparameters"  # the entry of a parameter group of torch that says what sets it
NAMED = 4  # parameters that a refusal names


class Fixed(NamedTuple):
    """A hyperparameter that is declared and not learned.

    Attributes:
        values: Its coefficients.
        basis: What makes them a value a step.
    """

    values: tuple[float, ...]
    basis: Basis


@dataclass(frozen=True)
class Group:
    """Parameters that share all their values.

    Attributes:
        hyperparameters: Names of those that set a value, by the rule's name of the value.
        parameters: Their names in the network; empty for all that it has.
    """

    hyperparameters: Mapping[str, str]
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class LearnedFor:
    """The training that a schedule was learned for.

    Attributes:
        kind: Name of the optimiser's class in `torch.optim`; empty for a rule that PyTorch lacks.
        options: What changes its update: `nesterov`, `dampening`, `centered`.
        values: Those that no hyperparameter sets, at least for some of the parameters, by the
            rule's names.
        groups: Which hyperparameters set what; empty where that is not recorded.
        of_loss: Names of the hyperparameters of the loss, by what the loss calls them.
        fixed: The hyperparameters that are not learned, by name.
        clip: What is done to the gradient; None where that is not recorded.
    """

    kind: str
    options: Mapping[str, bool | float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    of_loss: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Fixed] = field(default_factory=dict)
    clip: GradientTransform | None = None

    def check_names(self, learned: Collection[str]) -> None:
        """Refuse names and values that do not fit each other.

        Args:
            learned: The hyperparameters of the schedule.

        Raises:
            ValueError: With the first that is wrong.
        """
        if self.kind:
            options = {name for name in self.options if name not in SWITCHES}
            if options:
                raise ValueError(f"no option {', '.join(sorted(options))}: {', '.join(SWITCHES)}")
            check_values(self.kind, self.values)
        seen: set[str] = set()
        for group in self.groups:
            if self.kind:
                check_values(self.kind, group.hyperparameters)
            twice = {n for n, times in Counter(group.parameters).items() if times > 1}
            twice |= seen.intersection(group.parameters)
            if twice or (len(self.groups) > 1 and not group.parameters):
                raise ValueError(f"two groups hold {_some(twice) or 'all parameters'}")
            seen.update(group.parameters)
        known = {*learned, *self.fixed}
        for names in (self.of_loss, *(group.hyperparameters for group in self.groups)):
            unknown = [name for name in names.values() if name not in known]
            if unknown:
                raise ValueError(f"{unknown[0]!r} sets a value, but has none")

    def parameter_groups(
        self, parameters: Mapping[str, nn.Parameter], learned: Collection[str]
    ) -> list[dict[str, Any]]:
        """Return the parameter groups of an optimiser of PyTorch for a network.

        Args:
            parameters: Its trainable parameters, by name.
            learned: The hyperparameters of the schedule that have values.

        Returns:
            Of each group its `params`, and under `SETTERS` which hyperparameters set what.

        Raises:
            ValueError: For a rule that PyTorch lacks, groups that are not recorded, and parameters
                other than those of the network that the schedule was learned for.
        """
        self._check_kind()
        groups = self.groups or (Group(self._together(learned)),)
        names = {name for group in groups for name in group.parameters}
        if names:
            missing = [name for name in names if name not in parameters]
            unknown = [name for name in parameters if name not in names]
            if missing or unknown:
                differs = [f"lacks {_some(missing)}"] if missing else []
                differs += [f"has {_some(unknown)}"] if unknown else []
                raise ValueError(
                    "the schedule was learned for a network with other trainable parameters: this "
                    f"one {' and '.join(differs)}; give the one that it was learned for, or make "
                    f"torch.optim.{self.kind} by hand if all parameters share their values"
                )
        return [
            {
                "params": [parameters[name] for name in group.parameters or parameters],
                SETTERS: dict(group.hyperparameters),
            }
            for group in groups
        ]

    def setters(self, optimizer: Settable, learned: Collection[str]) -> list[Mapping[str, str]]:
        """Return what sets the values of each parameter group, if the optimiser is the one.

        Args:
            optimizer: Of PyTorch; its groups are those of `parameter_groups`, or have none of
                their own and one value each in common.
            learned: The hyperparameters of the schedule that have values.

        Returns:
            Of each group the names of hyperparameters, by the rule's names of the values.

        Raises:
            ValueError: With what differs: optimiser, settings, groups.
        """
        kind, groups = type(optimizer).__name__, optimizer.param_groups
        own = [group.get(SETTERS) for group in groups]
        found = [self._together(learned) if each is None else each for each in own]
        for each in found:
            check_values(kind, each)
        self._check_kind(kind)
        for number, (group, each) in enumerate(zip(groups, found, strict=True)):
            self._check_group(kind, number, group, each)
        self._check_complete(found, learned)
        alike = [group for group, each in zip(groups, own, strict=True) if each is None]
        if alike:
            _check_alike(kind, alike, self._together(learned))
        return found

    def _together(self, learned: Collection[str]) -> Mapping[str, str]:
        """What sets the values of all parameters together."""
        if len(self.groups) > 1:
            names = dict.fromkeys(n for g in self.groups for n in g.hyperparameters.values())
            raise ValueError(
                f"the schedule has values of some of the parameters ({', '.join(names)}): make "
                "the optimizer with schedule.optimizer(model), which divides them"
            )
        return self.groups[0].hyperparameters if self.groups else {n: n for n in learned}

    def _check_kind(self, kind: str | None = None) -> None:
        if not self.kind:
            raise ValueError(
                "the schedule was learned for a rule of one's own, not for "
                f"{kind or 'one of torch.optim'}: set schedule.at(step, horizon) in that rule's "
                "optimizer"
            )
        if kind not in (None, self.kind):
            raise ValueError(
                f"the schedule was learned for {self.kind}, not for {kind}: what suits one is "
                f"wrong for the other; train with torch.optim.{self.kind}"
            )

    def _check_group(
        self, kind: str, number: int, group: Mapping[str, Any], setters: Mapping[str, str]
    ) -> None:
        for name, off in SWITCHES.items():
            wanted = self.options.get(name, off)
            if group.get(name, off) != wanted:
                raise ValueError(
                    f"the schedule was learned with {name}={wanted}, and the optimizer has "
                    f"{name}={group[name]}: train with {name}={wanted}"
                )
        for name, wanted in self.values.items():
            if name in setters:
                continue
            found = group_value(kind, group, name)
            if found != wanted:
                raise ValueError(
                    f"the schedule was learned with {name}={wanted:g}, and parameter group "
                    f"{number} has {name}={found:g}: train with {name}={wanted:g}"
                )

    def _check_complete(self, found: Sequence[Mapping[str, str]], learned: Collection[str]) -> None:
        """Refuse groups of another schedule, and values that would be set nowhere."""
        given = {name for setters in found for name in setters.values()}
        unknown = [name for name in given if name not in learned and name not in self.fixed]
        if unknown:
            raise ValueError(
                f"a parameter group is set by {_some(unknown)}, which the schedule does not have: "
                "make the optimizer with this schedule.optimizer(model)"
            )
        unused = [name for name in learned if name not in {*given, *self.of_loss.values()}]
        if unused:
            raise ValueError(
                f"no parameter group is set by {_some(unused)} of the schedule: make the "
                "optimizer with this schedule.optimizer(model)"
            )


# Where nothing is known.
PLAIN = LearnedFor("SGD", {}, {"momentum": 0.0, "weight_decay": 0.0}, clip=NoClip())


def _check_alike(
    kind: str, groups: Sequence[Mapping[str, Any]], setters: Mapping[str, str]
) -> None:
    """Refuse values of some of the parameters that a schedule of all of them would overwrite."""
    first, *others = groups
    for group in others:
        for name in setters:
            one, other = group_value(kind, first, name), group_value(kind, group, name)
            if one != other and {one, other} != {0.0, sys.float_info.min}:
                raise ValueError(
                    f"the parameter groups have {name}={one:g} and {other:g}; a schedule "
                    "that was learned for all parameters together would overwrite both: give "
                    "all groups one value, or learn with a hyperparameter for each group"
                )


def _some(names: Collection[str]) -> str:
    """A few of some names, for a line."""
    first = sorted(names)[:NAMED]
    return ", ".join(first) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
