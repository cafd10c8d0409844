"""What a run writes as it goes on: CSV files that only grow, checkpoints in step with them."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from hypergrad.runs.atomic import sync_folder
from hypergrad.runs.checkpoint import CUT_OFF, Checkpoint, CheckpointStore
from hypergrad.runs.directory import RunDirectory

__all__ = ["CsvLog", "RunLog", "columns"]

CSV, GROUND = "csv", "ground"  # what a checkpoint keeps of its run
START = (0, hashlib.sha256().hexdigest())  # the mark of an empty file

Cell = int | float | str | None


def columns(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the columns of each file of a run that has hyperparameters of these names."""
    own = " ".join(names)
    hypergradients = " ".join(f"{name}_hypergradient" for name in names)
    found: dict[str, str] = {
        "inner": (
            "seed method outer_step epoch step train_loss train_accuracy validation_loss "
            f"validation_accuracy test_accuracy {own} seconds"
        ),
        "outer": (
            "seed outer_step kind index start_epoch end_epoch value hypergradient step_size sign "
            "contributing_steps signal_to_noise clipped_gradients clipped_products not_finite "
            "not_finite_step growth sign_agreement t_statistic basis"
        ),
        "hd": f"seed step epoch {own} {hypergradients}",
    }
    return {file: text.split() for file, text in found.items()}


class RunLog:
    """The files of one run, kept in step with its checkpoints.

    A checkpoint notes how long each CSV file was, and its checksum; resuming cuts them back to
    there, so that rows written after it appear once, whatever was killed when.

    Args:
        run: The run, held by this process.
        names: Of its hyperparameters.
        ground: Stands for all that its results depend on; a checkpoint of another is passed over.
    """

    def __init__(
        self, run: RunDirectory, names: Sequence[str], ground: Mapping[str, str] | None = None
    ) -> None:
        self.run = run
        self._ground = None if ground is None else dict(ground)
        self._files = {
            file: CsvLog(run.path / f"{file}.csv", own) for file, own in columns(names).items()
        }
        self._store = CheckpointStore(run.path / "checkpoints")

    def append(self, name: str, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Add rows to `inner`, `outer` or `hd`."""
        self._files[name].append(rows)

    def save(self, tensors: Mapping[str, Tensor], state: Mapping[str, object]) -> None:
        """Write a checkpoint that resumes from exactly here."""
        marks = {name: file.mark() for name, file in self._files.items()}
        self._store.save(tensors, {**state, CSV: marks, GROUND: self._ground})

    def load(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest whole checkpoint, with the CSV files cut back to it, and remarks.

        Returns:
            The checkpoint, or None if the run never got to its first one (the files are then
            empty), and a line for each damaged checkpoint that was passed over, and for what is
            repeated in its place.

        Raises:
            ValueError: If the run directory is damaged beyond that.
        """
        checkpoint, remarks = self.look()
        marks = {} if checkpoint is None else checkpoint.state[CSV]
        lost = {name: file.truncate(*marks.get(name, START)) for name, file in self._files.items()}
        if remarks and checkpoint is not None:
            rows = " and ".join(f"{n} of {name}.csv" for name, n in lost.items() if n)
            seconds = self._store.older_by
            remarks.append(f"an older one is used: {seconds:.0f} s of work ({rows or 'no rows'})")
            remarks[-1] += " are repeated"
        return checkpoint, remarks

    def look(self) -> tuple[Checkpoint | None, list[str]]:
        """Return what `load` would go on from, and what it would pass over; change nothing.

        Raises:
            ValueError: If there is nothing left to go on from.
        """
        checkpoint = self._store.load(self._check)
        skipped = (why for why in self._store.skipped if not why.endswith(CUT_OFF))
        return checkpoint, [f"passed over a damaged checkpoint: {why}" for why in skipped]

    def _check(self, checkpoint: Checkpoint) -> None:
        """Refuse a checkpoint of other settings, and one whose rows have changed since."""
        state = checkpoint.state
        if GROUND not in state or not isinstance(marks := state.get(CSV), dict):
            raise ValueError("an older version of hypergrad wrote it: go on with that one")
        kept = state[GROUND] or {}
        if (self._ground or {}).get("fixed") != kept.get("fixed"):
            raise ValueError("it was taken with other settings, data or network")
        for name, mark in marks.items():
            if name in self._files:
                self._files[name].check(*mark)

    def close(self) -> None:
        """Close the CSV files."""
        for file in self._files.values():
            file.close()


class CsvLog:
    """Append-only metrics file with fixed columns.

    Floats are written so that they read back exactly (with pandas before 3.1, `read_csv` needs
    `float_precision="round_trip"` for that); None is an empty cell.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        """Name the file; it is created, with its header, at the first `append` or `sync`.

        Args:
            path: The file; its folder must exist.
            columns: Column names in the order of the file.

        Raises:
            ValueError: If a column is named twice, or the file exists with other columns.
        """
        if len(set(columns)) != len(columns):
            raise ValueError(f"columns {list(columns)} repeat a name; name each column once")
        self.path = Path(path)
        self.columns = tuple(columns)
        self._header = _line(self.columns)
        self._file: io.FileIO | None = None
        self._hash = hashlib.sha256()  # of the file, while it is open
        self._check_header()

    def append(self, rows: Iterable[Mapping[str, Cell]]) -> None:
        """Add rows at the end, in one write.

        Args:
            rows: Each maps every column to its value.

        Raises:
            ValueError: If a row lacks a column, has an unknown one, or holds a value that is no
                number, string or None; nothing is written then.
        """
        data = b"".join(_line(self._cells(row)) for row in rows)
        _write_all(self._open(), data)
        self._hash.update(data)

    def sync(self) -> int:
        """Bring every row to the disk.

        Returns:
            The length of the file in bytes: the position that `truncate` takes.
        """
        file = self._open()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size

    def mark(self) -> tuple[int, str]:
        """Bring every row to the disk; return where the file ends, and a checksum of all of it."""
        return self.sync(), self._hash.hexdigest()

    def check(self, position: int, checksum: str | None = None) -> None:
        """Refuse a file whose first `position` bytes are not those that were there.

        Args:
            position: As `sync` or `mark` returned it.
            checksum: As `mark` returned it; None if it was not noted.

        Raises:
            ValueError: If the file is missing, shorter, or has changed before `position`.
        """
        damaged = "the run directory is damaged; restore the file or start a new run"
        found = self.path.read_bytes() if self.path.exists() else b""
        if not 0 <= position <= len(found):
            raise ValueError(
                f"{self.path} has {len(found)} bytes, but the checkpoint was taken at byte "
                f"{position}: {damaged}"
            )
        if position and found[position - 1 : position] != b"\n":
            raise ValueError(
                f"{self.path}: no row ends at byte {position}, where the checkpoint was taken: "
                f"{damaged}"
            )
        if checksum not in (None, hashlib.sha256(found[:position]).hexdigest()):
            raise ValueError(
                f"{self.path} is not what it was: its first {position} bytes have changed since "
                f"the checkpoint was taken: {damaged}"
            )

    def truncate(self, position: int, checksum: str | None = None) -> int:
        """Cut the file back to `position`, so that rows written after a checkpoint are undone.

        Args:
            position: In bytes, as `sync` returned it; 0 empties the file, header included.
            checksum: Of what is before it, as `mark` returned it; None if it was not noted.

        Returns:
            How many rows were cut off.

        Raises:
            ValueError: As `check`.
        """
        self.close()
        self.check(position, checksum)
        if not self.path.exists():
            return 0
        with self.path.open("r+b") as file:
            file.seek(position)
            rows = file.read().count(b"\n") - (position == 0)
            file.truncate(position)
            os.fsync(file.fileno())
        return max(rows, 0)

    def close(self) -> None:
        """Close the file; a later `append` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> io.FileIO:
        """Return the file opened for appending, with its header in place."""
        if self._file is None:
            self._check_header()
            # Unbuffered: what `append` wrote is the kernel's when it returns, and outlives a kill.
            file = io.FileIO(self.path, "a+b")
            try:
                self._prepare(file)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _prepare(self, file: io.FileIO) -> None:
        """Write the header if it is not there; refuse to add to a row that was cut off."""
        file.seek(0)
        found = file.readall()
        if len(found) < len(self._header):  # new, or killed while writing the header
            file.truncate(0)
            _write_all(file, self._header)
            sync_folder(self.path.parent)
            found = self._header
        if not found.endswith(b"\n"):
            raise ValueError(
                f"{self.path} ends in the middle of a row, because its writer was killed: "
                "truncate it to the position in the checkpoint, or delete the last line"
            )
        self._hash = hashlib.sha256(found)

    def _check_header(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            content = file.read(len(self._header))
        # A beginning of the header is what a process leaves that was killed while writing it.
        if not self._header.startswith(content):
            raise ValueError(
                f"{self.path} begins with {content!r} where {self._header!r} is expected: "
                "it was written by another version; move it away or start a new run"
            )

    def _cells(self, row: Mapping[str, Cell]) -> list[str]:
        if row.keys() != set(self.columns):
            missing = [name for name in self.columns if name not in row]
            unknown = [name for name in row if name not in self.columns]
            raise ValueError(
                f"a row for {self.path.name} lacks the columns {missing} and has the unknown "
                f"columns {unknown}; give exactly {list(self.columns)}"
            )
        return [_cell(name, row[name]) for name in self.columns]


def _cell(name: str, value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(float(value))  # float(): NumPy's subclass has another repr
    if isinstance(value, int | str):
        return str(value)
    raise ValueError(
        f"column {name!r} holds {value!r} of type {type(value).__name__}; "
        "convert it to int, float, str or None"
    )


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode("utf-8")


def _write_all(file: io.FileIO, data: bytes) -> None:
    """Write everything: the kernel may take less than it was given, for example near a quota."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
