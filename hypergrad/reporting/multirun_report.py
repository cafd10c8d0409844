"""What a finished run made of runs says: Figure 3's closing table, Table 1, or its members."""

import math
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from hypergrad.config.schema import RunConfig
from hypergrad.figures.written import csv_text
from hypergrad.reporting.run_report import SMOKE, draw_figures, number
from hypergrad.runs.atomic import write_text_atomically
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.tables import Table

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["NOT_ASKED", "members_table", "multirun_headline", "report_multirun", "write_members"]

NOT_ASKED = "not asked for"  # why a data set of an experiment is not in a run


def report_multirun(run: RunDirectory, config: RunConfig, *, sweep: bool) -> None:
    """Print what the members of a run came to, draw its figures and name their files.

    Args:
        run: The run; some members may be missing.
        config: Its configuration.
        sweep: Its members are runs of their own, which have drawn their figures.
    """
    if sweep:
        _print_members(run)
    elif config.driver == "table":
        _report_table(run)
    else:
        _print_methods(run)
        draw_figures(run, config.figures)
    if config.scale == "smoke":
        print(SMOKE)
    print(f"run: {run.path}")


def members_table(run: RunDirectory) -> "DataFrame":
    """Return what the members of a run came to.

    Args:
        run: The run, finished or not.

    Returns:
        A row a member: its name; a column for each key of its overrides; its status, headline and
        seconds of wall time; the number of its seeds; over them, the mean validation accuracy of
        the schedules chosen, and mean and sample standard deviation of each method's test accuracy.
        Accuracies are fractions; empty where there is none.

    Raises:
        ValueError: If a file of a member is damaged.
    """
    import pandas as pd

    entries = run.read_json("members.json")["members"]
    typed = [dict(text.split("=", 1) for text in entry["overrides"]) for entry in entries]
    came_to = [_came_to(RunDirectory(run.path / entry["name"])) for entry in entries]
    names = pd.DataFrame({"member": [entry["name"] for entry in entries]})
    return pd.concat([names, pd.DataFrame(typed), pd.DataFrame(came_to)], axis=1)


def write_members(run: RunDirectory) -> None:
    """Write `members.csv`: see `members_table`."""
    write_text_atomically(run.path / "members.csv", csv_text(members_table(run)))


def _came_to(member: RunDirectory) -> dict[str, object]:
    """What a row of `members_table` says after the overrides."""
    summary = member.read_summary()
    results = summary.get("results", [])
    row: dict[str, object] = {
        "status": member.status() if summary else "not begun",
        "headline": summary.get("headline", ""),
        "seconds": member.read_json("provenance.json").get("wall_seconds"),
        "seeds": len({result["seed"] for result in results}),
    }
    schedules = member.read_json("schedule.json").get("schedules", [])
    validation = [schedule["validation_accuracy"] for schedule in schedules]
    row["validation_accuracy"] = statistics.fmean(validation) if validation else None
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result["test_accuracy"] for result in results if result["method"] == method]
        accuracies = [accuracy for accuracy in own if accuracy is not None]
        if accuracies:
            row[f"{method}_mean"] = statistics.fmean(accuracies)
        if len(accuracies) > 1:
            row[f"{method}_std"] = statistics.stdev(accuracies)
    return row


def _print_members(run: RunDirectory) -> None:
    table = Table("member", "status", "result")
    for row in members_table(run).to_dict("records"):
        table.add_row(row["member"], row["status"], row["headline"] or "-")
    Console().print(table)
    print(f"members: {run.path / 'members.csv'}")


def _print_methods(run: RunDirectory) -> None:
    """What each method came to on each data set."""
    import pandas as pd

    from hypergrad.figures.fig3_data import final_table

    table = Table("data", "method", "best outer step", "validation", "test", "test, retrained")
    for column in table.columns[2:]:
        column.justify = "right"
    missing = run.read_summary().get("missing", {})
    for row in final_table(run.path).to_dict("records"):
        if missing.get(row["data"]) == NOT_ASKED:
            continue
        best, std = row["best_outer_step"], row["retrained_std"]
        spread = f" ± {100 * std:.2f}" if math.isfinite(std) else ""
        table.add_row(
            row["data"],
            row["method"],
            "-" if pd.isna(best) else str(best),
            number(row["validation_accuracy"], "{:.2%}"),
            number(row["test_accuracy"], "{:.2%}"),
            number(100 * row["retrained_mean"], "{:.2f}" + spread + " %"),
        )
    Console().print(table)


def _report_table(run: RunDirectory) -> None:
    from hypergrad.figures.table1 import render, write
    from hypergrad.figures.table1_data import read_cells

    cells = read_cells([run.path])
    print(render(cells, "terminal"), end="")
    for path in write(cells, run.path / "figures"):
        print(f"{path.suffix.removeprefix('.')}: {path}")


def multirun_headline(run: RunDirectory, config: RunConfig, *, sweep: bool) -> str:
    """Return what each member came to, retrained, in one line; of a sweep, how many there are.

    Args:
        run: The run.
        config: Its configuration.
        sweep: As for `report_multirun`.
    """
    if sweep:
        status = list(members_table(run)["status"])
        return f"{status.count('finished')} of {len(status)} members: see members.csv"
    by_data: dict[str, list[str]] = {}
    for data, method, mean in _means(run, config):
        if math.isfinite(mean):
            by_data.setdefault(data, []).append(f"{method} {mean:.2%}")
    return "; ".join(f"{data}: {', '.join(texts)}" for data, texts in by_data.items())


def _means(run: RunDirectory, config: RunConfig) -> Iterator[tuple[str, str, float]]:
    """Data set, method and mean test accuracy of everything that has been tested."""
    if config.driver == "table":
        from hypergrad.figures.table1_data import read_cells

        for row in read_cells([run.path]).to_dict("records"):
            yield row["column"], row["row"], row["mean"]
        return
    from hypergrad.figures.fig3_data import final_table

    for row in final_table(run.path).to_dict("records"):
        yield row["data"], row["method"], row["retrained_mean"]
