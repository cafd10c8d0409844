"""What sharing does to the mean squared error of a hypergradient: less variance, more bias.

A window's value stands for each of its `W` steps. Of repeats `x_rt` with mean `m_t` over repeats,
and `m_w` over repeats and a window:

    variance = mean_w var_r(mean_{t in w} x_rt)
    bias^2   = mean_t (m_t - m_w)^2 - noise,    noise = mean_t var_r(x_rt - mean_{t in w} x_rt) / R

and their sum, over the same at `W = 1`, where it is the variance alone. The noise is that of the
repeats' own mean, which would otherwise count as bias.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from hypergrad.figures.fig2_data import split_values

__all__ = ["sharing_errors"]

COLUMNS = [
    *("perturbation", "width", "variance", "bias", "error", "low", "high", "bound"),
    *("correlation", "repeats"),
]

_INTERVAL = (2.5, 97.5)  # percentiles
_FEWEST = 3  # repeats of which a confidence interval can be had


def sharing_errors(table: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Mean squared error of a value shared over `W` steps, for the hypergradient of each of them.

    The hypergradient of a shared value is the mean of those of its steps, so that windows of any
    width follow from the unshared ones. The interval is a percentile bootstrap over repeats. The
    mean of a resample scatters around that of the sample as that does around the truth: the noise
    is taken off twice there.

    Args:
        table: what `read_hypergradients` returns.
        draws: bootstrap samples.
        seed: of the bootstrap; each perturbation is drawn anew from it.

    Returns:
        A row a perturbation (of two finite repeats or more) and width, for all widths that divide
        the number of steps; columns perturbation, width, variance, bias (squared), error, low and
        high (95 % interval of the error; NaN for fewer than three repeats), bound, correlation and
        repeats. Variance, bias, error and bound are relative to the error at width 1. The bound
        is that of the paper's later version, `(1 + c (W - 1)) / W + L^2 (W^2 - 1) / (12 error_1)`:
        `c` the correlation of neighbouring steps over repeats, `L` the largest difference of their
        means, which noise makes larger.
    """
    rows = []
    for (perturbation, method), found in split_values(table).items():
        values = found.values[np.isfinite(found.values).all(axis=1)]
        repeats, steps = values.shape
        if method != "unshared" or repeats < 2:
            continue
        counts = np.ones((1, repeats))
        if repeats >= _FEWEST:
            drawn = np.random.default_rng(seed).multinomial(
                repeats, np.full(repeats, 1 / repeats), size=draws
            )
            counts = np.concatenate([counts, drawn[drawn.max(axis=1) < repeats]])
        whole = _variance(values, counts)
        correlation, slope = _neighbours(values)
        for width in (each for each in range(1, steps // 2 + 1) if steps % each == 0):
            shared = values.reshape(repeats, -1, width).mean(axis=2)
            apart = values - np.repeat(shared, width, axis=1)
            noise = _variance(apart, counts) / repeats
            squares = np.einsum("ci,ij,cj->c", counts, _gram(apart), counts) / repeats**2
            times = np.where(np.arange(len(counts)), 2, 1)
            variance, bias = _variance(shared, counts) / whole, (squares - times * noise) / whole
            error = variance + bias
            low, high = (
                np.percentile(error[1:], _INTERVAL) if len(error) > 1 else (math.nan, math.nan)
            )
            spread = (1 + correlation * (width - 1)) / width
            rows.append(
                {
                    "perturbation": perturbation,
                    "width": width,
                    "variance": variance[0],
                    "bias": bias[0],
                    "error": error[0],
                    "low": low,
                    "high": high,
                    "bound": spread + slope**2 * (width**2 - 1) / 12 / whole[0],
                    "correlation": correlation,
                    "repeats": repeats,
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _gram(values: np.ndarray) -> np.ndarray:
    """Inner products of repeats, `(R, R)`, as means over steps: all that resampling depends on."""
    return values @ values.T / values.shape[1]


def _variance(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean variance over repeats, drawn as often as each row of `counts` says."""
    gram, n = _gram(values - values.mean(axis=0)), len(values)
    own = counts @ np.diag(gram) - np.einsum("ci,ij,cj->c", counts, gram, counts) / n
    return own / (n - 1)


def _neighbours(values: np.ndarray) -> tuple[float, float]:
    """Correlation of neighbouring steps over repeats, pooled; largest difference of their means."""
    centred = values - values.mean(axis=0)
    products = (centred[:, 1:] * centred[:, :-1]).sum()
    squares = (centred[:, 1:] ** 2).sum() * (centred[:, :-1] ** 2).sum()
    correlation = float(products / math.sqrt(squares)) if squares > 0 else math.nan
    return correlation, float(np.abs(np.diff(values.mean(axis=0))).max(initial=0.0))
