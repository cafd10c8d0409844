"""The directory that holds everything one run leaves behind."""

import contextlib
import errno
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hypergrad.runs.atomic import remove_leftovers, write_text_atomically

__all__ = ["RunDirectory", "find_runs", "is_run", "newest_run"]

_NAME = re.compile(r"\d{4}-\d{2}-\d{2}_\d{6}_[0-9a-f]{6}")
# What there is of a run before its configuration is written.
_BEFORE_CONFIG = {"checkpoints", "figures", ".hydra", "members.json"}
# Listing runs takes each lock for an instant; a run that starts just then waits that long.
_PATIENCE = 0.5  # seconds


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
        return cls._furnished(path)

    def member(self, name: str) -> "RunDirectory":
        """Make, or find, the directory of a member of this run: a run directory inside it.

        Args:
            name: Of the member; a plain folder name.

        Returns:
            The member.
        """
        path = self.path / name
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
            ValueError: If `path` is no run directory.
        """
        path = Path(path)
        if not is_run(path):
            what = "holds no .hydra/config.yaml" if path.is_dir() else "is not a directory"
            raise ValueError(
                f"{path} {what}, so it is no run directory; give one from `hypergrad runs`, "
                "such as outputs/fig1/2025-01-31_120000_0a1b2c"
            )
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
        """Return the composed configuration as YAML."""
        return (self.path / ".hydra" / "config.yaml").read_text(encoding="utf-8")

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
            listing = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError:
            listing = None
        if not isinstance(listing, list):
            raise ValueError(f"{path} is not a YAML list of overrides; restore it or delete it")
        return [str(override) for override in listing]

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only process that writes this run, until the block ends or the process dies.

        Raises:
            ValueError: If another process writes it.
        """
        import filelock  # here, because most commands never lock

        lock = filelock.FileLock(self.path / ".lock", timeout=_PATIENCE)
        try:
            lock.acquire(poll_interval=0.02)
        except filelock.Timeout:
            raise ValueError(
                f"run {self.path} is being written by another process; wait until that one has "
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
            for folder in (self.path, self.path / ".hydra"):
                remove_leftovers(folder)
            yield
        finally:
            lock.release()

    def is_held(self) -> bool:
        """Say whether a live process writes this run; does not wait."""
        import filelock

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
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (ValueError, RecursionError) as error:
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
        """Return `summary.json`, or an empty dictionary before the first one is written."""
        return self.read_json("summary.json")

    def write_summary(self, summary: Mapping[str, object]) -> None:
        """Replace `summary.json` as a whole."""
        self.write_json("summary.json", summary)

    def update_summary(self, fields: Mapping[str, object]) -> None:
        """Replace fields of `summary.json`, and leave the others."""
        self.write_summary({**self.read_summary(), **fields})

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
