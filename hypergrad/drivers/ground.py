"""What a run depends on, here and now; whether it may go on with that."""

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from hypergrad.config.checks import ConfigError
from hypergrad.config.fingerprint import GROWING, settings_without
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.context import RunContext
from hypergrad.drivers.identity import identity_of
from hypergrad.runs.checkpoint import CheckpointStore
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.ground import GROUND_FILE, Ground, kept_ground, put_down
from hypergrad.runs.provenance import made_by
from hypergrad.runs.run_log import GROUND

__all__ = [
    "GroundChanged",
    "check_ground",
    "check_settings",
    "ground_of",
    "rounding_of",
    "settings_of",
    "take_up",
]

# What no number depends on; the data's content is in its fingerprint, wherever it lies.
FREE = (
    *("experiment", "name", "scale", "figures", "table_column", "smoke_repeats", "selftest"),
    *("jobs", "executor", "gpus", "outputs", "checkpoint_seconds", "data.root", "data.path"),
    "device",  # what it stands for is looked at
)
ROUNDS = ("threads", "replay")  # settings on which the last bits may depend, and nothing else
LIBRARIES = ("torch", "numpy")
# Packages that show what was computed, or start it.
SHOWS = ("cli", "figures", "reporting")
ACCEPT = "--accept-changes goes on, and results may differ in their last bits"


class GroundChanged(ConfigError):
    """A run would go on with something else than it began with.

    Attributes:
        lines: What has changed, each in a line.
    """

    def __init__(self, text: str, lines: Sequence[str]) -> None:
        super().__init__(f"{text}: {'; '.join(lines)}")
        self.text = text
        self.lines = list(lines)


def ground_of(context: RunContext) -> Ground:
    """Return what a run depends on.

    Args:
        context: The run, with threads and mode settled.
    """
    config = context.config
    content = identity_of(config, context.data)._asdict()
    fixed = {**settings_of(config), **content, "device": context.device.type}
    return Ground(fixed, rounding_of(config))


def rounding_of(config: RunConfig) -> dict[str, object]:
    """Return what the last bits of a run may depend on, and nothing else."""
    optional = ("optuna",) if config.driver == "search" and config.search.kind == "tpe" else ()
    versions = {name: _version(name) for name in (*LIBRARIES, *optional)}
    rounds = {name: getattr(config, name) for name in ROUNDS}
    return {**rounds, **versions, "source of hypergrad": _source()}


def settings_of(config: RunConfig) -> dict[str, object]:
    """Return the settings that results depend on, by dotted key."""
    free = [*FREE, *ROUNDS]
    if config.driver == "search":
        free += [key for key in GROWING if key not in free]
    return dict(_flat(json.loads(json.dumps(settings_without(config, free)))))


def check_ground(run: RunDirectory, now: Ground, *, accept: bool = False) -> list[str]:
    """Refuse to go on with a run on something else than it began with.

    Args:
        run: The run; one that has not begun yet passes.
        now: What it would go on with.
        accept: Go on with what may change rounding alone.

    Returns:
        What has changed and is accepted, in lines.

    Raises:
        GroundChanged: Saying in lines what has changed.
    """
    try:
        then = kept_ground(run)
    except ValueError:
        then = None
    if then is None:
        return _by_digests(run, now)
    fixed, rounding = then.changes(now)
    if fixed:
        raise GroundChanged(
            f"{run.path} began with something else: bring that back, or let --fork begin a new "
            "run from its checkpoint",
            fixed,
        )
    if rounding and not accept:
        raise GroundChanged(f"{run.path} began on other ground: {ACCEPT}", rounding)
    return rounding


def check_settings(run: RunDirectory, config: RunConfig) -> None:
    """Refuse a run whose configuration is not that with which it began.

    Args:
        run: The run; one without `ground.json`, such as a record of an older version, passes.
        config: What is in its file now.

    Raises:
        GroundChanged: Saying in lines what has changed.
    """
    then = kept_ground(run)
    if then is None:
        return
    now = settings_of(config)
    known = Ground({key: value for key, value in then.fixed.items() if key in now}, {})
    if changed := known.changes(Ground(now, {}))[0]:
        raise GroundChanged(f"{run.path}: its .hydra/config.yaml has been changed", changed)


def take_up(run: RunDirectory, ground: Ground, accepted: Sequence[str] = ()) -> None:
    """Begin a session: set aside what is damaged, write down what the run stands on; say both.

    Args:
        run: The run, held by this process.
        ground: What it goes on with, checked.
        accepted: What has changed of it, in lines.
    """
    lines = [*run.mend(), run.set_aside_damaged(GROUND_FILE)]
    try:
        known = kept_ground(run) is not None
    except ValueError:  # its bytes have changed
        known = False
    if accepted or not known:
        put_down(run, ground, accepted if known else ())
    for line in [*lines, *(f"accepted: {change}" for change in accepted)]:
        if line is not None:
            print(line, file=sys.stderr)


def _by_digests(run: RunDirectory, now: Ground) -> list[str]:
    """Compare names alone, where what a run began with is not written down, or not any more."""
    found = _digests_kept(run)
    if found is None:
        return []
    if found.get("fixed") is None:
        raise ConfigError(
            f"{run.path} was made by {made_by(run)}, which did not write down what its results "
            "depend on: go on with that version, or start a new run"
        )
    lines = [
        f"{name}: {str(found[name])[:12]} when it began, {digest[:12]} now"
        for name, digest in now.digests.items()
        if found.get(name, digest) != digest
    ]
    if lines:
        text = f"{run.path} began with something else, and its ground.json is lost or damaged"
        raise GroundChanged(text, lines)
    return []


def _digests_kept(run: RunDirectory) -> Mapping[str, str | None] | None:
    """The names that a run's checkpoint or its first record carries; None if it has neither."""
    try:
        checkpoint = CheckpointStore(run.path / "checkpoints").load()
    except ValueError:
        checkpoint = None
    if checkpoint is not None:
        return checkpoint.state.get(GROUND) or {}
    for path in sorted([*run.path.glob("trials/*.json"), *run.path.glob("repeats/*.json")]):
        try:
            return {"fixed": json.loads(path.read_text(encoding="utf-8")).get(GROUND)}
        except (ValueError, AttributeError):
            continue
    return None


def _flat(settings: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in settings.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def _source() -> str:
    """A hash of the source that computes: it tells versions apart that no commit does."""
    package = Path(__file__).resolve().parents[1]
    state = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package)
        if own.parts[0] not in SHOWS:
            content = path.read_bytes()
            state.update(f"{own.as_posix()} {len(content)}\n".encode() + content)
    return state.hexdigest()[:12]
