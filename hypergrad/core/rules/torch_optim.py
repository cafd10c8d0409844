"""Where PyTorch's own optimisers keep the values that rules name, and what a schedule fits."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["PLAIN", "LearnedFor", "Settable", "check_values", "set_group_values", "set_values"]

PLACES: Mapping[str, Mapping[str, str]] = {
    "SGD": {"learning_rate": "lr", "momentum": "momentum", "weight_decay": "weight_decay"},
    "Adam": {
        "learning_rate": "lr",
        "beta1": "betas",
        "beta2": "betas",
        "epsilon": "eps",
        "weight_decay": "weight_decay",
    },
    "RMSprop": {
        "learning_rate": "lr",
        "smoothing": "alpha",
        "momentum": "momentum",
        "epsilon": "eps",
        "weight_decay": "weight_decay",
    },
}
PLACES = {**PLACES, "AdamW": PLACES["Adam"]}


# What changes the update itself: off, unless a schedule was learned with it.
SWITCHES = {
    "nesterov": False,
    "dampening": 0,
    "centered": False,
    "maximize": False,
    "amsgrad": False,
}


@dataclass(frozen=True)
class LearnedFor:
    """The optimiser that a schedule was learned for.

    Attributes:
        kind: Name of its class in `torch.optim`; empty for a rule that PyTorch does not have.
        options: What it is made with, beside values: `nesterov`, `dampening`, `centered`.
        values: Those that were not learned and stay the same, by the rule's names.
    """

    kind: str
    options: Mapping[str, bool | float] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def check(self, optimizer: "Settable", set_by_schedule: Collection[str]) -> None:
        """Refuse another optimiser, or one with other settings.

        Args:
            optimizer: Of PyTorch.
            set_by_schedule: The rule's names of the values that the schedule sets.

        Raises:
            ValueError: With what differs.
        """
        kind = type(optimizer).__name__
        if not self.kind:
            raise ValueError(
                f"the schedule was learned for a rule of one's own, not for {kind}: set "
                "schedule.at(step, horizon) in that rule's optimizer"
            )
        if kind != self.kind:
            raise ValueError(
                f"the schedule was learned for {self.kind}, not for {kind}: what suits one is "
                f"wrong for the other; train with torch.optim.{self.kind}"
            )
        for number, group in enumerate(optimizer.param_groups):
            for name, off in SWITCHES.items():
                wanted = self.options.get(name, off)
                if group.get(name, off) != wanted:
                    raise ValueError(
                        f"the schedule was learned with {name}={wanted}, and the optimizer has "
                        f"{name}={group[name]}: train with {name}={wanted}"
                    )
            for name, wanted in self.values.items():
                found = _value_in(kind, group, name)
                if name not in set_by_schedule and found != wanted:
                    raise ValueError(
                        f"the schedule was learned with {name}={wanted:g}, and parameter group "
                        f"{number} has {name}={found:g}: train with {name}={wanted:g}"
                    )
        first, *others = optimizer.param_groups
        for group in others:
            for name in set_by_schedule:
                one, other = _value_in(kind, first, name), _value_in(kind, group, name)
                if one != other and {one, other} != {0.0, sys.float_info.min}:
                    raise ValueError(
                        f"the parameter groups have {name}={one:g} and {other:g}; a schedule "
                        "that was learned for all parameters together would overwrite both: give "
                        "all groups one value, or learn with a hyperparameter for each group"
                    )


PLAIN = LearnedFor("SGD", {}, {"momentum": 0.0, "weight_decay": 0.0})  # where nothing is known


def _value_in(kind: str, group: Mapping, name: str) -> float:
    value = group[PLACES[kind][name]]
    return value[int(name[-1]) - 1] if isinstance(value, tuple) else float(value)


class Settable(Protocol):
    """An optimiser of PyTorch."""

    param_groups: list[dict]


def set_values(optimizer: Settable, values: Mapping[str, object], used: Collection[str]) -> None:
    """Set values of a rule in every parameter group of a PyTorch optimiser.

    Args:
        optimizer: `torch.optim.SGD`, `Adam`, `AdamW` or `RMSprop`.
        values: By the rule's names.
        used: Those that are not zero in every step of the training. At a momentum of exactly zero
            torch leaves its velocity as it was, stale for a later step: then it is given the
            smallest number.

    Raises:
        ValueError: For another optimiser, or values that it does not take.
    """
    kind = type(optimizer).__name__
    check_values(kind, values)
    for group in optimizer.param_groups:
        set_group_values(kind, group, values, used)


def check_values(kind: str, values: Mapping[str, object]) -> None:
    """Refuse values that an optimiser of PyTorch does not take.

    Args:
        kind: Name of its class.
        values: By the rule's names.

    Raises:
        ValueError: With those that it takes.
    """
    if kind not in PLACES:
        raise ValueError(f"a schedule is for one of {', '.join(PLACES)} of torch.optim, not {kind}")
    unknown = [name for name in values if name not in PLACES[kind]]
    if unknown:
        raise ValueError(
            f"{kind} takes no {', '.join(unknown)}: it takes {', '.join(PLACES[kind])}; what "
            "belongs to the loss or to some of the parameters is for the training loop to set"
        )


def set_group_values(
    kind: str, group: dict, values: Mapping[str, object], used: Collection[str]
) -> None:
    """Set values of a rule in one parameter group.

    Args:
        kind: Name of the optimiser's class.
        group: The group.
        values: As for `set_values`, all of which the optimiser takes.
        used: Likewise.
    """
    places = PLACES[kind]
    for name, value in values.items():
        if places[name] == "betas":
            betas = list(group["betas"])
            betas[int(name[-1]) - 1] = value
            group["betas"] = tuple(betas)
        elif name == "momentum" and value == 0 and name in used:
            group["momentum"] = sys.float_info.min
        else:
            group[places[name]] = value
