"""What a page says of a run, read from its directory without trust."""

import shlex
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hypergrad.figures import FIGURES, figures_of, pictures
from hypergrad.figures.run_data import mapping, mappings, read_json
from hypergrad.figures.table1 import TableTexts, table_texts
from hypergrad.reporting.results import TITLES
from hypergrad.runs.directory import RunDirectory

__all__ = ["Picture", "ResultRow", "RunFacts", "is_shown", "read_facts"]

DEEPEST = 4  # of lists and objects within each other that are written out
_ORIGIN = {  # of provenance.json
    "started": "started",
    "git_commit": "commit",
    "hypergrad": "hypergrad",
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "python": "Python",
    "device": "device",
    "cpu_model": "processor",
    "cpu_available": "processors available",
    "platform": "platform",
    "seeds": "seeds",
    "data_fingerprint": "data fingerprint",
    "model_source": "source of the network",
}
_PROGRAM = ("hypergrad", "hypergrad.exe", "__main__.py")  # as the command line is started
_MORE_TITLES = {"base": "base schedule", "improved": "improved schedule"}


class ResultRow(NamedTuple):
    """A result of one seed; accuracies are fractions, None where there is none."""

    seed: str
    method: str
    test: float | None
    validation: float | None
    outer_step: str
    diverged: bool


class Picture(NamedTuple):
    """A figure as PNG; empty, with why, where it cannot be drawn."""

    name: str
    title: str
    png: bytes
    why: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What a page says of a run: texts as they stand in its files, never to be trusted.

    Attributes:
        path: Its directory.
        experiment, status, headline, message: As in `summary.json`.
        fraction: How much is done, in [0, 1]; None where it does not say.
        settings, origin: What was run, and where: a name and a text each.
        command: What to type to repeat it; empty where that was not recorded.
        seconds: Wall time of all sessions; None where it is not known.
        results: One a seed and method, in their order.
        pictures: Its figures.
        table1: Table 1; None of another kind of run.
        members: Of a multi-run, in the order of their names.
        damage: Why a file of it cannot be read.
    """

    path: Path
    experiment: str = ""
    status: str = "damaged"
    headline: str = ""
    message: str = ""
    fraction: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    seconds: float | None = None
    results: tuple[ResultRow, ...] = ()
    pictures: tuple[Picture, ...] = ()
    table1: TableTexts | None = None
    members: tuple["RunFacts", ...] = ()
    damage: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of it, unless it is resumed."""
        return self.status != "running"

    def methods(self) -> dict[str, list[ResultRow]]:
        """Results by the method's name for people: ours first, then as they came."""
        known = {**TITLES, **_MORE_TITLES}
        names = dict.fromkeys([*known, *(row.method for row in self.results)])
        found = {name: [row for row in self.results if row.method == name] for name in names}
        return {known.get(name, name).strip(): rows for name, rows in found.items() if rows}


def is_shown(path: Path) -> bool:
    """Whether there is a run, or the record of one, at a path."""
    return (path / "summary.json").is_file() or (path / ".hydra" / "config.yaml").is_file()


def read_facts(path: Path, *, drawn: bool = True) -> RunFacts:
    """Read a run, finished or not; what is damaged is told in `damage`, and left out.

    Args:
        path: Its directory, or that of a record.
        drawn: Whether its figures are drawn, which takes seconds.
    """
    # First: what has ended by now is whole in all that is read below.
    status = RunDirectory(path).status()
    damage: list[str] = []

    def content(name: str) -> dict[str, object]:
        try:
            return mapping(read_json(path / name))
        except (ValueError, OSError) as error:
            damage.append(" ".join(str(error).split()))
            return {}

    summary, origin = content("summary.json"), content("provenance.json")
    sweep = content("members.json")
    figures = () if sweep.get("sweep") is True else figures_of(summary)
    # Runs made before `members` call them `parts`.
    listed = summary.get("members") or summary.get("parts") or sweep.get("members")
    # What is drawn of the whole is drawn of its members.
    each_drawn = drawn and not figures
    members = tuple(read_facts(each, drawn=each_drawn) for each in sorted(_inside(path, listed)))
    first = next(iter(mappings(origin.get("sessions"))), origin)
    seconds, fraction = origin.get("wall_seconds"), mapping(summary.get("progress")).get("fraction")
    return RunFacts(
        path,
        experiment=_text(summary.get("experiment")),
        status=status,
        headline=_text(summary.get("headline")),
        message=_text(summary.get("message")),
        fraction=_number(fraction),
        settings=_texts(summary.get("settings")),
        origin={title: _text(origin[key]) for key, title in _ORIGIN.items() if origin.get(key)},
        command=_command(first.get("command")),
        seconds=_number(seconds),
        results=tuple(_results(summary.get("results"))),
        pictures=tuple(_drawn(path, figures)) if drawn else (),
        table1=_table1(path, damage) if "table1" in figures else None,
        members=members,
        damage=tuple(damage),
    )


def mean_and_spread(values: list[float]) -> str:
    """Mean and sample standard deviation of accuracies in percent; a dash for none.

    >>> mean_and_spread([0.5, 0.6]), mean_and_spread([])
    ('55.00 ± 7.07', '-')
    """
    if not values:
        return "-"
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.fmean(values):.2f}{spread}"


def _inside(path: Path, listed: object) -> Iterator[Path]:
    """The members of a run: folders in it that it lists, never a link, which may lead anywhere."""
    names = listed if isinstance(listed, list) else []
    known = {_text(mapping(name).get("name", name)) for name in names}
    try:
        entries = list(path.iterdir())
    except OSError:
        return
    yield from (e for e in entries if e.name in known and not e.is_symlink() and is_shown(e))


def _drawn(path: Path, figures: tuple[str, ...]) -> Iterator[Picture]:
    for name in figures:
        if name in FIGURES and any(path.glob(FIGURES[name].files)):
            yield _picture(name, lambda name=name: pictures(name, path, ("png",))["png"])


def _picture(name: str, draw: Callable[[], bytes]) -> Picture:
    try:
        return Picture(name, FIGURES[name].title, draw())
    # Whatever stands in the files of a run: the page, and the other figures, are still made.
    except Exception as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return Picture(name, FIGURES[name].title, b"", why)


def _table1(path: Path, damage: list[str]) -> TableTexts | None:
    from hypergrad.figures.table1_data import read_cells

    try:
        return table_texts(read_cells([path]))
    except Exception as error:  # as of a figure
        damage.append(f"Table 1: {' '.join(str(error).split()) or type(error).__name__}")
        return None


def _results(entries: object) -> Iterator[ResultRow]:
    for entry in mappings(entries):
        if not entry.get("method"):
            continue
        yield ResultRow(
            _text(entry.get("seed")),
            _text(entry.get("method")),
            _number(entry.get("test_accuracy")),
            _number(entry.get("validation_accuracy")),
            _text(entry.get("outer_step")),
            entry.get("diverged") is True,
        )


def _command(words: object) -> str:
    """A command line that a shell takes as it was typed; ours by the name that it is known by."""
    if not isinstance(words, list) or not words:
        return ""
    program, *others = map(str, words)
    ours = Path(program).name in _PROGRAM
    return shlex.join(["hypergrad" if ours else program, *others])


def _texts(entries: object) -> dict[str, str]:
    return {key: _text(value) for key, value in mapping(entries).items() if value is not None}


def _text(value: object, depth: int = 0) -> str:
    match value:
        case None:
            return ""
        case list() | dict() if depth >= DEEPEST:
            return "…"
        case list():
            return " ".join(_text(each, depth + 1) for each in value)
        case dict():
            return ", ".join(f"{key}: {_text(each, depth + 1)}" for key, each in value.items())
    return str(value)


def _number(value: object) -> float | None:
    """A finite number as JSON holds it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else None
