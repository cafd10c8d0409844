"""Compose and validate a run's configuration, once: nothing below sees anything but dataclasses."""

import re
from collections.abc import Mapping, Sequence

from hypergrad.config import overrides as typed
from hypergrad.config.checks import SHOWN, ConfigError
from hypergrad.config.machine import check_absurd, check_machine
from hypergrad.config.recorded import check_recorded
from hypergrad.config.schema import RunConfig
from hypergrad.config.wording import DRAWN_BY
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import is_of_another_version, made_by
from hypergrad.runs.shown import short

__all__ = ["compose", "load", "load_run", "with_settings"]

# What a library raises of its own where it did not expect what it was given.
_INSIDES = (RecursionError, AttributeError, TypeError, LookupError, AssertionError, ArithmeticError)
KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}


def compose(experiment: str, overrides: Sequence[str] = ()) -> tuple[RunConfig, str]:
    """Compose, check and freeze the configuration of one run.

    Args:
        experiment: A name in `conf/experiment`, such as `fig1` or `baselines/mnist`.
        overrides: Hydra overrides: `key=value`, and groups such as `data=mnist`.

    Returns:
        The configuration, and its YAML text.

    Raises:
        ConfigError: For an unknown experiment, group choice or key, a wrong type, a value out of
            range or that is not there, or a file that is no YAML. The text is one line that names
            the remedy.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    group, _, name = experiment.rpartition("/")
    known = typed.choices(f"experiment/{group}")
    if name not in known:
        kind = group or "experiment"
        end = DRAWN_BY.get(name) or typed.suggest(name, known)
        raise ConfigError(f"unknown {kind} {short(name, SHOWN)!r}{end}")
    checked = typed.check_overrides(overrides)
    ConfigStore.instance().store(name="schema", node=RunConfig)
    folder = typed.conf_folder()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(folder)):
            composed = hydra_compose("config", [f"experiment={experiment}", *checked])
        composed.experiment = experiment
        if OmegaConf.is_missing(composed, "name"):
            composed.name = experiment.replace("/", "_")
        for key in sorted(OmegaConf.missing_keys(composed)):
            raise ConfigError(f"{key} is empty: give {key}=VALUE, or a value in conf/")
        config = OmegaConf.to_object(composed)
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(_one_line(error)) from error
    except _INSIDES as error:
        given = short(" ".join(overrides), SHOWN) or experiment
        raise ConfigError(f"{given} cannot be composed: try with fewer overrides") from error
    if not isinstance(config, RunConfig):
        raise ConfigError(f"{folder / 'config.yaml'} does not start from `schema`: restore it")
    check_machine(config.threads, config.jobs, config.executor)
    return config, OmegaConf.to_yaml(composed, resolve=True)


def load(text: str) -> RunConfig:
    """Return the configuration in the YAML text of a run directory.

    Args:
        text: The content of `.hydra/config.yaml`.

    Returns:
        The configuration, checked.

    Raises:
        ConfigError: If it is damaged, or was written by a version with other settings.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    remedy = "restore .hydra/config.yaml, or start a new run"
    if text.startswith("made_by:"):
        raise ConfigError("a script made this run, and goes on with it: Search.resume()")
    try:
        check_recorded(text)
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(text))
        if missing := sorted(OmegaConf.missing_keys(merged)):  # of a file that was cut short
            raise ConfigError(f"it lacks {missing[0]}")
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"the run's configuration: {_one_line(error)}; {remedy}") from error
    except _INSIDES as error:
        raise ConfigError(f"the run's configuration cannot be read; {remedy}") from error
    assert isinstance(config, RunConfig)
    check_absurd(config.threads, config.jobs)
    return config


def load_run(run: RunDirectory) -> RunConfig:
    """Return the configuration of a run.

    Args:
        run: Its directory.

    Raises:
        ConfigError: As `load`; of a run of another version with which version that was.
    """
    try:
        return load(run.config_text())
    except ConfigError as error:
        if not is_of_another_version(run):
            raise
        reason = str(error).removeprefix("the run's configuration: ").partition("; restore")[0]
        raise ConfigError(
            f"{run.path} was made by {made_by(run)}, whose settings were others ({reason}): go on "
            "with that version, or start a new run"
        ) from error


def with_settings(text: str, settings: Mapping[str, object]) -> str:
    """Return the YAML text of a configuration with other values.

    Args:
        text: As from `compose`.
        settings: By dotted key.
    """
    from omegaconf import OmegaConf

    content = OmegaConf.create(text)
    for key, value in settings.items():
        OmegaConf.update(content, key, value)
    return OmegaConf.to_yaml(content)


def _one_line(error: Exception) -> str:
    """The gist of an error of Hydra, OmegaConf or YAML, with a remedy."""
    text = str(error)
    cause = error.__cause__
    place = _found(r"In '([^']+)'", text)
    where = f" (in conf/{place}.yaml)" if place else ""
    if file := _found(r'in "([^"]+", line \d+)', text):
        return f'broken YAML in "{file}: mend that file'
    if isinstance(error, UnicodeDecodeError):
        return f"{_not_utf8()} is not UTF-8 text: restore it"
    if found := re.search(r"Could not find '([^/']+)/([^']+)'", text):
        group, name = found.groups()
        return f"unknown {group} {name!r}{typed.suggest(name, typed.choices(group))}"
    if name := _found(r"Key '([^']+)' is not in struct", f"{text} {cause}"):
        return f"no hyperparameter {name!r} in this experiment: --cfg job shows those there are"
    if key := _found(r"Key '[^']+' not in[^$]*?full_key: (\S+)", text):
        return f"unknown key {key}{typed.suggest(key, typed.known_keys())}{where}"
    key = _found(r"Error merging override (.+)", text) or _found(r"full_key: (\S+)", text)
    if key in ("experiment", "scale"):  # a file that does not put itself on top
        return f"conf/{place or key}.yaml is no configuration: it begins with # @package _global_"
    reason = _reason(text if cause is None else str(cause))
    return f"{key.lstrip('+')}: {reason}{where}" if key else f"{reason}{where}"


def _not_utf8() -> str:
    """The first file of conf/ that is no text."""
    folder = typed.conf_folder()
    for path in sorted(folder.rglob("*.yaml")):
        try:
            path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            return str(path)
    return f"a file of {folder}"


def _reason(text: str) -> str:
    """What is wrong with a value, in words for people."""
    if kind := _found(r"could not be converted to (\w+)", text):
        return f"must be {KINDS.get(kind, kind)}"
    if "not a valid bool" in text:
        return "must be true or false"
    if "incompatible with type hint" in text:
        return "must be a number, or true or false"
    if "is not Optional" in text:
        return "needs a value, not null"
    if "is not a ListConfig" in text:
        return "must be a list, such as [1,2]"
    if key := _found(r"Interpolation key '([^']+)' not found", text):
        return f"refers to ${{{key}}}, which is not there"
    lines = re.sub(r"^In '[^']+':", "", text).strip().splitlines()
    return lines[0].rstrip(".") if lines else "cannot be read"


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return None if found is None else found[1]
