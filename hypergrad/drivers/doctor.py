"""What is damaged in a run directory, what can be gone on with, and from where; changes nothing."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.ground import GroundChanged, check_settings, rounding_of
from hypergrad.drivers.improve.records import read_rows
from hypergrad.drivers.inner_optimizer import logged_names
from hypergrad.drivers.members import members_of
from hypergrad.drivers.multirun import is_multirun
from hypergrad.drivers.run_folder import is_of_a_script
from hypergrad.runs.atomic import leftovers
from hypergrad.runs.checkpoint import Checkpoint, CheckpointStore
from hypergrad.runs.directory import RunDirectory, is_run
from hypergrad.runs.ground import Ground, fixed_digest, kept_ground
from hypergrad.runs.records import read_record
from hypergrad.runs.run_log import GROUND, RunLog

__all__ = ["DAMAGED", "LOST", "SOUND", "Finding", "examine"]

SOUND, DAMAGED, LOST = 0, 1, 2  # also the command's exit codes
SHOWN = 3  # damaged records that are named
BEFORE_NAMES, AFTER_NAMES = "test_accuracy", "seconds"  # in the header of inner.csv


class Finding(NamedTuple):
    """One thing that was found.

    Attributes:
        severity: `SOUND`: as it should be; `DAMAGED`: it can be resumed; `LOST`: it cannot.
        text: A line for people.
    """

    severity: int
    text: str


def examine(path: Path) -> list[Finding]:
    """Return what can be said of a run directory, its members included.

    Args:
        path: The directory.

    Raises:
        ValueError: If there is no such directory.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is not a directory: `hypergrad runs` lists the runs there are")
    run = RunDirectory(path)
    if not is_run(path):
        return [Finding(LOST, "no .hydra/config.yaml: nothing has begun here; start it anew")]
    if run.is_held():
        return [Finding(SOUND, "a process is writing it: look again when that has ended")]
    found = list(_files(run))
    if is_of_a_script(run):
        return [*found, *_checkpoints(run, _names_in(run))]
    try:
        config = configs.load_run(run)
        found += _ground(run, config)
        if is_multirun(run):
            return [*found, *_members(run)]
        if config.is_multirun:
            raise ConfigError("members.json is missing, which says what it is made of")
    except GroundChanged as error:
        text = f"{error.text} ({'; '.join(error.lines)})"
        return [*found, Finding(LOST, f"{text}: bring that back, or --fork")]
    except ValueError as error:
        return [*found, Finding(LOST, str(error))]
    return [*found, *RESULTS[config.driver](run, config)]


def _files(run: RunDirectory) -> Iterator[Finding]:
    """The files that a run rebuilds, and what kills have left."""
    for name in ("summary.json", "provenance.json"):
        try:
            run.read_json(name)
        except ValueError:
            yield Finding(DAMAGED, f"{name} cannot be read: a resume rebuilds it")
    try:
        run.overrides()
    except ValueError as error:
        yield Finding(DAMAGED, str(error))
    folders = (path for path in (run.path, *run.path.iterdir()) if path.is_dir())
    if count := sum(len(leftovers(folder)) for folder in folders):
        yield Finding(SOUND, f"{count} half-written files of killed processes: a resume drops them")


def _ground(run: RunDirectory, config: RunConfig) -> Iterator[Finding]:
    try:
        then = kept_ground(run)
    except ValueError as error:
        yield Finding(DAMAGED, f"{error}: a resume rebuilds it, if nothing else has changed")
        return
    if then is None:
        return
    check_settings(run, config)
    if then.rounding and config.threads != "auto":
        now = Ground(then.fixed, rounding_of(config))
        if changed := then.changes(now)[1]:
            yield Finding(SOUND, f"a resume asks for --accept-changes: {'; '.join(changed)}")


def _members(run: RunDirectory) -> Iterator[Finding]:
    for entry in members_of(run)["members"]:
        path = run.path / entry["name"]
        if not is_run(path):
            yield Finding(SOUND, f"{entry['name']}: not begun")
            continue
        for severity, text in examine(path):
            yield Finding(severity, f"{entry['name']}: {text}")


def _learned(run: RunDirectory, config: RunConfig) -> Iterator[Finding]:
    yield from _checkpoints(run, logged_names(config))


def _checkpoints(run: RunDirectory, names: list[str]) -> Iterator[Finding]:
    """Checkpoints, and the rows that they are in step with."""
    try:
        checkpoint, remarks = RunLog(run, names, _digests(run)).look()
    except ValueError as error:
        yield Finding(LOST, str(error))
        return
    for remark in remarks:
        yield Finding(DAMAGED, remark)
    yield Finding(SOUND, _place(run, checkpoint))


def _place(run: RunDirectory, checkpoint: Checkpoint | None) -> str:
    """Where a run goes on."""
    if run.status() == "finished":
        return "finished"
    if checkpoint is None:
        return "no checkpoint yet: it begins at the beginning"
    progress = checkpoint.state["progress"]
    outer = progress.get("outer", progress)
    seed = f"repeat {progress['seed_index'] + 1}, " if "seed_index" in progress else ""
    inner = progress.get("inner") or checkpoint.state.get("run") or {}
    step = f", inner step {inner['step']}" if "step" in inner else ""
    method = f"{progress['method']}, " if "method" in progress else ""
    return f"goes on from its checkpoint: {seed}{method}outer step {outer['number']}{step}"


def _searched(run: RunDirectory, config: RunConfig) -> Iterator[Finding]:
    yield from _records(run, "trials", "trial is trained")


def _measured(run: RunDirectory, config: RunConfig) -> Iterator[Finding]:
    yield from _records(run, "repeats", "repeat is done")


def _records(run: RunDirectory, folder: str, again: str) -> Iterator[Finding]:
    """Records, a file each."""
    whole, damaged, ground = 0, [], _digest(run)
    for path in sorted((run.path / folder).glob("*.json")):
        try:
            if ground not in (None, read_record(path).get("ground")):
                raise ValueError("it is of another run")
            whole += 1
        except (ValueError, OSError) as error:
            damaged.append(f"{folder}/{path.name}: {error}: delete it, and that {again} again")
    for text in damaged[:SHOWN]:
        yield Finding(DAMAGED, text)
    if len(damaged) > SHOWN:
        yield Finding(DAMAGED, f"... and {len(damaged) - SHOWN} more")
    state = "finished" if run.status() == "finished" else "goes on from these"
    yield Finding(SOUND, f"{whole} {folder} are whole: {state}")


def _improved(run: RunDirectory, config: RunConfig) -> Iterator[Finding]:
    try:
        rows, _ = read_rows(run.path / "trainings.csv", _digest(run))
    except ValueError as error:
        yield Finding(DAMAGED, str(error))
        return
    state = "finished" if run.status() == "finished" else "goes on from these"
    yield Finding(SOUND, f"{len(rows)} trainings are whole: {state}")


def _digests(run: RunDirectory) -> Mapping[str, str] | None:
    """What checkpoints are to carry; where that is lost, what the newest one does."""
    try:
        ground = kept_ground(run)
    except ValueError:
        ground = None
    if ground is not None:
        return ground.digests
    checkpoint = CheckpointStore(run.path / "checkpoints").load()
    return None if checkpoint is None else checkpoint.state.get(GROUND)


def _digest(run: RunDirectory) -> str | None:
    try:
        return fixed_digest(run)
    except ValueError:
        return None


def _names_in(run: RunDirectory) -> list[str]:
    """The hyperparameters of a script's run: columns of its rows."""
    path = run.path / "inner.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        header = next(csv.reader(file), [])
    if BEFORE_NAMES not in header or AFTER_NAMES not in header:
        return []
    return header[header.index(BEFORE_NAMES) + 1 : header.index(AFTER_NAMES)]


RESULTS: dict[str, Callable[[RunDirectory, RunConfig], Iterator[Finding]]] = {
    "learn": _learned,
    "search": _searched,
    "hypervariance": _measured,
    "improve": _improved,
}
