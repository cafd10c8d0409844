"""The directory that holds everything one run leaves behind."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hypergrad.runs.atomic import remove_leftovers, write_text_atomically
from hypergrad.runs.plain_files import (
    YAML_LIMIT,
    check_member_name,
    check_plain,
    check_tree,
    read_json,
    read_plain,
)

__all__ = ["RunDirectory", "find_runs", "is_run", "newest_run"]

_NAME = re.compile(r"\d{4}-\d{2}-\d{2}_\d{6}_[0-9a-f]{6}")
# What there is of a run before its configuration is written.
_BEFORE_CONFIG = {"checkpoints", "figures", ".hydra", "members.json"}
# Where a process that was killed may have left half a file; `trials` has several writers.
_OWN_FOLDERS = (".", ".hydra", "checkpoints", "figures", "repeats")
_HOLDER = ".holder.json"
# Listing runs takes each lock for an instant; a run that starts just then waits that long.
_PATIENCE = 0.5  # seconds
# What the entries of a summary are, as far as all commands rely on it.
_SUMMARY: dict[str, type] = {
    **dict.fromkeys(("status", "experiment", "headline", "message"), str),
    **dict.fromkeys(("progress", "costs", "settings"), dict),
    **dict.fromkeys(("results", "spent"), list),
}
_KINDS = {str: "text", dict: "object", list: "list"}


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk, `outputs/<experiment>/<date>_<time>_<id>/`.

    Attributes:
        path: The directory.
    """

    path: Path

    @classmethod
    def create(cls, outputs: Path, experiment: str) -> "RunDirectory":
        """Make a new directory that no other run has, named after the local time.

        Args:
            outputs: Folder of all runs; made if missing.
            experiment: Name of the experiment; a plain folder name.

        Returns:
            The run, with empty `checkpoints/` and `figures/`.

        Raises:
            ValueError: If `experiment` is not a plain folder name.
            OSError: If `outputs` cannot be written.
        """
        if not experiment or experiment.startswith(".") or re.search(r"[/\\]", experiment):
            raise ValueError(
                f"experiment {experiment!r} cannot name a folder; use a name without slashes"
            )
        parent = Path(outputs) / experiment
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            now = datetime.now().strftime("%Y-%m-%d_%H%M%S")
            path = parent / f"{now}_{secrets.token_hex(3)}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                continue
        return cls._furnished(path)

    @classmethod
    def create_at(cls, path: Path) -> "RunDirectory":
        """Make the directory of a run at a place that was named.

        Args:
            path: The directory; made if missing, with its parents. What a start leaves there that
                was killed before it had written a configuration is taken over.

        Returns:
            The run, with empty `checkpoints/` and `figures/`.

        Raises:
            ValueError: If something else lies there.
            OSError: If it cannot be written.
        """
        path = Path(path)
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file: name a directory for the run")
        path.mkdir(parents=True, exist_ok=True)
        others = {entry.name for entry in path.iterdir() if not entry.name.endswith(".tmp~")}
        if (others := sorted(others - _BEFORE_CONFIG)) and not is_run(path):  # begun just now
            raise ValueError(f"{path} is no run and holds {others[0]}: name an empty directory")
        check_tree(path)
        return cls._furnished(path)

    def member(self, name: str) -> "RunDirectory":
        """Make, or find, the directory of a member of this run: a run directory inside it.

        Args:
            name: Of the member; a plain folder name.

        Returns:
            The member.

        Raises:
            ValueError: For another name, and if a link or no folder lies there.
        """
        path = self.path / check_member_name(name)
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise ValueError(f"{path} is no folder, where a run has a member: take it away")
        path.mkdir(exist_ok=True)
        return self._furnished(path)

    @classmethod
    def _furnished(cls, path: Path) -> "RunDirectory":
        (path / "checkpoints").mkdir(exist_ok=True)
        (path / "figures").mkdir(exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Return the run at `path`.

        Args:
            path: A directory that `create` and `write_config` made.

        Raises:
            ValueError: If `path` is no run directory, or one with links, pipes or devices in it.
        """
        path = Path(path)
        if not is_run(path):
            what = "holds no .hydra/config.yaml" if path.is_dir() else "is not a directory"
            raise ValueError(
                f"{path} {what}, so it is no run directory; give one from `hypergrad runs`, "
                "such as outputs/fig1/2025-01-31_120000_0a1b2c"
            )
        check_tree(path)
        return cls(path)

    def write_config(self, config_yaml: str, overrides: Sequence[str]) -> None:
        """Write `.hydra/config.yaml` and `.hydra/overrides.yaml` as Hydra does.

        Args:
            config_yaml: The composed configuration.
            overrides: What the user typed, for example `["data=mnist", "seed=1"]`.
        """
        import yaml  # here, because listing runs does not need it

        folder = self.path / ".hydra"
        folder.mkdir(exist_ok=True)
        listing = yaml.safe_dump(list(overrides), allow_unicode=True, default_flow_style=False)
        write_text_atomically(folder / "overrides.yaml", listing)
        # Last, because it is what makes this a run directory.
        write_text_atomically(folder / "config.yaml", config_yaml)

    def config_text(self) -> str:
        """Return the composed configuration as YAML.

        Raises:
            ValueError: If it is no ordinary file of that size, or no UTF-8 text.
        """
        return _text(self.path / ".hydra" / "config.yaml")

    def overrides(self) -> list[str]:
        """Return what the user typed; empty if that was not recorded.

        Raises:
            ValueError: If `.hydra/overrides.yaml` is not a YAML list.
        """
        import yaml

        path = self.path / ".hydra" / "overrides.yaml"
        if not path.exists():
            return []
        try:
            listing = yaml.safe_load(_text(path))
        except (yaml.YAMLError, RecursionError):
            listing = None
        if not isinstance(listing, list):
            raise ValueError(f"{path} is not a YAML list of overrides; restore it or delete it")
        return [str(override) for override in listing]

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only process that writes this run, until the block ends or the process dies.

        Raises:
            ValueError: If another process writes it; if its lock is a link.
        """
        import filelock  # here, because most commands never lock

        check_plain(self.path / ".lock")
        lock = filelock.FileLock(self.path / ".lock", timeout=_PATIENCE)
        try:
            lock.acquire(poll_interval=0.02)
        except filelock.Timeout:
            raise ValueError(
                f"run {self.path} is being written by {self._holder()}; wait until that one has "
                "finished or stop it (Ctrl-C writes a checkpoint), then resume"
            ) from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                raise
            raise ValueError(
                f"{self.path} cannot be locked ({error}): its file system has no locks (NFS "
                "without a lock service, Lustre mounted without flock); name a folder elsewhere"
            ) from error
        try:
            for folder in _OWN_FOLDERS:
                remove_leftovers(self.path / folder)
            self.write_json(_HOLDER, _this_process())
            yield
        finally:
            try:
                with contextlib.suppress(OSError):
                    (self.path / _HOLDER).unlink()
            finally:  # whatever comes in between, Ctrl-C too
                lock.release()

    def _holder(self) -> str:
        """Who holds the run, as far as that is known."""
        try:
            found = self.read_json(_HOLDER)
        except (ValueError, OSError):
            found = {}
        here = found.get("host") == socket.gethostname()
        if not found or (here and not _is_alive(found["pid"])):  # left by one that was killed
            return "another process"
        where = "" if here else f" on {found['host']}"
        return f"process {found['pid']}{where} (`{found['command']}`, since {found['since']})"

    def is_held(self) -> bool:
        """Say whether a live process writes this run; does not wait."""
        import filelock

        try:
            check_plain(self.path / ".lock")
        except ValueError:  # of a stranger: not to be opened
            return False
        if not (self.path / ".lock").exists():
            return False
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        except NotImplementedError:  # a file system without locks, so nobody holds one
            return False
        except OSError:
            # Someone else's run on a disk that is not ours to write: taken at its word.
            return True
        lock.release()
        return False

    def read_json(self, name: str) -> dict:
        """Return the content of the JSON file `name`, or an empty dictionary if it is missing.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self.path / name
        try:
            content = read_json(path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); restore it or delete it") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no JSON object; restore it or delete it")
        return content

    def write_json(self, name: str, obj: Mapping[str, object]) -> None:
        """Replace the JSON file `name` as a whole.

        Args:
            name: File name in this directory, for example `schedule.json`.
            obj: Content; NaN and infinities are written as Python's `json` does.
        """
        text = json.dumps(obj, indent=2, ensure_ascii=False) + "\n"
        write_text_atomically(self.path / name, text)

    def read_summary(self) -> dict:
        """Return `summary.json`, or an empty dictionary before the first one is written.

        Raises:
            ValueError: If the file is damaged, or an entry is not of its kind.
        """
        summary = self.read_json("summary.json")
        for name, kind in _SUMMARY.items():
            if not isinstance(summary.get(name, kind()), kind):
                path = self.path / "summary.json"
                raise ValueError(f"{path} is damaged ({name} is no {_KINDS[kind]}); restore it")
        fraction = summary.get("progress", {}).get("fraction")
        if not (fraction is None or _is_finite(fraction)):
            raise ValueError(f"{self.path / 'summary.json'} is damaged (fraction); restore it")
        return summary

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Replace `summary.json` as a whole."""
        self.write_json("summary.json", summary)

    def update_summary(self, fields: Mapping[str, object]) -> None:
        """Replace fields of `summary.json`, and leave the others; of a damaged one begin anew."""
        self.set_aside_damaged("summary.json")
        self.write_summary({**self.read_summary(), **fields})

    def set_aside_damaged(self, name: str) -> str | None:
        """Rename a JSON file that cannot be read, so that it is written anew.

        Args:
            name: Of a file that a run can rebuild.

        Returns:
            A line that says so; None if the file is whole, or missing.
        """
        try:
            self.read_json(name)
        except ValueError:
            os.replace(self.path / name, self.path / f"{name}.damaged")
            return f"{self.path / name} was damaged, and is rebuilt (kept as {name}.damaged)"
        return None

    def mend(self) -> list[str]:
        """Set aside what is damaged and can be rebuilt; return a line for each.

        Returns:
            What is to be said of it.
        """
        found = (self.set_aside_damaged(name) for name in ("summary.json", "provenance.json"))
        return [line for line in found if line is not None]

    def status(self) -> str:
        """Return the summary's status, or what became of a run that could not write one.

        Returns:
            `running`, `interrupted`, `failed` or `finished`; `killed` when nobody writes a run
            that never came to an end; `damaged` when the summary cannot be read.
        """
        status = self._written_status()
        if status == "running" and not self.is_held():
            # It may have come to its end between the two looks.
            status = self._written_status()
            return "killed" if status == "running" else status
        return status

    def _written_status(self) -> str:
        try:
            return str(self.read_summary().get("status", "running"))
        except (ValueError, OSError):
            return "damaged"


def find_runs(outputs: Path, experiment: str | None = None) -> list[RunDirectory]:
    """List the runs under `outputs`, oldest first; whatever is no run is passed over.

    Args:
        outputs: Folder of all runs; may be missing.
        experiment: Only this experiment's runs; None for all.

    Returns:
        Runs sorted by directory name, that is by time; renamed ones come before the others.
    """
    parents = _folders(Path(outputs)) if experiment is None else [Path(outputs) / experiment]
    runs = [path for parent in parents for path in _folders(parent) if is_run(path)]
    runs.sort(key=lambda path: (_NAME.fullmatch(path.name) is not None, path.name, path.parent))
    return [RunDirectory(path) for path in runs]


def newest_run(outputs: Path, experiment: str) -> RunDirectory | None:
    """Return the latest run of `experiment`, or None if there is none.

    Args:
        outputs: Folder of all runs; may be missing.
        experiment: Name of the experiment.
    """
    runs = find_runs(outputs, experiment)
    return runs[-1] if runs else None


def _this_process() -> dict[str, object]:
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now, "command": command}


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # where this would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _text(path: Path) -> str:
    try:
        return read_plain(path, YAML_LIMIT).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no UTF-8 text; restore it") from None


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < math.inf


def _folders(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # missing, a file, or not ours to read
        return [entry for entry in path.iterdir() if entry.is_dir()]
    return []


def is_run(path: Path) -> bool:
    """Say whether a directory is that of a run: its configuration is written."""
    try:
        return (path / ".hydra" / "config.yaml").is_file()
    except OSError:
        return False
