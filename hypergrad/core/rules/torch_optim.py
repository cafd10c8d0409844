"""Where PyTorch's own optimisers keep the values that rules name."""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = [
    "PLACES",
    "SWITCHES",
    "Settable",
    "check_values",
    "group_value",
    "made",
    "set_group_values",
    "without_wrapper",
]

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


class Settable(Protocol):
    """An optimiser of PyTorch."""

    param_groups: list[dict]


def without_wrapper(optimizer: Settable) -> Settable:
    """Return the optimiser of PyTorch inside those that Accelerate or Lightning hand out."""
    while type(optimizer).__name__ not in PLACES and hasattr(optimizer, "optimizer"):
        optimizer = optimizer.optimizer  # type: ignore[attr-defined]
    return optimizer


def made(
    kind: str, options: Mapping[str, bool | float], groups: Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Return an optimiser of PyTorch whose values are still to be set.

    Args:
        kind: Name of its class, one of `PLACES`.
        options: What changes its update, of `SWITCHES`.
        groups: Its parameter groups.
    """
    # Without a momentum at the start torch keeps no velocity, and refuses Nesterov's.
    start = {"momentum": 0.5} if "momentum" in PLACES[kind] else {}
    return getattr(torch.optim, kind)(list(groups), lr=1.0, **start, **options)


def group_value(kind: str, group: Mapping[str, Any], name: str) -> float:
    """Return a value of a parameter group by the rule's name of it."""
    value = group[PLACES[kind][name]]
    return value[int(name[-1]) - 1] if isinstance(value, tuple | list) else float(value)


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
        values: By the rule's names; the optimiser takes all of them.
        used: Those that are not zero in every step of the training. At a momentum of exactly zero
            torch leaves its velocity as it was, stale for a later step: then it is given the
            smallest number.
    """
    places = PLACES[kind]
    for name, value in values.items():
        if places[name] == "betas":
            betas = list(group["betas"])
            betas[int(name[-1]) - 1] = value
            group["betas"] = tuple(betas)
        elif name == "momentum" and value == 0 and name in used:
            group["momentum"] = sys.float_info.min
        elif isinstance(place := group[places[name]], Tensor):
            place.fill_(value)  # type: ignore[arg-type]  # compiled and captured steps look there
        else:
            group[places[name]] = value
