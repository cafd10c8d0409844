"""Axes for methods whose values differ by orders of magnitude, as in Figure 2."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from hypergrad.figures import style

_SPREAD = 8.0  # reach of the widest method over the narrowest beyond which a linear axis hides it
BULK = (0.02, 0.98)  # quantiles that a linear axis shows
TICKS = 3  # labelled powers of ten at most, on one side of zero
Bands = dict[str, tuple[np.ndarray, np.ndarray]]  # method: the band's lower and upper edge


def set_scale(axes: Axes, bands: Bands) -> None:
    """Choose a vertical axis on which the bands of all methods can be read.

    Linear for their bulk where they are of similar reach (what is outside is noted), else
    symmetric logarithmic, with the narrowest method around its linear part.

    Args:
        axes: the panel.
        bands: by method, the lower and the upper edge of its band, `(K,)` each; may be NaN.
    """
    finite = {name: finite_only(np.concatenate(edges)) for name, edges in bands.items()}
    bulk = {name: np.quantile(v, BULK) for name, v in finite.items() if v.size}
    reach = [float(np.abs(ends).max()) for ends in bulk.values() if np.any(ends)]
    if reach and max(reach) > _SPREAD * min(reach):
        every = np.concatenate(list(finite.values()))
        first = math.floor(math.log10(min(reach)))
        edge = 10.0**first
        low, high = min(float(every.min()), -edge), max(float(every.max()), edge)
        decades = math.log10(max(-low, high) / edge)
        axes.set_yscale("symlog", linthresh=edge, linscale=max(1.0, 0.35 * decades))
        axes.set_ylim(1.5 * low, 1.5 * high)
        last = math.floor(math.log10(max(-low, high)))
        powers = powers_between(first, last)
        down, up = ([e for e in powers if 10.0**e <= end * 1.001] for end in (-low, high))
        ticks = [-(10.0**e) for e in reversed(down)] + [0.0] + [10.0**e for e in up]
        labels = [rf"$-10^{{{e}}}$" for e in reversed(down)] + ["0"]
        axes.set_yticks(ticks, labels + [rf"$10^{{{e}}}$" for e in up])
        axes.set_ylabel("hypergradient")
    else:
        ends = np.concatenate([np.zeros(1), *bulk.values()])
        margin = 0.1 * float(np.ptp(ends)) or 1.0
        limits = (float(ends.min()) - margin, float(ends.max()) + margin)
        axes.set_ylim(limits)
        unit = style.scale_axis(axes.yaxis, limits)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.set_ylabel(f"hypergradient\n{unit.strip()}" if unit else "hypergradient")
    axes.yaxis.set_minor_locator(NullLocator())


def outside_note(lines: dict[str, np.ndarray], limits: tuple[float, float]) -> str:
    """Say which lines leave a panel, and how far; empty while all stay inside.

    Args:
        lines: by method, its values; may be NaN.
        limits: the panel's lower and upper limit.

    Returns:
        The note.

    >>> outside_note({"greedy": np.array([0.0, 2.53]), "shared": np.array([0.1])}, (-1.0, 1.0))
    'beyond the panel: greedy 2.5'
    """
    parts = []
    for name, values in lines.items():
        low, high = (f(finite_only(values), initial=limits[0]) for f in (np.min, np.max))
        ends = [short_number(low)] if low < limits[0] else []
        ends += [short_number(high)] if high > limits[1] else []
        parts += [f"{name} {' and '.join(ends)}"] if ends else []
    return f"beyond the panel: {', '.join(parts)}" if parts else ""


def powers_between(first: int, last: int, most: int = TICKS) -> list[int]:
    """At most so many exponents from the first to the last, equally far apart."""
    return list(range(first, last + 1, max(1, math.ceil((last - first + 1) / most))))


def finite_only(values: np.ndarray) -> np.ndarray:
    """The values that are finite numbers."""
    return values[np.isfinite(values)]


def short_number(value: float) -> str:
    """A number to two digits, for a note."""
    return style.tidy_number(float(f"{value:.2g}"))
