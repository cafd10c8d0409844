"""The one look of all figures: sizes, type, and colours that colour-blind readers can tell."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from contextlib import AbstractContextManager
from string import ascii_lowercase

import numpy as np
from matplotlib import colormaps, patheffects, style
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

KIND_LABELS = {
    "learning_rate": "learning rate α",
    "momentum": "momentum β",
    "weight_decay": "weight decay μ",
    "beta1": "first-moment decay β₁",
    "beta2": "second-moment decay β₂",
    "epsilon": "epsilon ε",
    "label_smoothing": "label smoothing",
    "noise": "noise",
    "class_weights": "class weights",
}
# Okabe and Ito's palette. Methods keep their colour in every figure.
OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00")
METHOD_COLOURS = {
    "ours": "#0072B2",
    "shared": "#0072B2",
    "unshared": "#009E73",
    "hd": "#D55E00",
    "greedy": "#D55E00",  # the one-step hypergradient of Figure 2
    "sgd": "#000000",
    "start": "#CC79A7",
}
GREY = "#5A5A5A"
WIDTH = 7.0  # inches: the text width of a page
SMALL = 7.0  # points: notes and captions

_UNIT_WIDTH = 7  # characters of a power of ten
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
    "svg.hashsalt": "hypergrad",  # the same names of its elements every time
}


def house_style() -> AbstractContextManager[None]:
    """The style as a context; drawing and saving both belong inside it."""
    # The default first: a reader's own matplotlibrc must not change the picture.
    return style.context(["default", _RC])


def label_of(name: str) -> str:
    """A hyperparameter in words.

    >>> label_of("weight_decay"), label_of("weight_decay_matrices")
    ('weight decay μ', 'weight decay matrices')
    """
    return KIND_LABELS.get(name, name.replace("_", " "))


def wrapped_label(name: str, unit: str, width: int) -> str:
    """A hyperparameter and its unit in lines of about so many characters."""
    lines = textwrap.wrap(label_of(name), width)
    apart = "\n" if unit and len(lines[-1]) + _UNIT_WIDTH > width else ""
    return "\n".join(lines) + (apart + unit.lstrip() if apart else unit)


def letter_of(panel: int) -> str:
    """The letter of a panel by its place; after z it goes on with a."""
    return ascii_lowercase[panel % len(ascii_lowercase)]


def page_wide(height: float) -> Figure:
    """A figure as wide as a page, whose panels are laid out around what is written."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.03)
    return Figure(figsize=(WIDTH, height), layout=layout)


def panel_grid(height: float, rows: int, columns: int) -> tuple[Figure, list[Axes]]:
    """A page-wide figure, `height` inches high, and its panels row by row."""
    figure = page_wide(height)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def panels_in_two(height: float, row: float, count: int) -> tuple[Figure, list[Axes]]:
    """A page-wide figure of so many panels in two columns; an odd last one is as wide as two.

    `height` inches are around the panels, `row` for each row of them.
    """
    rows = math.ceil(count / 2)
    figure, panels = panel_grid(height + row * rows, rows, 2)
    if count % 2:
        panels.pop().remove()
        whole = panels[-1].get_subplotspec()
        assert whole is not None
        panels[-1].set_subplotspec(whole.get_gridspec()[-1, :])
    return figure, panels


def legend_above(figure: Figure, handles: list[Line2D], columns: int, mark: str = "") -> None:
    """Put a legend above the panels, in at most so many columns, and a mark on top of it."""
    if not handles and not mark:
        return
    rows = max(1, math.ceil(len(handles) / columns))
    legend = figure.legend(
        handles=handles,
        loc="outside upper center",
        ncol=max(1, math.ceil(len(handles) / rows)),  # rows of equal length
        columnspacing=1.2,
        handlelength=1.9,
        labelspacing=0.9 if mark else 0.35,
        title=mark or None,
        title_fontproperties={"size": 9, "weight": "bold"},
    )
    if mark:
        box = {"facecolor": METHOD_COLOURS["hd"], "edgecolor": "none", "pad": 2.5}
        legend.get_title().set(color="white", bbox=box)


def colour_bar(
    figure: Figure | SubFigure,
    axes: list[Axes],
    colours: ScalarMappable,
    label: str,
    ticks: Iterable[float],
    aspect: float = 40,
) -> Colorbar:
    """Draw a narrow colour bar right of panels, `aspect` times as high as wide."""
    bar = figure.colorbar(colours, ax=axes, label=label, aspect=aspect, pad=0.02)
    bar.set_ticks(list(ticks))
    bar.ax.tick_params(length=0)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    return bar


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


def letter_panel(axes: Axes, letter: str, name: str = "", pad: float = 6.0) -> None:
    """Write the panel's letter, and its name, `pad` points above its top left corner."""
    axes.set_title(letter, loc="left", fontweight="bold", pad=pad)
    if name:
        _annotate(axes, name, False, (11.0, pad), 8.5, "black")


def note_panel(axes: Axes, note: str, colour: str = GREY, pad: float = 6.0) -> None:
    """Write a small note above the panel's top right corner, where no line can hide it."""
    axes.set_title(note, loc="right", fontsize=SMALL, color=colour, pad=pad)


def note_edge(axes: Axes, note: str, colour: str = GREY, *, right: bool = False) -> None:
    """Write a small note right above the panel, under its letter and name."""
    if note:
        _annotate(axes, note, right, (0.0, 3.0), SMALL, colour)


def note_inside(axes: Axes, note: str) -> None:
    """Write what is missing in the middle of an empty panel."""
    look = {"ha": "center", "va": "center", "color": GREY, "fontsize": 8.0}
    axes.text(0.5, 0.5, note, transform=axes.transAxes, **look)


def _annotate(
    axes: Axes, text: str, right: bool, offset: tuple[float, float], size: float, colour: str
) -> None:
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "annotation_clip": False}
    look = {"ha": "right" if right else "left", "fontsize": size, "color": colour}
    words = axes.annotate(text, (float(right), 1), offset, **place, **look)
    words.set_in_layout(False)  # it may reach over the next panel: the title makes room above


def ends_outside(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Say how far values leave a panel, to two digits, and whether they stop being finite.

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


def unit_of(largest: float) -> tuple[float, str]:
    """The power of ten in whose units very small or large numbers are written, and its words.

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
