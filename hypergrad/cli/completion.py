"""What the shell offers at the tab key: experiments, searches' data sets, settings and choices."""

from collections.abc import Sequence

__all__ = ["data_sets", "experiments", "overrides"]


def experiments(incomplete: str) -> list[str]:
    """Experiments that begin so."""
    return _beginning(incomplete, _choices("experiment"))


def data_sets(incomplete: str) -> list[str]:
    """What `hypergrad baselines` searches on."""
    return _beginning(incomplete, _choices("experiment/baselines"))


def overrides(args: list[str], incomplete: str) -> list[str]:
    """Settings with their `=`; after it, the choices of a group.

    Args:
        args: The words before. Bash makes three of `data=mnist`: `data`, `=`, `mnist`.
        incomplete: The word at the cursor.
    """
    if incomplete == "=" and args:
        return _choices(args[-1])
    if len(args) > 1 and args[-1] == "=":
        return _beginning(incomplete, _choices(args[-2]))
    key, equals, value = incomplete.partition("=")
    if equals:
        return [f"{key}={choice}" for choice in _beginning(value, _choices(key))]
    return [f"{key}=" for key in _beginning(incomplete, _settings())]


def _settings() -> list[str]:
    """Keys, without those that hold others, and groups."""
    from hypergrad.config.overrides import groups, known_keys

    keys = known_keys()
    leaves = [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]
    return sorted({*leaves, *groups()})


def _choices(group: str) -> list[str]:
    from hypergrad.config.overrides import choices

    return choices(group)


def _beginning(start: str, words: Sequence[str]) -> list[str]:
    return [word for word in words if word.startswith(start)]
