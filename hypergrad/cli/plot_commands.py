"""The commands that draw what is logged: figures, Table 1. None needs a GPU."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hypergrad.runs.directory import RunDirectory, find_runs
from hypergrad.runs.errors import RunFailed, in_one_line
from hypergrad.runs.shown import short

__all__ = ["plot", "table"]

# What comes of a file of a run that is well-formed, and holds what no run writes.
DAMAGE = (KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError)
_SMALL = ("smoke", "cpu")  # scales below the whole one, the smallest first


class Source(NamedTuple):
    """A run directory, and in words why it was taken; no words where it was named."""

    path: Path
    why: str = ""


def plot(
    names: Sequence[str],
    run: Path | None,
    outputs: Path,
    folder: Path | None = None,
    formats: Sequence[str] = (),
) -> None:
    """Draw figures and print their paths.

    Args:
        names: Figures; none for all that a run is drawn as.
        run: Run directory, or a folder of runs for a figure of many; None for the best run of
            each figure, which is then named, and for all runs.
        outputs: Folder of all runs.
        folder: Where the files go; None for `figures/` in the run.
        formats: Of `png`, `pdf`, `svg`, `csv`, each possibly several joined by commas; none for
            PNG, PDF and CSV.

    Raises:
        ValueError: For an unknown figure or format, or a figure without a run to draw it from.
        RunFailed: If there is a run and nothing can be drawn from it.
    """
    from hypergrad.figures import FIGURES, check_formats, draw

    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        raise ValueError(f"unknown figure {', '.join(unknown)}: use one of {', '.join(FIGURES)}")
    wanted = check_formats([name for text in formats for name in text.split(",")])
    sources = _sources(names, run, outputs)
    drawn, failures = 0, []
    for name, source in sources.items():
        try:
            path = draw(name, source.path, folder, wanted)[0]
            print(f"{name}: {path}{source.why and f' ({source.why})'}")
            drawn += 1
        except ValueError as error:
            failures.append(f"{name}: not drawn: {error}")
        except OSError as error:
            failures.append(f"{name}: not drawn: {error}: name a folder with --output")
        except DAMAGE as error:
            failures.append(f"{name}: not drawn: {source.path} is damaged ({in_one_line(error)})")
    if failures and (names or not drawn):
        raise RunFailed("; ".join(failures))
    for failure in failures:
        print(short(failure), file=sys.stderr)


def _sources(names: Sequence[str], run: Path | None, outputs: Path) -> dict[str, Source]:
    """The run that each figure is to be drawn from."""
    from hypergrad.figures import FIGURES, figures_of

    if run is not None:
        return dict.fromkeys(_figures_of_run(names, run), Source(run))
    runs = _whole_runs(outputs)
    if not runs and not names:
        raise ValueError(f"no runs under {outputs}: start one with `hypergrad run quickstart`")

    def has_data(name: str) -> Callable[[Path], bool]:
        return lambda path: name in figures_of(runs[path]) and any(path.glob(FIGURES[name].files))

    sources = {name: Source(outputs) for name in names if FIGURES[name].many}
    found = {name: best_run(runs, has_data(name)) for name in FIGURES.keys() - sources.keys()}
    sources |= {name: source for name, source in found.items() if source is not None}
    for name in names:
        if name not in sources:
            raise ValueError(
                f"no run under {outputs} to draw {name} from: start one, as `hypergrad run` lists "
                "them, or give --run"
            )
    if not sources:
        raise RunFailed(f"nothing drawn: no run under {outputs} has the data of a figure yet")
    return {name: sources[name] for name in names or FIGURES if name in sources}


def _figures_of_run(names: Sequence[str], run: Path) -> Sequence[str]:
    """Which figures are to be drawn of a run that was named."""
    from hypergrad.figures import FIGURES, figures_of

    if not run.is_dir():
        raise ValueError(f"no run directory at {run}: `hypergrad runs` lists the runs there are")
    if names and all(FIGURES[name].many for name in names):
        return names
    own = figures_of(RunDirectory(run).read_summary())
    if not names and "table1" in own:
        raise RunFailed(f"nothing drawn: `hypergrad table {run}` prints the table of this run")
    if not names and not own:
        raise RunFailed(f"nothing drawn: {run} is drawn as none of {', '.join(FIGURES)}")
    return names or own


def best_run(runs: Mapping[Path, dict], fits: Callable[[Path], bool]) -> Source | None:
    """Choose a run to look at: a finished one before others, then the largest scale, the newest.

    Args:
        runs: Summaries by path, oldest first.
        fits: Which of them can be chosen.

    Returns:
        The run, and its status, its scale and how many there were; None if none fits.
    """
    fitting = [path for path in runs if fits(path)]
    if not fitting:
        return None
    # The last of equals is the newest one.
    chosen = max(reversed(fitting), key=lambda path: _size(runs[path]))
    count = f"; one of {len(fitting)} runs" if len(fitting) > 1 else ""
    summary = runs[chosen]
    words = f"{chosen}, {summary.get('status', 'unfinished')}, scale {_scale(summary)}{count}"
    return Source(chosen, words)


def _size(summary: Mapping) -> tuple[bool, int]:
    scale = _scale(summary)
    return summary.get("status") == "finished", [*_SMALL, scale].index(scale)


def _scale(summary: Mapping) -> str:
    settings = summary.get("settings")
    return str(settings.get("scale", "full")) if isinstance(settings, dict) else "full"


def table(runs: Sequence[Path], outputs: Path, form: str) -> None:
    """Print Table 1, and on stderr which run it is of where none was named.

    Args:
        runs: Directories of tables or of their cells; none for the best run of the table.
        outputs: Folder of all runs.
        form: `terminal`, `markdown`, `csv` or `latex`.

    Raises:
        ValueError: If there is no run, or none of such a kind.
    """
    from hypergrad.figures import figures_of
    from hypergrad.figures.table1 import render
    from hypergrad.figures.table1_data import read_cells

    paths = list(runs)
    if not paths:
        whole = _whole_runs(outputs)
        source = best_run(whole, lambda path: "table1" in figures_of(whole[path]))
        if source is None:
            raise ValueError(
                f"no run of table1 under {outputs}: start one with `hypergrad run table1`, or name "
                "runs of `hypergrad baselines`"
            )
        print(f"table1: {source.why}", file=sys.stderr)
        paths = [source.path]
    try:
        text = render(read_cells(paths), form)
    except DAMAGE as error:
        raise RunFailed(f"{', '.join(map(str, paths))}: damaged ({in_one_line(error)})") from error
    print(text, end="")


def _whole_runs(outputs: Path) -> dict[Path, dict]:
    """The summaries of the runs that have one, by path, oldest first."""
    runs = (run for run in find_runs(outputs) if run.status() != "damaged")
    return {run.path: run.read_summary() for run in runs}
