"""`hypergrad report`: runs as one HTML file, which can be rewritten while they go on."""

import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hypergrad.runs.directory import find_runs

if TYPE_CHECKING:
    from hypergrad.reporting.run_facts import RunFacts

__all__ = ["report"]

EVERY = 5  # seconds between two looks at runs that go on


def report(
    runs: Sequence[Path], outputs: Path, output: Path | None, last: int, *, follow: bool
) -> None:
    """Write the page and print where it is.

    Args:
        runs: Run directories or records; none for the newest finished ones.
        outputs: Folder of all runs.
        output: The file; None for `report.html` in `outputs`.
        last: How many runs at most, where none is named.
        follow: Also those that are not finished where none is named; then rewrite the page every
            few seconds until none of its runs is written any more.

    Raises:
        ValueError: If there is no run.
        OSError: If the file cannot be written.
    """
    from hypergrad.reporting.run_facts import is_shown

    if wrong := [path for path in runs if not is_shown(path)]:
        raise ValueError(f"no run at {wrong[0]}: `hypergrad runs` lists the runs there are")
    paths, remark = (list(runs), "") if runs else _newest(outputs, last, follow=follow)
    target = outputs / "report.html" if output is None else output
    written = _Page(target, list(dict.fromkeys(paths)), remark)
    try:
        written.write(follow=follow)
        print(target, flush=True)
        while follow and not written.has_ended:
            time.sleep(EVERY)
            written.write(follow=True)
    except KeyboardInterrupt:
        written.write(follow=False)  # nobody writes it any more, so no browser need ask again
        raise


class _Page:
    """A page that is written again; only runs whose files have changed are read again."""

    def __init__(self, target: Path, paths: Sequence[Path], remark: str) -> None:
        self._target, self._paths, self._remark = target, paths, remark
        self._read: dict[Path, tuple[float, RunFacts]] = {}
        self.has_ended = False

    def write(self, *, follow: bool) -> None:
        from hypergrad.reporting.page import page
        from hypergrad.reporting.run_facts import read_facts
        from hypergrad.runs.atomic import write_text_atomically

        for path in self._paths:
            seen = _newest_change(path)
            # What goes on may have died without a trace in its files.
            known = self._read.get(path)
            if known is None or known[0] != seen or not known[1].has_ended:
                if known is None:
                    print(f"reading {path}", file=sys.stderr)
                self._read[path] = seen, read_facts(path)
        facts = [self._read[path][1] for path in self._paths]
        self.has_ended = all(each.has_ended for each in facts)
        refresh = EVERY if follow and not self.has_ended else 0
        text = page(facts, datetime.now(), remark=self._remark, refresh=refresh)
        self._target.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self._target, text)


def _newest_change(path: Path) -> float:
    return max((each.stat().st_mtime for each in path.rglob("*") if each.is_file()), default=0.0)


def _newest(outputs: Path, last: int, *, follow: bool) -> tuple[list[Path], str]:
    """The newest runs under a folder, newest first, and a sentence on those that are left out."""
    every = find_runs(outputs)
    wanted = ("finished", "running") if follow else ("finished",)
    fitting = [run.path for run in reversed(every) if run.status() in wanted]
    if not fitting:
        others = f"{len(every)} runs under {outputs}, none finished: name those that you mean"
        nothing = f"no runs under {outputs}: start one with `hypergrad run quickstart`"
        raise ValueError(others if every else nothing)
    left = f"The newest {last} of {len(fitting)} runs." if len(fitting) > last else ""
    return fitting[:last], left
