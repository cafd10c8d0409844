"""`hypergrad runs`: what ran, on what, with what typed, how long, and what came of it."""

import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from hypergrad.reporting.results import DIVERGED
from hypergrad.runs.directory import RunDirectory, find_runs
from hypergrad.runs.plain_files import check_member_name
from hypergrad.runs.shown import in_a_cell, printable, short
from hypergrad.runs.tables import Table

__all__ = ["Listed", "RunFilter", "list_runs"]

WIDTH = 80
_RECORD = "provenance.json"
FORMS = ("table", "json", "csv")


class Listed(NamedTuple):
    """A run in a line; empty or None where it does not say.

    Attributes:
        run: Its directory.
        experiment: What it was composed from.
        data: Its data set.
        scale: `full` or `smoke`.
        overrides: What was typed.
        status: As of `RunDirectory.status`.
        fraction: How much of it is done, in [0, 1].
        seconds: Of wall time, over all sessions; of a multi-run, of its members together.
        headline: What came of it, or went wrong.
    """

    run: str
    experiment: str
    data: str
    scale: str
    overrides: list[str]
    status: str
    fraction: float | None
    seconds: float | None
    headline: str


class RunFilter(NamedTuple):
    """Which runs are listed: those that are of each that is given; the newest `last` of them."""

    experiment: str | None = None
    data: str | None = None
    scale: str | None = None
    status: str | None = None
    last: int | None = None

    def of(self, listed: Sequence[Listed]) -> list[Listed]:
        """Return those that fit, oldest first."""
        wanted = {key: value for key, value in self._asdict().items() if value and key != "last"}
        own = [e for e in listed if all(getattr(e, key) == v for key, v in wanted.items())]
        return own if self.last is None else own[-self.last :]


EVERY = RunFilter()


def list_runs(outputs: Path, only: RunFilter = EVERY, form: str = "table") -> None:
    """Print runs, oldest first.

    Args:
        outputs: Folder of all runs.
        only: Which of them.
        form: `table`, `json` or `csv`.

    Raises:
        ValueError: For another form.
    """
    if form not in FORMS:
        raise ValueError(f"--format {form}: use one of {', '.join(FORMS)}")
    every = [_listed(run) for run in find_runs(outputs)]
    listed = only.of(every)
    if form == "json":
        print(json.dumps([entry._asdict() for entry in listed], indent=2))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(Listed._fields)
        for entry in listed:
            row = entry._replace(overrides=" ".join(entry.overrides))
            writer.writerow("" if value is None else in_a_cell(value) for value in row)
    elif not every:
        print(f"no runs under {outputs}: start one with `hypergrad run quickstart`")
    elif not listed:
        print(f"none of {len(every)} runs under {outputs} is such a run")
    else:
        _print(listed)


def _print(listed: Sequence[Listed]) -> None:
    """Two columns, a run in a few lines: its directory can be copied, and nothing is cut short."""
    paths = [Path(entry.run) for entry in listed]
    names = [printable(f"{path.parent.name}/{path.name}") for path in paths]
    console = Console()
    table = Table("run", "what", width=min(WIDTH, console.width), show_lines=True)
    table.columns[0].no_wrap = True
    table.columns[0].min_width = min(max(map(len, names)), console.width - 16)
    table.columns[0].overflow = table.columns[1].overflow = "fold"
    for name, entry in zip(names, listed, strict=True):
        done = "" if entry.fraction in (None, 1.0) else f" {100 * entry.fraction:.0f} %"
        time = "" if entry.seconds is None else f", {_time(entry.seconds)}"
        scale = f", {entry.scale} scale" if entry.scale not in ("", "full") else ""
        folder = Path(entry.run).parent.name
        named = entry.experiment.replace("/", "_") in ("", folder)
        subject = entry.data if named else f"{entry.experiment} on {entry.data}"
        typed = [text for text in entry.overrides if not text.startswith("outputs=")]  # it is here
        what = [f"{subject or '-'}{scale}", " ".join(typed), entry.headline]
        table.add_row(
            Text(f"{name}\n{printable(entry.status)}{done}{time}"),
            Text("\n".join(map(short, filter(None, what)))),
        )
    console.print(table)


def _listed(run: RunDirectory) -> Listed:
    """Read what a run says of itself; of a damaged one, what can be read."""
    try:
        status, summary = run.status(), run.read_summary()
        progress, seconds = summary.get("progress", {}), run.read_json(_RECORD)
        fraction, wall = progress.get("fraction"), seconds.get("wall_seconds")
        if wall is None:
            wall = _seconds_of_members(run)
        headline = str(summary.get("headline") or summary.get("message") or "")
        if status == "finished" and summary.get("message") == DIVERGED:
            status = "finished, diverged"
    except (ValueError, OSError, AttributeError, KeyError, TypeError) as error:
        status, fraction, wall, headline = "damaged", None, None, str(error)
    try:
        text, overrides = run.config_text(), run.overrides()
    except (ValueError, OSError):
        text, overrides = "", []
    return Listed(
        str(run.path),
        _setting(r"^experiment: (\S+)$", text) or _setting(r"^name: (\S+)$", text),
        _setting(r"^data:\n(?:  .*\n)*?  name: (\S+)$", text),
        _setting(r"^scale: (\S+)$", text),
        overrides,
        status,
        fraction if isinstance(fraction, int | float) else None,
        wall if isinstance(wall, int | float) else None,
        " ".join(headline.split()),
    )


def _seconds_of_members(run: RunDirectory) -> float | None:
    """What all members of a multi-run took together; None if it has none that has begun."""
    names = [str(entry["name"]) for entry in run.read_json("members.json").get("members", [])]
    records = [RunDirectory(run.path / check_member_name(n)).read_json(_RECORD) for n in names]
    known = [record["wall_seconds"] for record in records if "wall_seconds" in record]
    return sum(known) if known else None


def _setting(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else ""


def _time(seconds: float) -> str:
    """A time as people say it.

    >>> _time(8.2), _time(200), _time(8000), _time(300_000)
    ('8 s', '3 min', '2.2 h', '3.5 d')
    """
    for unit, size, form in (("d", 86400, ".1f"), ("h", 3600, ".1f"), ("min", 60, ".0f")):
        if seconds >= 2 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:{form}} {unit}"
    return f"{seconds:.0f} s"
