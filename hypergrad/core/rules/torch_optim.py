"""Where PyTorch's own optimisers keep the values that rules name."""

import sys
from collections.abc import Collection, Mapping
from typing import Protocol

__all__ = ["Settable", "set_group_values", "set_values"]

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
    if kind not in PLACES:
        raise ValueError(f"a schedule is for one of {', '.join(PLACES)} of torch.optim, not {kind}")
    places = PLACES[kind]
    unknown = [name for name in values if name not in places]
    if unknown:
        raise ValueError(
            f"{kind} takes no {', '.join(unknown)}: it takes {', '.join(places)}; what belongs to "
            "the loss or to some of the parameters is for the training loop to set"
        )
    for group in optimizer.param_groups:
        set_group_values(kind, group, values, used)


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
