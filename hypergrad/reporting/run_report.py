"""What a finished run says on stdout: tables, figures, where it is."""

import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from hypergrad.config.schema import RunConfig
from hypergrad.figures import FIGURES, draw
from hypergrad.reporting.improve_report import print_improvement
from hypergrad.reporting.results import how_set, summarise
from hypergrad.reporting.search_report import print_search
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import read_csv_bytes
from hypergrad.runs.tables import Table

ON_SPACE = ("tpe", "hyperband", "random_space")  # what has no Figure 5
SMOKE = "smoke scale: shows that everything runs, and nothing about accuracy"

__all__ = ["SMOKE", "draw_figures", "hypervariance_headline", "number", "report"]


def report(run: RunDirectory, config: RunConfig) -> None:
    """Print the closing tables, draw the run's figures and name their files.

    Args:
        run: A finished run.
        config: Its configuration.
    """
    if config.driver == "hypervariance":
        print_hypervariance(run.path)
    elif config.driver == "search":
        print_search(run.path)
    elif config.driver == "improve":
        print_improvement(run.path)
    else:
        results = run.read_summary().get("results", [])
        print_methods(results)
        if any(result["method"] == "sgd" for result in results):
            print(how_set(config.baseline))
        print_diagnostics(run.path)
    if config.scale == "smoke":
        print(SMOKE)
    if config.driver == "learn" and config.method.name == "hd":
        print("hypergradient descent alone has no outer steps: no figure is drawn")
    elif config.driver == "search" and config.search.kind == "hd":
        print("what is tried here is no schedule before it has run: no figure is drawn")
    elif config.driver == "search" and config.search.kind in ON_SPACE:
        print(
            "each seed tries numbers of its own choosing: no figure is drawn, trials.csv has them"
        )
    elif config.figures or config.driver != "improve":
        draw_figures(run, config.figures)
    print(f"run: {run.path}")


def draw_figures(run: RunDirectory, figures: Sequence[str]) -> None:
    """Draw the figures of a run that it has the data for, and print where they are.

    Args:
        run: The run.
        figures: Those that its experiment names.
    """
    drawn = [
        name for name in FIGURES if name in figures and any(run.path.glob(FIGURES[name].files))
    ]
    for name in drawn:
        print(f"{name}: {draw(name, run.path)[0]}")
    if not drawn:
        why = f"it has no data of {', '.join(figures)}" if figures else "`figures` names none"
        print(f"no figure is drawn: {why}")


def print_methods(results: Sequence[dict]) -> None:
    """Print the closing table: test accuracy of each method over the seeds."""
    table = Table("method", "test accuracy", "at chance")  # or diverged, which counts as that
    table.columns[1].justify = "right"
    for summary in summarise(results):
        lost = f"{summary.diverged} of {len(summary.accuracies)}" if summary.diverged else "-"
        table.add_row(summary.title, summary.text, lost)
    Console().print(table)


def print_diagnostics(path: Path) -> None:
    """Print how far the hypergradients of the run at `path` can be trusted, a line a kind."""
    import pandas as pd

    from hypergrad.figures.run_data import floats, where

    outer = pd.read_csv(io.BytesIO(read_csv_bytes(path / "outer.csv")))
    if outer.empty:
        return
    names = [
        *("signal_to_noise", "growth", "clipped_gradients", "clipped_products"),
        *("sign_agreement", "t_statistic"),
    ]
    known = list(dict.fromkeys([*outer.columns, *names]))
    outer = outer.reindex(columns=known)  # runs of earlier versions lack some
    compared = bool(outer["sign_agreement"].notna().any())
    several = bool(outer["t_statistic"].notna().any())
    trust = "|t|" if several else "signal / noise"
    table = Table(
        *("values of", trust, "growth", "clipped gradient", "product"),
        *("not finite", *(["same sign"] if compared else [])),
    )
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in dict.fromkeys(outer["kind"]):
        own = where(outer, kind=kind)
        lost = sum(not math.isfinite(value) for value in floats(own, "hypergradient"))
        signal, growth, gradients, products, agreement, t = (
            floats(own.dropna(subset=name), name) for name in names
        )
        signal = abs(t) if several else signal
        agree = f"{statistics.mean(agreement):.0%}" if agreement.size else "-"
        table.add_row(
            kind.replace("_", " "),
            f"{statistics.median(signal):.2f}" if signal.size else "-",
            f"{max(growth):+.3f}" if growth.size else "-",
            f"{max(gradients):.2%}" if gradients.size else "-",
            f"{max(products):.2%}" if products.size else "-",
            f"{lost} of {len(own)}",
            *([agree] if compared else []),
        )
    Console().print(table)
    told = "signal / noise: |mean| / std over validation batches, median"
    if several:
        told = "|t|: mean / standard error over trajectories, median, <1 stays"
    print(f"{told}; clips: the most")
    print("growth: of a tangent, log a step, largest; well above 0 training is chaotic")
    if compared:
        print("same sign: share of trajectories that differ in rounding, mean")


def print_hypervariance(path: Path) -> None:
    """Print mean hypervariance by perturbation and method, and its ratio to the unshared one."""
    from hypergrad.figures.fig2_data import ratios, read_hypergradients

    table = Table("perturbed", "method", "variance", "ratio", "95 % interval", "1/W", "S/N")
    for column in table.columns[2:]:
        column.justify = "right"
        column.no_wrap = True
    last = None
    for row in ratios(read_hypergradients(path)).to_dict("records"):
        own = row["method"] == "unshared"
        known = math.isfinite(row["low"]) and not own
        table.add_row(
            "" if row["perturbation"] == last else row["perturbation"].replace("_", " "),
            row["method"],
            number(row["hypervariance"], "{:.2e}"),
            "1" if own else _ratio(row["ratio"]),
            f"{_ratio(row['low'])} to {_ratio(row['high'])}" if known else "-",
            _ratio(row["independent"]),
            number(row["signal_to_noise"], "{:.3g}"),
        )
        last = row["perturbation"]
    Console().print(table)
    print(
        "variance: of a hypergradient over repeats, mean over steps\n"
        "ratio: to the unshared one; S/N: |mean| / std over repeats, median over steps"
    )


def hypervariance_headline(path: Path) -> str:
    """Return the measured ratios of shared to unshared hypervariance in one line."""
    from hypergrad.figures.fig2_data import ratios, read_hypergradients
    from hypergrad.figures.run_data import where

    own = where(ratios(read_hypergradients(path)), method="shared").to_dict("records")
    found = [f"{row['perturbation']} {number(row['ratio'], '{:.2g}')}" for row in own]
    return f"hypervariance, shared / unshared: {', '.join(found)}"


def _ratio(value: float) -> str:
    """A ratio to two digits, without an exponent.

    >>> _ratio(0.0483), _ratio(5649.5)
    ('0.048', '5,600')
    """
    if not math.isfinite(value):
        return "-"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:g}"


def number(value: float, form: str) -> str:
    """Return a finite number in a form, and a dash for what is none."""
    return form.format(value) if math.isfinite(value) else "-"
