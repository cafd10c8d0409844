"""What a user types after the experiment: checked before Hydra sees it, and expanded for sweeps."""

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypergrad.config.checks import SHOWN, ConfigError
from hypergrad.config.optimizer_schema import HyperparameterConfig
from hypergrad.config.schema import RunConfig
from hypergrad.runs.shown import short

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

__all__ = [
    "check_overrides",
    "choices",
    "conf_folder",
    "expand_sweep",
    "groups",
    "known_keys",
    "suggest",
]

MEMBERS = 1000  # of a sweep at most: each is composed before the first begins
DECLARED = "hyperparameters."  # then a name that the experiment declares, and a field
# What lies below is for the network, the optimiser, the search or the table to judge.
FREE = (
    "model.options.",
    "optimizer.options.",
    "search.grid.",
    "search.space.",
    "table.budgets.",
    "table.experiments.",
)


def conf_folder() -> Path:
    """Return the folder of YAML files: in the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/ beside or inside {package}: reinstall hypergrad")


def choices(group: str) -> list[str]:
    """Return the names in a config group, such as `experiment`; none if there is no such group."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def known_keys(kind: type = RunConfig, prefix: str = "") -> list[str]:
    """Return the dotted names of all settings.

    >>> "outer.steps" in known_keys()
    True
    """
    keys = []
    for item in fields(kind):
        keys.append(prefix + item.name)
        if isinstance(item.type, type) and is_dataclass(item.type):
            keys.extend(known_keys(item.type, f"{prefix}{item.name}."))
    return keys


def suggest(word: str, known: Sequence[str]) -> str:
    """Return the end of a sentence that says what may have been meant.

    >>> suggest("sede", ["seed", "data"])
    ': did you mean seed?'
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f": did you mean {close[0]}?"
    if len(known) > 20:
        return ": `hypergrad run EXPERIMENT --cfg job` shows all keys"
    return f": use one of {', '.join(known)}"


def check_overrides(overrides: Sequence[str]) -> list[str]:
    """Refuse what cannot be meant.

    Args:
        overrides: As typed.

    Returns:
        The same for Hydra, where options of a network may be new.

    Raises:
        ConfigError: For a sweep, a key or choice that is not there, or a key taken away.
    """
    checked = []
    for text, override in _parse(overrides):
        if override.is_sweep_override():
            raise ConfigError(
                f"{short(text, SHOWN)} has several values: add -m to run each of them"
            )
        _check_key(text, override)
        free = override.key_or_group.startswith(FREE) and not override.is_force_add()
        checked.append(f"++{text.lstrip('+')}" if free else text)
    return checked


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Expand `seed=0,1,2` and other sweeps into the overrides of each member.

    Args:
        overrides: Hydra overrides, some of them sweeps (`a,b`, `range(3)`, `choice(a,b)`).

    Returns:
        One list of plain overrides a member: the product of all sweeps, the last one fastest.

    Raises:
        ConfigError: For an override that Hydra cannot parse, or a sweep without members.

    >>> expand_sweep(["seed=0,1", "epochs=2"])
    [['seed=0', 'epochs=2'], ['seed=1', 'epochs=2']]
    """
    from hydra.core.override_parser.types import Glob

    ways, count = [], 1
    for text, override in _parse(overrides):
        if not override.is_sweep_override():
            ways.append([text])
            continue
        key, value = override.get_key_element(), override.value()
        if isinstance(value, Glob):
            values = value.filter(choices(override.key_or_group))
        else:
            values = _values_of(text, override)
        if not values:
            raise ConfigError(f"{text} has no values: write it as in seed=0,1,2")
        ways.append([f"{key}={value}" for value in values])
        count *= len(values)
        if count > MEMBERS:
            raise _too_many(text, count)
    return [list(member) for member in itertools.product(*ways)]


def _values_of(text: str, override: "Override") -> list[str]:
    """The values of a sweep, which are counted before they are listed."""
    from hydra.core.override_parser.types import RangeSweep
    from hydra.errors import HydraException

    value, values = override.value(), []
    try:
        if isinstance(value, RangeSweep):
            start, stop, step = (float(v or 0) for v in (value.start, value.stop, value.step))
            if (count := (stop - start) / step) > MEMBERS:
                raise _too_many(text, count)
        for own in override.sweep_string_iterator():
            values.append(str(own))
            if len(values) > MEMBERS:
                raise _too_many(text, len(values))
    except ConfigError:
        raise
    except (ValueError, TypeError, ArithmeticError, HydraException) as error:
        why = "no list of values" if isinstance(error, HydraException) else str(error)
        raise ConfigError(f"{short(text, SHOWN)}: {why}; write it as in seed=0,1,2") from error
    return values


def _too_many(text: str, count: float) -> ConfigError:
    shown = short(text, SHOWN)
    return ConfigError(f"{shown} makes {count:.4g} members or more: {MEMBERS:,} at most")


def _check_key(text: str, override: "Override") -> None:
    key, choosable = override.key_or_group, groups()
    if key == "experiment":
        raise ConfigError(f"{text}: name the experiment first, as in `hypergrad run fig1`")
    free = key.startswith(FREE)
    if not key:
        raise ConfigError(f"{short(text, SHOWN)!r} has no key: write key=value, such as seed=1")
    if key.startswith(DECLARED):
        _check_field(key)
    elif not (free or key in choosable or key in known_keys()):
        raise ConfigError(
            f"unknown key {short(key, SHOWN)}{suggest(key, [*known_keys(), *choosable])}"
        )
    if override.is_delete():
        raise ConfigError(f"{text}: nothing can be taken away; give {key} another value")
    if override.package is not None or (override.is_add() and not free):
        raise ConfigError(f"{text}: {key} is there already; write {key}=VALUE")
    if key in choosable and override.value() not in choices(key):
        wanted = str(override.value())
        raise ConfigError(f"unknown {key} {short(wanted, SHOWN)!r}{suggest(wanted, choices(key))}")


def _check_field(key: str) -> None:
    """Refuse what no hyperparameter has; whether there is one of that name, Hydra says."""
    _, name, *rest = key.split(".")
    known = known_keys(HyperparameterConfig)
    if len(rest) != 1 or rest[0] not in known:
        field = rest[0] if rest else ""
        end = suggest(field, known) if field else f": give a field, as in {DECLARED}{name}.count"
        raise ConfigError(f"unknown key {short(key, SHOWN)}{end}")


def groups() -> list[str]:
    """Return the config groups with a choice for the user."""
    folders = (path.name for path in conf_folder().iterdir() if path.is_dir())
    return sorted(name for name in folders if name != "experiment" and choices(name))


def _parse(overrides: Sequence[str]) -> "list[tuple[str, Override]]":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, parsed = OverridesParser.create(), []
    for text in overrides:
        try:
            parsed.append((text, parser.parse_override(text)))
        except (HydraException, RecursionError) as error:
            raise ConfigError(
                f"{short(text, SHOWN)!r} cannot be read: write key=value, such as seed=1 "
                "(and quote the whole if it holds blanks or brackets)"
            ) from error
    return parsed
