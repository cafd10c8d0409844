"""A run directory for a search that a script holds: `runs`, `plot` and `export` read it as any."""

import contextlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import yaml
from torch import Tensor

from hypergrad.api.search_log import InnerRow, SearchAbout, SearchLog
from hypergrad.drivers.learn.state import outer_rows
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.provenance import provenance, record_session
from hypergrad.runs.run_log import RunLog
from hypergrad.training.outer_loop import Best, Evaluation, OuterStep
from hypergrad.training.outer_state import best_as_dict

__all__ = ["RunFolder", "is_of_a_script"]

MADE_BY = "made_by"
SEED = 0  # of the one repeat that a search is


class RunFolder(SearchLog):
    """Keeps a search in a run directory, `outputs/<name>/<date>_<time>_<id>/`.

    It is held, for this search alone, until the search ends or `close`. A search that was killed
    goes on from its last checkpoint:

        search = Search(..., log=RunFolder.open("outputs/mine/2026-01-31_120000_0a1b2c")).resume()

    Args:
        name: Of the experiment; a plain folder name.
        outputs: Folder of all runs.
        rows_per_epoch: How often an inner run is evaluated and written down.
        checkpoint_seconds: How long it goes on between two checkpoints.

    Attributes:
        run: The directory.

    Raises:
        ValueError: If `name` is not a plain folder name.
        OSError: If `outputs` cannot be written.
    """

    def __init__(
        self,
        name: str,
        outputs: str | Path = "outputs",
        *,
        rows_per_epoch: int = 1,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        run = RunDirectory.create(Path(outputs), name)
        run.write_config(yaml.safe_dump({MADE_BY: "hypergrad.Search", "name": name}), [])
        self._use(run, rows_per_epoch, checkpoint_seconds)

    @classmethod
    def open(
        cls, path: str | Path, *, rows_per_epoch: int = 1, checkpoint_seconds: float = 60.0
    ) -> "RunFolder":
        """Return the log of a search that is to go on.

        Args:
            path: Its run directory.
            rows_per_epoch: As for a new one.
            checkpoint_seconds: Likewise.

        Raises:
            ValueError: If it is no run directory, or one that the command line made.
        """
        run = RunDirectory.open(Path(path))
        if not is_of_a_script(run):
            raise ValueError(f"{path} was made by the command line: hypergrad run --resume {path}")
        log = cls.__new__(cls)
        log._use(run, rows_per_epoch, checkpoint_seconds)
        log._in_step = False
        return log

    def _use(self, run: RunDirectory, rows_per_epoch: int, checkpoint_seconds: float) -> None:
        if rows_per_epoch < 1:
            raise ValueError(f"{rows_per_epoch=}: must be at least 1")
        self.run = run
        self.rows_per_epoch = rows_per_epoch
        self.checkpoint_seconds = checkpoint_seconds
        self._held = contextlib.ExitStack()
        self._log: RunLog | None = None
        self._in_step = True  # whether the files are where the search is
        self._begun = False
        self._about: SearchAbout | None = None
        self._outer_steps = 1
        self._columns: tuple[str, ...] = ()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory, as the end of a search does; to go on, `resume`."""
        self._held.close()
        self._log, self._about, self._begun = None, None, False
        self._in_step = False

    def begin(self, about: SearchAbout) -> None:
        """Take the directory up, for this process and this search alone.

        Raises:
            ValueError: If another process holds it, or another search.
        """
        if self._about is not None:
            raise ValueError(
                f"{self.run.path} is of another search: give each a RunFolder of its own"
            )
        self._outer_steps, self._columns = about.outer_steps, about.hyperparameters
        self._files()
        self._about = about

    def _start(self) -> None:
        """Say that it goes on, once there is something to write."""
        about = self._about
        assert about is not None, "a search begins before it writes"
        self._begun = True
        command = [Path(sys.argv[0]).name or "python", *sys.argv[1:]]
        record_session(self.run, provenance(about.device, [SEED], command))
        settings = {"model": about.network, "epochs": about.epochs}
        self.run.update_summary(
            {
                "experiment": self.run.path.parent.name,
                "status": "running",
                "message": "",
                "figures": ["fig1", "fig4"],
                "settings": {**settings, "outer_steps": about.outer_steps},
            }
        )

    def row(self, row: InnerRow) -> None:
        """Write a row of `inner.csv`."""
        given = {name: row.values.get(name) for name in self._columns}
        numbers = {n: None if isinstance(own, tuple) else own for n, own in given.items()}
        about = {"seed": SEED, "method": "ours", "test_accuracy": None}
        seen = {**row._asdict(), **about, **numbers, "seconds": round(row.seconds, 3)}
        del seen["values"]
        self._rows().append("inner", [seen])

    def step(self, step: OuterStep, best: OuterStep | None) -> None:
        """Write the rows of `outer.csv`, and the best schedule so far."""
        self._rows().append("outer", outer_rows(step, SEED))
        spent = {"seed": SEED, **step.after.spent._asdict()}
        fraction = (step.number + 1) / self._outer_steps
        summary = {"progress": {"phase": "ours", "fraction": fraction}, "spent": [spent]}
        if best is not None:
            seen = Evaluation(best.validation_loss, best.validation_accuracy)
            entry = best_as_dict(Best(best.number, best.schedule, seen))
            size = {"steps": best.horizon, "epochs": best.epochs}
            self.run.write_json("schedule.json", {"schedules": [{"seed": SEED, **size, **entry}]})
            summary["headline"] = (
                f"validation {best.validation_accuracy:.4g} (loss {best.validation_loss:.4g}), "
                f"outer step {best.number}"
            )
        self.run.update_summary(summary)

    def checkpoint(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """Write a checkpoint that the rows are in step with."""
        self._rows().save(tensors, state)

    def latest(self) -> tuple[Mapping[str, Tensor], Mapping] | None:
        """Return the newest whole checkpoint, with the rows cut back to it."""
        found, remarks = self._files().load()
        for remark in remarks:
            warnings.warn(remark, stacklevel=3)
        self._in_step = True
        return found

    def broken_off(self, error: BaseException) -> None:
        """Say what it was."""
        self._begun = False
        by_hand = isinstance(error, KeyboardInterrupt)
        text = "" if by_hand else f"{type(error).__name__}: {' '.join(str(error).split())}"
        self.run.update_summary({"status": "interrupted" if by_hand else "failed", "message": text})

    def end(self, reason: str) -> None:
        """Note why it ended, and let go."""
        progress = {"phase": "finished", "fraction": 1.0}
        self.run.update_summary({"status": "finished", "message": reason, "progress": progress})
        self.close()

    def _files(self) -> RunLog:
        if self._log is None:
            try:
                self._held.enter_context(self.run.hold())
            except ValueError as error:
                error.add_note("if it is this process, call close() of the RunFolder that has it")
                raise
            for line in self.run.mend():
                warnings.warn(line, stacklevel=3)
            self._log = RunLog(self.run, self._columns)
            self._held.callback(self._log.close)
        return self._log

    def _rows(self) -> RunLog:
        """The files, in step with the search."""
        if not self._in_step:
            raise ValueError(f"{self.run.path} holds a search: call resume() before it goes on")
        if not self._begun:
            self._start()
        return self._files()


def is_of_a_script(run: RunDirectory) -> bool:
    """Say whether a `RunFolder` made a run directory, and not the command line."""
    try:
        config = yaml.safe_load(run.config_text())
    except yaml.YAMLError:
        return False
    return isinstance(config, dict) and MADE_BY in config
