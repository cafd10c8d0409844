"""The outcomes of an improvement in a file, a line each: what was taken is never taken again."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from hypergrad.core.budget import Spent
from hypergrad.training.improvement.run import Taken
from hypergrad.training.improvement.training import Outcome

__all__ = ["ImprovementRecord"]

FORMAT = 1


class ImprovementRecord:
    """Outcomes on disk, in the order in which they were asked for.

    Args:
        path: The file; None for none. Made if it is missing; a line that was cut off is dropped.
        settings: What the outcomes depend on.

    Attributes:
        outcomes: Those that were in the file.

    Raises:
        ValueError: For a file of other settings, or one that is none.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, object]) -> None:
        self.outcomes: list[Outcome] = []
        self._file: IO[bytes] | None = None
        if path is None:
            return
        path, head = Path(path), {"format": FORMAT, "settings": dict(settings)}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if whole:
            self._read(path, whole, head)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(sum(map(len, whole)))
        self._file.seek(0, os.SEEK_END)
        if not whole:
            self._write(head)

    def __enter__(self) -> "ImprovementRecord":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, taken: Taken) -> None:
        """Write an outcome down, on the disk when this returns."""
        training, outcome = taken
        kept = {**outcome._asdict(), "spent": outcome.spent._asdict()}
        about = {"stage": training.stage, "key": training.key, "values": list(training.values)}
        self._write({**about, "outcome": kept})

    def _write(self, entry: Mapping[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, path: Path, lines: list[bytes], head: Mapping[str, object]) -> None:
        try:
            found, *entries = (json.loads(line) for line in lines)
            if found["format"] != FORMAT:
                raise ValueError(f"{path} has format {found['format']}: this reads {FORMAT}")
            kept, given = found["settings"], head["settings"]
            for entry in entries:
                own = dict(entry["outcome"])
                own["spent"] = Spent(**own["spent"])
                if own["derivatives"] is not None:
                    own["derivatives"] = tuple(own["derivatives"])
                self.outcomes.append(Outcome(**own))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no record of an improvement: name another file") from error
        assert isinstance(given, dict)
        for name, value in given.items():
            if kept.get(name) != value:
                raise ValueError(
                    f"{path} is of another improvement: {name} was {kept.get(name)} and is {value}"
                )
