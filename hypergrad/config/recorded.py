"""The configuration in a run directory, which a stranger may have written: only data is read."""

import re
from collections.abc import Sequence

from hypergrad.config.checks import ConfigError

__all__ = ["check_overrides_recorded", "check_recorded"]

LONGEST = 2**18  # characters
DEEPEST = 20  # lists and groups within each other; a configuration has four
# A setting that repeats another one, as `driver: ${search.driver}`: all that a record may refer to.
_REFERENCE = re.compile(r"\$\{\w+(\.\w+)*\}")


def check_recorded(text: str) -> None:
    """Refuse YAML that would do more than state settings when it is read.

    That is aliases (of which few can stand for many), tags, what is nested without end, and
    whatever OmegaConf would compute, as `${oc.env:SECRET}`.

    Args:
        text: The YAML.

    Raises:
        ConfigError: One line that says what it holds.
        YAMLError: If it is no YAML.
    """
    import yaml

    if len(text) > LONGEST:
        raise ConfigError(f"longer than {LONGEST // 1024} KiB")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth, documents = 0, 0
    for event in yaml.parse(text, loader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ConfigError("it has aliases (& and *), which no run writes")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        elif depth == 0 and isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent):
            raise ConfigError("it is no mapping of settings")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ConfigError(f"nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and "${" in event.value:
            if not _REFERENCE.fullmatch(event.value.strip()):
                raise ConfigError(f"{event.value!r:.60} would be computed: write its value there")
    if documents != 1:
        raise ConfigError("it is not one YAML document")


def check_overrides_recorded(overrides: Sequence[str]) -> list[str]:
    """Return the overrides in a run directory if none of them would be computed.

    Raises:
        ConfigError: For one with `${...}` in it.
    """
    for text in overrides:
        if "${" in text:
            raise ConfigError(f".hydra/overrides.yaml: {text!r:.60} would be computed; edit it")
    return list(overrides)
