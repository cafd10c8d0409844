"""Everything a run writes while it goes on: three CSV files, checkpoints, summary and schedules."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from hypergrad.runs.checkpoint import Checkpoint, CheckpointStore
from hypergrad.runs.csvlog import CsvLog
from hypergrad.runs.directory import RunDirectory

__all__ = ["COLUMNS", "Journal"]

COLUMNS = {
    "inner": (
        "seed method outer_step epoch step train_loss train_accuracy validation_loss "
        "validation_accuracy test_accuracy learning_rate momentum weight_decay seconds"
    ).split(),
    "outer": (
        "seed outer_step kind index start_epoch end_epoch value hypergradient step_size sign "
        "contributing_steps signal_to_noise clipped_gradients clipped_products not_finite "
        "not_finite_step"
    ).split(),
    "hd": (
        "seed step epoch learning_rate momentum weight_decay learning_rate_hypergradient "
        "momentum_hypergradient weight_decay_hypergradient"
    ).split(),
}


class Journal:
    """The files of one run, kept in step with its checkpoints.

    A checkpoint notes how long each CSV file was; resuming cuts them back to there, so that rows
    written after it appear once, whatever was killed when.

    Args:
        run: The run, held by this process.
    """

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._logs = {name: CsvLog(run.path / f"{name}.csv", COLUMNS[name]) for name in COLUMNS}
        self._store = CheckpointStore(run.path / "checkpoints")

    def append(self, name: str, rows: Iterable[Mapping[str, int | float | str | None]]) -> None:
        """Add rows to `inner`, `outer` or `hd`."""
        self._logs[name].append(rows)

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """Write a checkpoint that resumes from exactly here."""
        positions = {name: log.sync() for name, log in self._logs.items()}
        self._store.save(tensors, {**state, "csv": positions})

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest whole checkpoint, with the CSV files cut back to it, and remarks.

        Returns:
            The checkpoint, or None if the run never got to its first one (the files are then
            empty), and a line for each damaged checkpoint that was passed over.

        Raises:
            ValueError: If the run directory is damaged beyond that.
        """
        checkpoint = self._store.load()
        positions = {} if checkpoint is None else checkpoint.state["csv"]
        for name, log in self._logs.items():
            log.truncate(positions.get(name, 0))
        return checkpoint, self._store.skipped

    def close(self) -> None:
        """Close the CSV files."""
        for log in self._logs.values():
            log.close()
