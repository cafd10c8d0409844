"""What a setting may be: rules that stand beside its type, and the walk that applies them.

A rule says what is wrong with a value, or None: `batch_size: Annotated[int, at_least(1)]`.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from typing import Annotated, get_args, get_origin, get_type_hints

from hypergrad.core.budget import Budget
from hypergrad.runs.shown import short

__all__ = [
    "ConfigError",
    "a_budget",
    "at_least",
    "at_most",
    "between",
    "check",
    "distinct",
    "matches",
    "not_negative",
    "one_of",
    "positive",
]


SHOWN = 60  # characters of a value in an error
_KINDS: dict[object, tuple[type, ...]] = {
    list: (list,),
    dict: (dict,),
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
}
_WORDS: dict[object, str] = {
    list: "a list, such as [1,2]",
    dict: "a mapping of names to values",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line that names the remedy."""


def check(value: object, hint: object, key: str = "") -> None:
    """Refuse a value that breaks a rule of its type, or holds one that does.

    Args:
        value: A dataclass, or the value of one of its fields.
        hint: Its type, with the rules in it.
        key: Its dotted name.

    Raises:
        ConfigError: For the first one; the text names its key.

    >>> check([3, 0], list[Annotated[int, at_least(1)]], "outer.first_horizons")
    Traceback (most recent call last):
    hypergrad.config.checks.ConfigError: outer.first_horizons=0: must be at least 1
    """
    inner = get_args(hint)
    _check_kind(value, hint, key)
    if is_dataclass(hint):
        for name, own in get_type_hints(hint, include_extras=True).items():
            check(getattr(value, name), own, f"{key}.{name}".lstrip("."))
    elif get_origin(hint) is Annotated:
        _check_kind(value, inner[0], key)
        for rule in inner[1:]:
            if wrong := rule(value):
                raise ConfigError(f"{key}={short(value, SHOWN)}: {wrong}")
        check(value, inner[0], key)
    elif isinstance(value, list):
        for each in value:
            check(each, inner[0], key)
    elif isinstance(value, dict):
        for name, each in value.items():
            check(each, inner[1], f"{key}.{name}")
    elif value is not None and type(None) in inner:
        check(value, inner[0], key)


def _check_kind(value: object, hint: object, key: str) -> None:
    """Refuse what stands in the place of a group, list or mapping and is none, as by `${seed}`."""
    kind = get_origin(hint) or hint
    if is_dataclass(kind) and isinstance(kind, type) and not isinstance(value, kind):
        raise ConfigError(f"{key}={short(value, SHOWN)}: must be a group of settings")
    if kind in _KINDS and not isinstance(value, _KINDS[kind]):
        raise ConfigError(f"{key}={short(value, SHOWN)}: must be {_WORDS[kind]}")


def at_most(high: int) -> Callable[[int], str | None]:
    """Not above a limit."""
    return lambda value: None if value <= high else f"must be at most {high:,}"


def at_least(low: int) -> Callable[[int], str | None]:
    """Not below a limit."""
    return lambda value: None if value >= low else f"must be at least {low}"


def between(low: float, high: float, ends: str = "[)") -> Callable[[float], str | None]:
    """In an interval whose ends belong to it or not: `[)`, `()`, `(]`."""

    def rule(value: float) -> str | None:
        inside = low < value < high or (value, ends[0]) == (low, "[")
        if inside or (value, ends[1]) == (high, "]"):
            return None
        return f"must be in {ends[0]}{low}, {high}{ends[1]}"

    return rule


def positive(value: float) -> str | None:
    """Above zero and finite."""
    return None if value > 0 and math.isfinite(value) else "must be above zero and finite"


def not_negative(value: float) -> str | None:
    """Zero or more, and finite."""
    return None if value >= 0 and math.isfinite(value) else "must be zero or more, and finite"


def one_of(*words: str) -> Callable[[str], str | None]:
    """One of some words."""
    return lambda value: None if value in words else f"use one of {', '.join(words)}"


def matches(pattern: str, remedy: str) -> Callable[[str], str | None]:
    """Of a form."""
    return lambda value: None if re.fullmatch(pattern, value) else remedy


def distinct(values: Sequence[object]) -> str | None:
    """Not empty, and nothing twice."""
    if not values:
        return "is empty: name some, each once"
    repeated = len(set(values)) < len(values)
    return "names one twice: name some, each once" if repeated else None


def a_budget(text: str) -> str | None:
    """What `Budget.parse` reads."""
    try:
        Budget.parse(text)
    except ValueError as error:
        return str(error)
    return None
