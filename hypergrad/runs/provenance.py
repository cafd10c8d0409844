"""Where a run came from: code, versions, machine, seeds and time."""

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from hypergrad.runs.directory import RunDirectory
from hypergrad.version import __version__

__all__ = [
    "finish_session",
    "first_recorded",
    "is_of_another_version",
    "made_by",
    "provenance",
    "readable_sessions",
    "record_session",
    "sessions",
]

_FILE = "provenance.json"
_PACKAGES = ("torch", "torchvision", "numpy")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# What determines the numbers; notes beside them do not make a commit dirty.
_SOURCES = ("hypergrad", "conf", "pyproject.toml")


def provenance(device: str, seeds: Sequence[int], command: Sequence[str]) -> dict[str, object]:
    """Describe this process and the machine it runs on.

    Args:
        device: What the run computes on, for example `cpu` or `cuda:0 (NVIDIA H200)`.
        seeds: The seeds of the run.
        command: The command line.

    Returns:
        What `json` can write; null where something is not known.
    """
    commit, dirty = _git_state(Path(__file__).resolve().parents[2])
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        # The program's name, not where it happens to be installed.
        "command": [Path(command[0]).name, *command[1:]] if command else [],
        "seeds": list(seeds),
        "device": device,
        "hypergrad": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_available": _cpus_available(),
        "threads": {name: os.environ.get(name) for name in _THREADS},
    }


def record_session(run: RunDirectory, entry: Mapping[str, object]) -> None:
    """Add a session to `provenance.json`: the first start of a run, or its resumption.

    The first session's entry is also the file's top level, where a reader looks first.

    Args:
        run: The run, held by this process.
        entry: As `provenance` returns it.
    """
    record = run.read_json(_FILE) or {**entry, "wall_seconds": 0.0}
    sessions = [*record.get("sessions", []), dict(entry)]
    run.write_json(_FILE, {**record, "sessions": sessions})


def sessions(run: RunDirectory) -> list[dict]:
    """Return what each session of a run recorded, the first one first.

    Raises:
        ValueError: If the file is damaged.
    """
    found = run.read_json(_FILE).get("sessions", [])
    if not (isinstance(found, list) and all(isinstance(each, dict) for each in found)):
        raise ValueError(f"{run.path / _FILE} is damaged (sessions); restore it")
    return found


def readable_sessions(run: RunDirectory) -> list[dict]:
    """Return what `sessions` does; nothing where the file is damaged, which a resume rebuilds."""
    try:
        return sessions(run)
    except (ValueError, OSError):
        return []


def first_recorded(run: RunDirectory, name: str) -> object | None:
    """Return what the first session that recorded something said of it.

    Args:
        run: The run; need not be held.
        name: A key of an entry, for example `data_fingerprint`.

    Returns:
        The value; None if no session recorded one, or the file is damaged.
    """
    found = (session.get(name) for session in readable_sessions(run))
    return next((value for value in found if value is not None), None)


def is_of_another_version(run: RunDirectory) -> bool:
    """Say whether another version, or commit, began a run than this is."""
    record = _record(run)
    here = __version__, _git_state(Path(__file__).resolve().parents[2])[0]
    return bool(record) and (record.get("hypergrad"), record.get("git_commit")) != here


def made_by(run: RunDirectory) -> str:
    """Return which version began a run, in words for people."""
    record = _record(run)
    version, commit = record.get("hypergrad"), record.get("git_commit")
    words = [f"hypergrad {version}"] if version else []
    words += [f"commit {commit[:12]}"] if isinstance(commit, str) else []
    return f"an older version ({', '.join(words) or 'not known which'})"


def finish_session(run: RunDirectory, wall_seconds: float) -> None:
    """Write how long the last session took; may be called again as it goes on.

    Args:
        run: The run, held by this process.
        wall_seconds: Seconds since this session began; the file's `wall_seconds` is the sum over
            the sessions that recorded theirs (a killed one may not have).

    Raises:
        ValueError: If no session was recorded.
    """
    record = run.read_json(_FILE)
    sessions = record.get("sessions", [])
    if not sessions:
        raise ValueError(f"{run.path / _FILE} has no session; call record_session first")
    sessions[-1]["wall_seconds"] = wall_seconds
    total = sum(session.get("wall_seconds", 0.0) for session in sessions)
    run.write_json(_FILE, {**record, "wall_seconds": total, "sessions": sessions})


def _record(run: RunDirectory) -> dict:
    """What the file says; nothing if it is missing or damaged."""
    try:
        return run.read_json(_FILE)
    except (ValueError, OSError):
        return {}


def _git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return commit and dirty flag of the source tree at `root`, or None where there is none."""
    top = _git(root, "rev-parse", "--show-toplevel")
    # An installed package may lie inside the repository of another project.
    if not top or Path(top).resolve() != root:
        return None, None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_SOURCES)
    return commit, None if changes is None else changes != ""


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it fails or is not installed."""
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},  # leave no lock file in the user's tree
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or None
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or None


def _cpus_available() -> int | None:
    """Return how many CPUs this process may use, which a container or job may restrict."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
