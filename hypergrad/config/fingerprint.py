"""What makes two runs the same: settings that may differ between them, and a name for the rest."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hypergrad.config.schema import RunConfig

__all__ = ["GROWING", "digest", "settings_without"]

# What a search that has begun may change: none of it changes what a trial comes to.
GROWING = (
    *("repeats", "budget", "jobs", "executor", "gpus", "checkpoint_seconds", "outputs"),
    *("search.grid", "search.trials", "search.ensemble"),
)

# What a result depends on only in its last bits, or not at all; and where named data sets lie.
_NOT_IN_DIGEST = (
    *("experiment", "name", "scale", "figures", "table_column", "smoke_repeats"),
    *(
        "seed",
        "repeats",
        "budget",
        "jobs",
        "threads",
        "replay",
        "selftest",
        "outputs",
        "checkpoint_seconds",
    ),
    *("executor", "gpus", "search.ensemble", "search.trials", "outer.steps", "data.root"),
    "trust.sign_agreement",
)


def settings_without(config: RunConfig, keys: Sequence[str]) -> dict:
    """Return a configuration as nested dictionaries, less some of its settings.

    Args:
        config: The configuration.
        keys: As they are typed: `repeats`, `search.trials`.

    Raises:
        KeyError: For a setting that is not there.
    """
    settings = asdict(config)
    for key in keys:
        *groups, name = key.split(".")
        place = settings
        for group in groups:
            place = place[group]
        del place[name]
    return settings


def digest(
    config: RunConfig, *, data_fingerprint: str | None = None, model_source: str | None = None
) -> str:
    """Return a name for all that results depend on but seeds, budget, and who does the work.

    Args:
        config: The configuration.
        data_fingerprint: The data's content, where it is loaded. A folder of images is then known
            by it, wherever it lies; otherwise by where it lies, from whatever folder that is said.
        model_source: A hash of the source of a user's own network.
    """
    settings = settings_without(config, _NOT_IN_DIGEST)
    if config.outer.trajectories == 1:  # runs of earlier versions have no such setting
        del settings["outer"]["trajectories"]
    if config.outer.descent == "signs":  # likewise
        del settings["outer"]["descent"]
    if data_fingerprint is not None:
        settings["data"]["path"] = None
    elif config.data.path is not None:
        settings["data"]["path"] = str(Path(config.data.path).expanduser().resolve())
    content = {"data_fingerprint": data_fingerprint, "model_source": model_source}
    settings |= {name: value for name, value in content.items() if value is not None}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
