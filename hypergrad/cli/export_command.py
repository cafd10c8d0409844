"""The command that writes a run's schedule to a file of its own."""

import sys
from pathlib import Path

from hypergrad.cli.output_file import check_output
from hypergrad.core.schedule_file import text_of
from hypergrad.drivers.export import exported
from hypergrad.runs.directory import RunDirectory

__all__ = ["export"]


def export(run: Path, output: Path | None, seed: int | None) -> None:
    """Write the schedule of a run to a file, or to stdout.

    Args:
        run: Run directory.
        output: The file; None for stdout.
        seed: Which of the run's seeds; None for the best by validation accuracy.

    Raises:
        ValueError: If `run` is no run directory, or has no such schedule; if there is no folder
            for the file.
        OSError: If the file cannot be written.
    """
    check_output(output)
    schedule = exported(RunDirectory.open(run), seed)
    if output is None:
        sys.stdout.write(text_of(schedule.contents))
        return
    schedule.save(output)
    print(output)
