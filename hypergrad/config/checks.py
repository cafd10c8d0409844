"""Checks of settings: each refuses a value in one line that names its key and what it may be."""

import math
from collections.abc import Sequence

from hypergrad.core.budget import Budget

__all__ = [
    "ConfigError",
    "a_budget",
    "at_least",
    "between",
    "not_negative",
    "one_of",
    "positive",
]


class ConfigError(ValueError):
    """A configuration that cannot be run; its text is one line that names the remedy."""


def a_budget(key: str, text: str) -> None:
    """Refuse what is no budget."""
    try:
        Budget.parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}={text}: {error}") from error


def at_least(key: str, value: int | None, low: int) -> None:
    """Refuse an integer below a limit; None passes."""
    if value is not None and value < low:
        raise ConfigError(f"{key}={value}: must be at least {low}")


def positive(key: str, value: float | None) -> None:
    """Refuse zero, negative and infinite numbers; None passes."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{key}={value}: must be above zero and finite")


def not_negative(key: str, value: float) -> None:
    """Refuse negative and infinite numbers."""
    if not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{key}={value}: must be zero or more, and finite")


def between(key: str, value: float, low: float, high: float, open_low: bool = False) -> None:
    """Refuse what is not in [low, high), or (low, high)."""
    if not (low < value < high or (value == low and not open_low)):
        raise ConfigError(f"{key}={value}: must be in {'(' if open_low else '['}{low}, {high})")


def one_of(key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse other words."""
    if value not in allowed:
        raise ConfigError(f"{key}={value}: use one of {', '.join(allowed)}")
