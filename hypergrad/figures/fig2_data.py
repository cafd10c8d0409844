"""The data of Figure 2: hypervariance per inner step, and what sharing makes of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from hypergrad.figures.run_data import Converter, floats, integers, read_table, where

PERTURBATIONS = ("weights", "learning_rate", "train", "validation", "all")
METHODS = ("greedy", "unshared", "shared")
FILE = "hypergradients.csv"

_COLUMNS: dict[str, Converter] = {
    "perturbation": str,
    "repeat": int,
    "method": str,
    **dict.fromkeys(("index", "start_step", "end_step"), int),
    "value": float,
}
_FEWEST = 3  # repeats of which a confidence interval can be had
_INTERVAL = (2.5, 97.5)  # percentiles


class _Values(NamedTuple):
    """The hypergradients of one method under one perturbation."""

    values: np.ndarray  # `(R, S)`: repeats, steps or windows; NaN where not finite or absent
    repeats: np.ndarray  # `(R,)`
    indices: np.ndarray  # `(S,)`
    start: np.ndarray  # `(S,)` inner steps
    end: np.ndarray  # `(S,)` inner steps, exclusive


def read_hypergradients(path: Path) -> pd.DataFrame:
    """Read the hypergradients of a run, from `hypergradients.csv` or its gzipped form.

    Args:
        path: the run directory.

    Returns:
        Columns perturbation, repeat, method, index, start_step, end_step (exclusive) and value
        (exactly as logged; may be NaN or infinite), a row a hypergradient.

    Raises:
        ValueError: there is no such file in it, it is empty, or not what a run writes.
    """
    found = path / FILE
    table = read_table(found, _COLUMNS)
    if table.empty:
        raise ValueError(
            f"{path} has no hypergradient in {FILE} yet: wait for the first repeat, "
            "or choose a run of fig2 with --run PATH"
        )
    strange = sorted({str(name) for name in table["method"]} - set(METHODS))
    if strange:
        raise ValueError(
            f"{found} has the unknown method {', '.join(strange)}: known are "
            f"{', '.join(METHODS)}; read it with the version that wrote it"
        )
    if table.duplicated(["perturbation", "repeat", "method", "index"]).any():
        raise ValueError(
            f"{found} holds a repeat twice: resume the run to rewrite it, or choose another run"
        )
    return table


def step_statistics(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and variance over repeats of every hypergradient.

    Args:
        table: what `read_hypergradients` returns.

    Returns:
        A row a perturbation, method and index; columns perturbation, method, index, start_step,
        end_step, mean, std and hypervariance (`ddof=1`; NaN for fewer than two repeats), repeats
        (the finite ones, which these are of) and dropped (how many are not finite, or absent).
    """
    tables = []
    for (perturbation, method), found in split_values(table).items():
        mean, variance, count = _moments(found.values)
        columns = {
            "perturbation": perturbation,
            "method": method,
            "index": found.indices,
            "start_step": found.start,
            "end_step": found.end,
            "mean": mean,
            "std": np.sqrt(variance),
            "hypervariance": variance,
            "repeats": count,
            "dropped": found.repeats.size - count,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def ratios(table: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean hypervariance of each method, and its ratio to that of the unshared one.

    The interval is a percentile bootstrap over repeats, resampled jointly for both methods.
    Resampling shrinks a variance of `n` repeats by `(n - 1) / n`: in both, so not in their ratio.

    Args:
        table: what `read_hypergradients` returns.
        draws: bootstrap samples.
        seed: of the bootstrap; each ratio is drawn anew from it.

    Returns:
        A row a perturbation and method; columns perturbation, method, hypervariance (mean over
        the inner steps: a window counts with its number of steps), ratio, low and high (95 %
        interval; NaN for fewer than three repeats), independent (the ratio if noise were
        independent between steps and alike: mean over the inner steps of 1/W; NaN for all but
        shared), signal_to_noise (median over the inner steps of |mean| / std), repeats (used) and
        dropped (not finite, or absent, in this method or the unshared one).
    """
    rows = []
    split = split_values(table)
    for (perturbation, method), own in split.items():
        base = split.get((perturbation, "unshared"))
        other = own if base is None else base
        repeats = np.union1d(own.repeats, other.repeats)
        x, y = _of_repeats(own, repeats), _of_repeats(other, repeats)
        whole = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        x, y = x[whole], y[whole]
        length = own.end - own.start
        mean, variance, _ = _moments(x)
        with np.errstate(all="ignore"):
            signal = np.repeat(np.abs(mean) / np.sqrt(variance), length)
        hypervariance = np.average(variance, weights=length)
        ratio, low, high = (
            (math.nan,) * 3
            if base is None
            else _ratio(_gram(x, length), _gram(y, base.end - base.start), draws, seed)
        )
        rows.append(
            {
                "perturbation": perturbation,
                "method": method,
                "hypervariance": hypervariance,
                "ratio": ratio,
                "low": low,
                "high": high,
                "independent": length.size / length.sum() if method == "shared" else math.nan,
                "signal_to_noise": math.nan if np.isnan(signal).all() else np.nanmedian(signal),
                "repeats": int(whole.sum()),
                "dropped": int((~whole).sum()),
            }
        )
    return pd.DataFrame(rows)


def figure_2_table(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """Collect what Figure 2 draws.

    Args:
        table: what `read_hypergradients` returns.
        width: inner steps that a moving average is over.

    Returns:
        `step_statistics` with the columns averaged_steps (1 for shared), smooth_mean,
        smooth_hypervariance (moving averages of both) and smooth_std (the root of the latter);
        and, the same in all rows of a perturbation and method, ratio, low, high, independent and
        compared (the repeats of that ratio) as `ratios` has them.
    """
    statistics = step_statistics(table)
    tables = []
    for _, rows in statistics.groupby(["perturbation", "method"], sort=False):
        size = 1 if rows["method"].iloc[0] == "shared" else width
        variance = moving_average(floats(rows, "hypervariance"), size)
        smooth = {
            "averaged_steps": size,
            "smooth_mean": moving_average(floats(rows, "mean"), size),
            "smooth_std": np.sqrt(variance),
            "smooth_hypervariance": variance,
        }
        tables.append(rows.assign(**smooth))
    columns = ["perturbation", "method", "ratio", "low", "high", "independent", "compared"]
    found = ratios(table).rename(columns={"repeats": "compared"}).reindex(columns=columns)
    return pd.concat(tables, ignore_index=True).merge(found, on=columns[:2], how="left")


def moving_average(values: np.ndarray, width: int) -> np.ndarray:
    """Centred means of `width` values, of fewer towards the ends; NaN stays, and is left out.

    >>> moving_average(np.array([0.0, 3.0, np.nan, 1.0]), 3).tolist()
    [1.5, 1.5, nan, 1.0]
    """
    before = width // 2
    padded = np.pad(values, (before, width - 1 - before), constant_values=np.nan)
    means, _ = _means(np.lib.stride_tricks.sliding_window_view(padded, width).T)
    return np.where(np.isnan(values), np.nan, means)


def split_values(table: pd.DataFrame) -> dict[tuple[str, str], _Values]:
    """The table by perturbation and method, known perturbations first."""
    names = dict.fromkeys((*PERTURBATIONS, *table["perturbation"]))
    split = {}
    for perturbation in names:
        of_perturbation = where(table, perturbation=perturbation)
        for method in METHODS:
            rows = where(of_perturbation, method=method)
            if rows.empty:
                continue
            repeats, row = np.unique(integers(rows, "repeat"), return_inverse=True)
            indices, first, column = np.unique(
                integers(rows, "index"), return_index=True, return_inverse=True
            )
            values = np.full((repeats.size, indices.size), np.nan)
            given = floats(rows, "value")
            values[row, column] = np.where(np.isfinite(given), given, np.nan)
            start, end = (integers(rows, name)[first] for name in ("start_step", "end_step"))
            split[perturbation, method] = _Values(values, repeats, indices, start, end)
    return split


def _of_repeats(found: _Values, repeats: np.ndarray) -> np.ndarray:
    """The values of the given repeats, a row each; NaN for those that there are not."""
    values = np.full((repeats.size, found.indices.size), np.nan)
    values[np.searchsorted(repeats, found.repeats)] = found.values
    return values


def _means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the first axis and how many are not NaN; NaN where there is none."""
    count = np.sum(~np.isnan(values), axis=0)
    # A run that diverges may overflow: its mean is then infinite, and that is what is said.
    with np.errstate(all="ignore"):
        return np.nansum(values, axis=0) / np.where(count, count, np.nan), count


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and number of the values that are not NaN, over the first axis."""
    with np.errstate(all="ignore"):
        # From the smallest on: equal repeats then have no variance at all, not rounding dust.
        smallest = np.fmin.reduce(values, axis=0, initial=np.nan)
        above, count = _means(values - smallest)
        mean = smallest + above
        squares = np.nansum((values - mean) ** 2, axis=0)
        return mean, squares / np.where(count > 1, count - 1, np.nan), count


def _gram(values: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Inner products of centred repeats, `(R, R)`: all that a resampled variance depends on."""
    with np.errstate(all="ignore"):
        centred = values - _moments(values)[0]
        return (centred * (length / length.sum())) @ centred.T


def _ratio(own: np.ndarray, base: np.ndarray, draws: int, seed: int) -> tuple[float, float, float]:
    """The ratio of two mean variances, and the ends of its interval, from their inner products.

    Drawing repeat `i` as often as `c_i` says gives `n - 1` times the mean variance
    `sum_i c_i G_ii - c.G.c / n`; the sample itself is `c = 1`, where `c.G.c = 0`.
    """
    n = len(own)
    with np.errstate(all="ignore"):
        ratio = float(np.trace(own) / np.trace(base)) if n > 1 else math.nan
        if n < _FEWEST:
            return ratio, math.nan, math.nan
        counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
        # One repeat drawn n times has no variance, and 0/0 is no ratio.
        counts = counts[counts.max(axis=1) < n].astype(float)
        sums = [counts @ np.diag(g) - ((counts @ g) * counts).sum(axis=1) / n for g in (own, base)]
        drawn = sums[0] / sums[1]
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return ratio, math.nan, math.nan
    low, high = np.percentile(drawn, _INTERVAL)
    return ratio, float(low), float(high)
