"""Compose and validate a run's configuration, once: nothing below sees anything but dataclasses."""

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

from hypergrad.schema import ConfigError, RunConfig

__all__ = ["choices", "compose", "expand_sweep", "load"]


def conf_folder() -> Path:
    """Return the folder of YAML files: in the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/ beside or inside {package}: reinstall hypergrad")


def choices(group: str) -> list[str]:
    """Return the names in a config group, such as `experiment` or `data`."""
    return sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))


def compose(experiment: str, overrides: Sequence[str] = ()) -> tuple[RunConfig, str]:
    """Compose, check and freeze the configuration of one run.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides: `key=value`, and groups such as `data=mnist`.

    Returns:
        The configuration, and its YAML text.

    Raises:
        ConfigError: For an unknown experiment, group choice or key, a wrong type, a value out of
            range, or a file that is no YAML. The text is one line that names the remedy.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if experiment not in choices("experiment"):
        raise ConfigError(
            f"unknown experiment {experiment!r}{_suggest(experiment, choices('experiment'))}"
        )
    _check_overrides(overrides)
    ConfigStore.instance().store(name="schema", node=RunConfig)
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
            composed = hydra_compose("config", [f"experiment={experiment}", *overrides])
        config = OmegaConf.to_object(composed)
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(_one_line(error)) from error
    if not isinstance(config, RunConfig):
        raise ConfigError("conf/config.yaml does not start from the schema: restore it")
    _refuse_unknown(config)
    return config, OmegaConf.to_yaml(composed)


def load(text: str) -> RunConfig:
    """Return the configuration in the YAML text of a run directory.

    Args:
        text: The content of `.hydra/config.yaml`.

    Returns:
        The configuration, checked.

    Raises:
        ConfigError: If it does not fit this version's schema.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        merged = OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.create(text))
        config = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"the run's config does not fit: {_one_line(error)}") from error
    assert isinstance(config, RunConfig)
    return config


def expand_sweep(overrides: Sequence[str]) -> list[list[str]]:
    """Expand `seed=0,1,2` and other sweeps into the overrides of each member.

    Args:
        overrides: Hydra overrides, some of them sweeps (`a,b`, `range(3)`, `choice(a,b)`).

    Returns:
        One list of plain overrides a member: the product of all sweeps, the last one fastest.

    Raises:
        ConfigError: For an override that Hydra cannot parse.

    >>> expand_sweep(["seed=0,1", "epochs=2"])
    [['seed=0', 'epochs=2'], ['seed=1', 'epochs=2']]
    """
    ways = []
    for text, override in zip(overrides, _parse(overrides), strict=True):
        if override.is_sweep_override():
            key = override.get_key_element()
            ways.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            ways.append([text])
    return [list(member) for member in itertools.product(*ways)]


def _parse(overrides: Sequence[str]) -> list:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides(overrides=list(overrides))
    except HydraException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{first}: write overrides as key=value, such as seed=1") from error


def _check_overrides(overrides: Sequence[str]) -> None:
    for text, override in zip(overrides, _parse(overrides), strict=True):
        if override.is_sweep_override():
            raise ConfigError(f"{text} has several values: add -m to run each of them")
        if override.key_or_group == "experiment":
            raise ConfigError(f"{text}: name the experiment first, as in `hypergrad run fig1`")


def _refuse_unknown(node: object, prefix: str = "") -> None:
    """`+typo=1` passes Hydra; a key that the schema does not know is an error here."""
    assert is_dataclass(node)
    known = [item.name for item in fields(node)]
    for key, value in vars(node).items():
        if key not in known:
            raise ConfigError(f"unknown key {prefix}{key}{_suggest(key, known)}")
        if is_dataclass(value):
            _refuse_unknown(value, f"{prefix}{key}.")


def _known_keys(kind: type = RunConfig, prefix: str = "") -> list[str]:
    keys = []
    for item in fields(kind):
        keys.append(prefix + item.name)
        if isinstance(item.type, type) and is_dataclass(item.type):
            keys.extend(_known_keys(item.type, f"{prefix}{item.name}."))
    return keys


def _one_line(error: Exception) -> str:
    """The gist of an error of Hydra, OmegaConf or YAML, with a remedy."""
    text = str(error)
    cause = error.__cause__
    if found := re.fullmatch(r"Error merging override (\S+)", text.strip()):
        reason = str(cause).splitlines()[0] if cause is not None else "the value does not fit"
        return f"{found[1]}: {reason}"
    if "Config group override must be" in text:
        return f"{text.splitlines()[0]}: choose by name, such as data=mnist"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        if cause is not None and "not in" not in str(cause):
            return f"{key}: {str(cause).splitlines()[0]}"
        return f"unknown key {key}{_suggest(key, _known_keys())}"
    if found := re.search(r"Could not find '([^/']+)/([^']+)'", text):
        return f"unknown {found[1]} {found[2]!r}{_suggest(found[2], choices(found[1]))}"
    if found := re.search(r"Could not append", text):
        return f"{text.splitlines()[0]} (try without the +)"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = next((line.removeprefix("full_key: ") for line in lines if "full_key" in line), "")
    if "mapping values" in text or "while parsing" in text or "while scanning" in text:
        place = next((line for line in lines if "line" in line and "in " in line), "")
        return f"broken YAML {place}: mend that file"
    return f"{key}: {lines[0]}" if key else lines[0]


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f": did you mean {close[0]}?"
    if len(known) > 12:
        return ": `hypergrad run EXPERIMENT --cfg job` shows all keys"
    return f": use one of {', '.join(known)}"
