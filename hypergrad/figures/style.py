"""The one look of all figures: sizes, type, and colours that colour-blind readers can tell."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps, patheffects, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

KIND_LABELS = {
    "learning_rate": "learning rate α",
    "momentum": "momentum β",
    "weight_decay": "weight decay μ",
}
# Okabe and Ito's palette. Methods keep their colour in every figure.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00")
METHOD_COLOURS = {
    "ours": "#0072B2",
    "shared": "#0072B2",
    "unshared": "#009E73",
    "hd": "#D55E00",
    "greedy": "#D55E00",
    "sgd": "#000000",
}
GREY = "#5A5A5A"
WIDTH = 7.0  # inches: the text width of a page
SMALL = 7.0  # points: notes and captions

_RC: dict[str, object] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 8.0,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.unicode_minus": True,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # TrueType: text in the PDF stays text
}


def house_style() -> AbstractContextManager[None]:
    """The style as a context; drawing and saving both belong inside it."""
    # The default first: a reader's own matplotlibrc must not change the picture.
    return style.context(["default", _RC])


class Margins(NamedTuple):
    """Room around and between panels, in inches."""

    left: float
    right: float
    bottom: float
    top: float
    across: float
    down: float = 0.0


def panel_grid(height: float, shape: tuple[int, int], room: Margins) -> tuple[Figure, list[Axes]]:
    """A page-wide figure with panels of equal size, placed in inches.

    Fixed places rather than a layout solver: panels line up from one figure to the next, and
    nothing depends on how wide a tick label happens to be.

    Args:
        height: inches.
        shape: rows and columns.
        room: what stays free around and between the panels.

    Returns:
        The figure and its panels, row by row.
    """
    rows, columns = shape
    figure = Figure(figsize=(WIDTH, height))
    wide = (WIDTH - room.left - room.right - (columns - 1) * room.across) / columns
    high = (height - room.bottom - room.top - (rows - 1) * room.down) / rows
    panels = []
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        x = room.left + column * (wide + room.across)
        y = height - room.top - (row + 1) * high - row * room.down
        box = (x / WIDTH, y / height, wide / WIDTH, high / height)
        panels.append(figure.add_axes(box))
    return figure, panels


def legend_height(entries: int, columns: int) -> float:
    """Inches that a legend of so many entries needs."""
    rows = math.ceil(entries / columns)
    return 0.06 + 0.155 * rows if rows else 0.0


def legend_above(figure: Figure, handles: list[Line2D], columns: int, above: float) -> None:
    """Put the legend `above` inches below the figure's upper edge; none without entries."""
    if not handles:
        return
    figure.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - above / figure.get_figheight()),
        ncol=math.ceil(len(handles) / math.ceil(len(handles) / columns)),  # rows of equal length
        columnspacing=1.2,
        labelspacing=0.35,
        borderaxespad=0.3,
        borderpad=0.2,
        handlelength=1.9,
        handletextpad=0.6,
    )


def sequence_colours(count: int) -> list[str]:
    """`count` colours from dark to light, without the yellow that paper swallows."""
    viridis = colormaps["viridis"]
    return [to_hex(viridis(0.88 * i / max(count - 1, 1))) for i in range(count)]


def outline_line(line: Line2D, width: float) -> Line2D:
    """Draw a line `width` points wide, with a black outline: it is the best one."""
    line.set_linewidth(width)
    outline = patheffects.Stroke(linewidth=width + 1.1, foreground="black")
    line.set_path_effects([outline, patheffects.Normal()])
    return line


def colour_scale(colours: list[str]) -> ScalarMappable:
    """The scale of a colour bar with one patch for each of 0, 1, 2, ..."""
    edges = [i - 0.5 for i in range(len(colours) + 1)]
    return ScalarMappable(BoundaryNorm(edges, len(colours)), ListedColormap(colours))


def letter_panel(axes: Axes, letter: str, pad: float | None = None) -> None:
    """Write the panel's letter above its top left corner, `pad` points away from it."""
    axes.set_title(letter, loc="left", fontweight="bold", pad=pad)


def note_panel(axes: Axes, note: str, colour: str = GREY) -> None:
    """Write a small note above the panel's top right corner, where no line can hide it."""
    axes.set_title(note, loc="right", fontsize=SMALL, color=colour)


def ends_outside(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Say how far values leave a panel; empty while they stay inside.

    Args:
        values: `(K,)`, in the order of time.
        limits: the panel's lower and upper limit.

    Returns:
        Their extremes beyond the limits, to two digits, and whether they stop being finite.

    >>> ends_outside(np.array([0.0, 2.53, np.nan]), (0.0, 1.0))
    'max 2.5, then not finite'
    """
    finite = values[np.isfinite(values)]
    ends = []
    if finite.size and finite.min() < limits[0]:
        ends.append(f"min {tidy_number(float(f'{finite.min():.2g}'))}")
    if finite.size and finite.max() > limits[1]:
        ends.append(f"max {tidy_number(float(f'{finite.max():.2g}'))}")
    if finite.size < values.size:
        ends.append("then not finite" if finite.size else "not finite")
    return ", ".join(ends)


def scale_axis(axis: Axis, limits: tuple[float, float]) -> str:
    """Label an axis in units of a power of ten when its numbers are very small or large.

    Args:
        axis: the axis, linear.
        limits: its limits.

    Returns:
        What to add to the axis label, for example ` (×10⁻³)`; empty for ordinary numbers.
    """
    unit, words = unit_of(max(abs(limits[0]), abs(limits[1])))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tidy_number(value / unit)))
    return words


def unit_of(largest: float) -> tuple[float, str]:
    """The power of ten in whose units very small or large numbers are written, and its words.

    Args:
        largest: the largest size among the numbers.

    Returns:
        1 and no words for ordinary numbers.

    >>> unit_of(0.0025)[0], unit_of(0.5)
    (0.001, (1.0, ''))
    """
    exponent = math.floor(math.log10(largest)) if largest > 0 else 0
    if -2 <= exponent <= 2:
        return 1.0, ""
    return 10.0**exponent, rf" ($\times 10^{{{exponent}}}$)"


def tick_format() -> FuncFormatter:
    """Tick labels without trailing zeros."""
    return FuncFormatter(lambda value, _: tidy_number(value))


def tidy_number(value: float) -> str:
    """A number for a tick or a note, with a true minus sign and no rounding dust."""
    return f"{round(value, 9):.4g}".replace("-", "\N{MINUS SIGN}")
