"""What a search buys: the test score of what it chose, against the trainings that it spent.

Drawn from all finished runs under a folder: grids, random searches, Optuna's, hypergradient
descent, learning, improving. Each run's schedule was chosen without the test set, trained anew on
all training images, and tested; runs of one search and budget are one point.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from scipy.stats import t

from hypergrad.figures import style
from hypergrad.figures.caption import write_caption
from hypergrad.figures.run_data import (
    floats,
    integer,
    integers,
    mapping,
    mappings,
    read_json,
    read_table,
    results_of,
    settings_of,
    where,
)

TITLES = {
    "grid": "grid",
    "random": "random search, windows",
    "random_space": "random search",
    "tpe": "TPE",
    "hyperband": "Hyperband",
    "hd": "hypergradient descent",
    "ours": "the paper's loop",
    "improve": "improve",
    "improve_random": "improve, random directions",
}
_COLOURS = {
    "grid": "#000000",
    "random": "#8C7A00",
    "random_space": "#E69F00",
    "tpe": "#009E73",
    "hyperband": "#CC79A7",
    "hd": "#D55E00",
    "ours": "#0072B2",
    "improve": "#56B4E9",
    "improve_random": style.GREY,
}
_MARKERS = "osDv^<>PX"
_SAME = ("data", "model", "epochs", "scale")  # of all runs of one figure
_RESULT = {"ours": "ours_retrained", "improve": "improved", "improve_random": "improved"}
_CONFIDENCE = 0.95
_HEIGHT = 3.4  # inches
_ASIDE = 1.02  # from search to search, so that intervals at one budget hide no other


class Score(NamedTuple):
    """What one seed of a run came to.

    `group` tells the budgets of one search apart; `spent` is in plain trainings, a Hessian product
    counting as two gradients; `test_accuracy` is NaN where nothing was tested.
    """

    search: str
    group: str
    seed: int
    spent: float
    test_accuracy: float
    setup: str
    path: Path


def draw(folder: Path) -> tuple[Figure, pd.DataFrame]:
    """Draw mean test accuracies with 95 % t-intervals over seeds, a line a search."""
    scores, settings, unfinished = read_scores(folder)
    table = points(scores)
    figure, (axes,) = style.panel_grid(_HEIGHT, 1, 1)
    handles = []
    for place, search in enumerate(TITLES):
        own = where(table, search=search)
        if own.empty:
            continue
        mean, half = 100 * floats(own, "mean"), 100 * np.nan_to_num(floats(own, "half"))
        look: dict[str, Any] = {"color": _COLOURS[search], "marker": _MARKERS[place]}
        given = floats(own, "spent") * _ASIDE ** (place - len(TITLES) // 2), mean
        handles.append(axes.errorbar(*given, half, capsize=2, label=TITLES[search], **look))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("spent, in plain trainings")
    axes.set_ylabel("test accuracy (%) of what was chosen")
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    kept = sum(math.isnan(each.test_accuracy) for each in scores)
    counts = sorted({int(n) for n in integers(table, "seeds")})
    write_caption(
        figure,
        ", ".join(f"{key} {settings[key]}" for key in _SAME if key in settings),
        [
            f"Means over {' or '.join(map(str, counts))} seeds, 95 % t-intervals, a little aside",
            f"Left out: searches that kept their base, untested ({kept})" if kept else "",
            f"Left out: unfinished runs ({unfinished})" if unfinished else "",
        ],
    )
    return figure, table


def points(scores: list[Score]) -> pd.DataFrame:
    """Put seeds of one search and budget together.

    Returns:
        Columns search, group, seeds (how many), spent (mean, in plain trainings), mean, half (of
        the 95 % t-interval of the test accuracy; NaN with one seed); in each search by what was
        spent.

    Raises:
        ValueError: two runs hold one seed of a search, or runs of one search differ in more than
            budget and seed.
    """
    groups: dict[tuple[str, str], list[Score]] = {}
    setups: dict[str, Score] = {}
    for each in scores:
        first = setups.setdefault(each.search, each)
        if first.setup != each.setup:
            raise ValueError(
                f"{first.path} and {each.path} are both {TITLES[each.search]}, of other settings: "
                "give a folder in which runs of one search differ in seeds and budgets alone"
            )
        groups.setdefault((each.search, each.group), []).append(each)
    rows = []
    for (search, group), own in groups.items():
        if len({each.seed for each in own}) < len(own):
            raise ValueError(
                f"{own[0].path} and others hold a seed of {TITLES[search]} twice, at the same "
                "budget: give a folder without the copy"
            )
        tested = [each for each in own if not math.isnan(each.test_accuracy)]
        if tested:
            accuracies = [each.test_accuracy for each in tested]
            spent = statistics.fmean(each.spent for each in tested)
            mean = statistics.fmean(accuracies)
            rows.append((search, group, len(tested), spent, mean, _half(accuracies)))
    table = pd.DataFrame(rows, columns=["search", "group", "seeds", "spent", "mean", "half"])
    return table.sort_values(["search", "spent"], kind="stable", ignore_index=True)


def read_scores(folder: Path) -> tuple[list[Score], dict[str, str], int]:
    """Read every finished search under a folder.

    Returns:
        What they came to; settings that are the same for all; how many are not finished.

    Raises:
        ValueError: there is none, or they are of other data, networks or horizons.
    """
    scores: list[Score] = []
    first: tuple[Path, dict[str, str]] | None = None
    unfinished = 0
    for path in sorted(file.parent for file in folder.rglob("summary.json")):
        summary = mapping(read_json(path / "summary.json"))
        settings = settings_of(summary)
        search = _search_of(path, settings)
        if search is None:
            continue
        if summary.get("status") != "finished":
            unfinished += 1
            continue
        first = first or (path, settings)
        for key in _SAME:
            if settings.get(key) != first[1].get(key):
                raise ValueError(
                    f"{first[0]} and {path} differ in {key}: give a folder whose runs have the same"
                )
        scores += _scores(path, search, summary, settings)
    if first is None or all(math.isnan(each.test_accuracy) for each in scores):
        raise ValueError(
            f"no finished search under {folder} has a test accuracy: run some, such as "
            "`hypergrad run -m from_zero search=random_space,tpe,ours budget=20trials`"
        )
    return scores, first[1], unfinished


def _search_of(path: Path, settings: dict[str, str]) -> str | None:
    """Which search a run is; None for a run that is none."""
    if (path / "trainings.csv").is_file():
        return "improve_random" if settings.get("direction") == "random" else "improve"
    if (path / "trials.csv").is_file():
        return settings.get("search") if settings.get("search") in TITLES else None
    learns = settings.get("method") in ("shared", "unshared")
    return "ours" if learns and (path / "outer.csv").is_file() else None


def _scores(
    path: Path, search: str, summary: dict[str, object], settings: dict[str, str]
) -> Iterator[Score]:
    spent = _spent(path, search, summary)
    tested = {
        result.seed: result.test_accuracy
        for result in results_of(summary)
        if result.method == _RESULT.get(search, search)
    }
    for seed, (cost, trials) in spent.items():
        group = settings.get("budget")
        if group is None:
            group = settings.get("outer_steps", "") if search == "ours" else f"{trials}trials"
            group = "" if search.startswith("improve") else group
        accuracy = tested.get(seed, math.nan)
        yield Score(search, group, seed, cost, accuracy, settings.get("setup", ""), path)


def _spent(path: Path, search: str, summary: dict[str, object]) -> dict[int, tuple[float, int]]:
    """What each seed has spent, in plain trainings, and its number of trials."""
    if search.startswith("improve"):
        rows = read_table(
            path / "trainings.csv",
            dict.fromkeys(("seed", "gradients", "products", "differentiated"), int)
            | {"stage": str},
        )
        # Of other searches the final training is not counted either.
        rows = rows.take(np.flatnonzero(rows["stage"] != "judge"))
        one = integers(where(rows, differentiated=0), "gradients").max(initial=1)
        found: dict[int, tuple[float, int]] = {}
        for seed in dict.fromkeys(int(each) for each in rows["seed"]):
            own = where(rows, seed=seed)
            cost = integers(own, "gradients").sum() + 2 * integers(own, "products").sum()
            found[seed] = float(cost / one), len(own)
        return found
    if search == "ours":
        rows = read_table(path / "inner.csv", {"step": int, "method": str})
        one = integers(where(rows, method="ours"), "step").max(initial=1)
    else:
        one = integers(read_table(path / "trials.csv", {"steps": int}), "steps").max(initial=1)
    found = {}
    for entry in mappings(summary.get("spent")):
        cost = integer(entry["gradients"]) + 2 * integer(entry["products"])
        found[integer(entry["seed"])] = float(cost / one), integer(entry["trials"])
    if search == "grid":  # every seed had a say in what was chosen
        whole = sum(cost for cost, _ in found.values())
        found = {seed: (whole, trials) for seed, (_, trials) in found.items()}
    return found


def _half(values: list[float]) -> float:
    if len(values) < 2:
        return math.nan
    error = statistics.stdev(values) / math.sqrt(len(values))
    return float(t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error
