"""What a finished run made of parts says on stdout: Figure 3's closing table, or Table 1."""

import math
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from hypergrad.config.schema import RunConfig
from hypergrad.reporting.run_report import SMOKE, draw_figures, number
from hypergrad.runs.directory import RunDirectory

__all__ = ["NOT_ASKED", "parts_headline", "report_parts"]

NOT_ASKED = "not asked for"  # why a data set of an experiment is not in a run


def report_parts(run: RunDirectory, config: RunConfig) -> None:
    """Print what the parts of a run came to, draw its figures and name their files.

    Args:
        run: The run; some parts may be missing.
        config: Its configuration.
    """
    if config.driver == "table":
        _report_table(run)
    else:
        _print_methods(run)
        draw_figures(run, config.figures)
    if config.scale == "smoke":
        print(SMOKE)
    print(f"run: {run.path}")


def _print_methods(run: RunDirectory) -> None:
    """What each method came to on each data set."""
    import pandas as pd

    from hypergrad.figures.fig3_table import final_table

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


def parts_headline(run: RunDirectory, config: RunConfig) -> str:
    """Return what each part came to, retrained, in one line.

    Args:
        run: The run.
        config: Its configuration.
    """
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
    from hypergrad.figures.fig3_table import final_table

    for row in final_table(run.path).to_dict("records"):
        yield row["data"], row["method"], row["retrained_mean"]
