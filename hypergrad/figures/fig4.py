"""Figure 4: the raw hypergradients behind Figure 1, outer step by outer step."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from hypergrad.core.basis import Basis
from hypergrad.figures import caption, style
from hypergrad.figures.axes import symlog_scale
from hypergrad.figures.curves import (
    MOST_ENTRIES,
    basis_of,
    coefficient_names,
    is_vector,
    is_windows,
)
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_HEIGHT = 2.6  # inches: with one row of panels
_ROW = 1.75  # inches: each further row
_COLUMNS = 4
_LEGEND_COLUMNS = 6
_LEGEND_ROW = 0.15  # inches, of a legend under a panel
_UNDER = 30.0  # points from a panel to its legend: room for the numbers and the name of the axis
_HALF_LABEL = 12  # characters: longer ones do not stand side by side under a panel
_TITLE_WIDTHS = {1: 60, 2: 36, 3: 22, 4: 17}  # characters, by panels in a row
_TITLE_WIDTH_ABOVE_LEGEND = 17  # where three of them share the width with long legends
_SHORT_LABEL = 13  # characters: longer ones do not stand six in a row
_MARKERS = "osD^vP*"
_WHOLE_RUN = "#222222"
_CROWD = {"color": "#0072B2", "linewidth": 0.4, "alpha": 0.5}
_MAX_LABELS = 7  # above all panels
_DECADES = 4  # below the largest value; what is smaller still is drawn on the linear range


def figure_4_table(record: RunRecord) -> pd.DataFrame:
    """Collect the first seed's rows of `outer.csv`.

    Returns:
        Columns kind, index, window (its name in the figure; of a basis that has no windows, or
        of a vector, what the coefficient stands for), seed, outer_step, hypergradient (as logged)
        and finite.
    """
    if record.outer.empty:
        raise ValueError(
            f"{record.path} has no hypergradient in outer.csv yet: wait for the first outer "
            "step, or choose another run with --run PATH"
        )
    seed = int(integers(record.outer, "seed").min())
    rows = where(record.outer, seed=seed).sort_values("outer_step", kind="stable")
    lines = []
    for kind in record.hyperparameters:
        of_kind = where(rows, kind=kind)
        # Named by the last outer step: the first one's horizon may be cut short.
        names = {}
        for outer_step in np.unique(integers(of_kind, "outer_step")):
            own = where(of_kind, outer_step=int(outer_step)).sort_values("index")
            given = coefficient_names(basis_of(record, kind, own), own)
            names |= dict(zip(integers(own, "index"), given, strict=True))
        window = [names[index] for index in integers(of_kind, "index")]
        finite = np.isfinite(floats(of_kind, "hypergradient"))
        of_kind = of_kind.assign(window=window, finite=finite)
        lines.append(of_kind.sort_values("index", kind="stable"))
    columns = ["kind", "index", "window", "seed", "outer_step", "hypergradient", "finite"]
    return pd.concat(lines, ignore_index=True).reindex(columns=columns)


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw one panel a kind of hyperparameter, one line a value."""
    table, kinds = figure_4_table(record), record.hyperparameters
    bases = {kind: basis_of(record, kind, _last(record, kind)) for kind in set(table["kind"])}
    crowded = {k: b.size for k, b in bases.items() if is_vector(b) and b.size > MOST_ENTRIES}
    shared = _is_shared(table, bases, crowded)
    groups = [list(kinds)] if shared else [[kind] for kind in kinds]
    looks = {
        kind: found
        for group in groups
        for found in [_looks(table, [k for k in group if k not in crowded])]
        for kind in group
    }
    high = math.ceil(len(kinds) / (_COLUMNS if shared else _COLUMNS - 1))
    wide = math.ceil(len(kinds) / high)  # rows of about equal length
    handles = [*(_legend(looks[kinds[0]], _MAX_LABELS) if shared else []), *_not_finite(table)]
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = _LEGEND_COLUMNS if longest <= _SHORT_LABEL else _LEGEND_COLUMNS - 2
    under = 0 if shared else max(_under(looks[kind]) for kind in kinds)
    height = _HEIGHT + _ROW * (high - 1) + _LEGEND_ROW * under * high
    figure, panels = style.panel_grid(height, high, wide)
    for axes in panels[len(kinds) :]:
        axes.remove()
    width = _TITLE_WIDTHS[wide] if shared or wide < 3 else _TITLE_WIDTH_ABOVE_LEGEND
    for place, (axes, kind) in enumerate(zip(panels, kinds, strict=False)):
        rows = where(table, kind=kind)
        if kind in crowded:
            _draw_crowd(axes, rows)
        else:
            for _, line in rows.groupby("index", sort=False):
                _draw_line(axes, line, *looks[kind][line["window"].iloc[0]])
        if not shared:
            _legend_under(axes, looks[kind], crowded.get(kind))
        axes.axhline(0, color=style.GREY, linewidth=0.7, zorder=1)
        values = floats(rows, "hypergradient")
        set_scale(axes, values[np.isfinite(values)])
        style.letter_panel(axes, style.letter_of(place))
        axes.set_title(style.wrapped_label(kind, "", width))
        axes.set_xlabel("outer step")
        axes.set_xlim(-0.4, max(1, int(integers(table, "outer_step").max())) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    over = "the window" if all(map(is_windows, bases.values())) else "its steps"
    for axes in panels[: len(kinds) : wide]:
        axes.set_ylabel(f"hypergradient of $L_{{\\mathrm{{val}}}}$,\naveraged over {over}")
    scales = "Scales: logarithmic on both sides of zero, linear between the ticks next to it"
    remarks = [caption.seeds_remark(record, int(integers(table, "seed")[0])), scales]
    caption.sign_figure(figure, record, remarks, handles, columns)
    return figure, table


def set_scale(axes: Axes, values: np.ndarray) -> None:
    """Scale a panel logarithmically on both sides of zero, around which it is linear."""
    sizes = np.abs(values[values != 0])
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if not sizes.size:
        symlog_scale(axes, 0, low, high)
        axes.set_yticks([0.0], ["0"])
        return
    largest = float(sizes.max())
    smallest = max(float(np.quantile(sizes, 0.1)), largest * 10.0**-_DECADES)
    # The largest value is outside the linear range, which would else be all of the panel.
    first = min(math.ceil(math.log10(smallest)), math.floor(math.log10(largest)))
    symlog_scale(axes, first, low, high)


def _draw_line(axes: Axes, line: pd.DataFrame, colour: str, marker: str) -> None:
    steps, values = integers(line, "outer_step"), floats(line, "hypergradient")
    finite = np.isfinite(values)
    size = 3.2 if steps.size <= 20 else 1.6
    drawn = np.where(finite, values, np.nan)  # an infinite one must not reach the axis
    axes.plot(steps, drawn, color=colour, marker=marker, markersize=size, zorder=3)
    cross = {"color": colour, "markersize": 6, "markeredgewidth": 1.5}
    axes.plot(steps[~finite], np.zeros(int((~finite).sum())), "x", zorder=4, **cross)


def _is_shared(table: pd.DataFrame, bases: dict[str, Basis], crowded: dict[str, int]) -> bool:
    """Whether one legend does for all panels: they are of windows, or of the same knots."""
    if all(is_windows(basis) and not is_vector(basis) for basis in bases.values()):
        return True
    families = {tuple(dict.fromkeys(where(table, kind=kind)["window"])) for kind in bases}
    return not crowded and sum(len(family) > 1 for family in families) <= 1


def _under(looks: dict[str, tuple[str, str]]) -> int:
    """Rows of the legend under a panel."""
    return math.ceil(min(len(looks), MOST_ENTRIES) / _under_columns(looks))


def _under_columns(looks: dict[str, tuple[str, str]]) -> int:
    return 2 if max(map(len, looks), default=0) <= _HALF_LABEL else 1


def _legend_under(axes: Axes, looks: dict[str, tuple[str, str]], crowd: int | None) -> None:
    handles = _legend(looks, MOST_ENTRIES)
    if crowd:
        handles.append(Line2D([], [], label=f"one of {crowd} entries", **_CROWD))
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = ScaledTranslation(0, -_UNDER / 72, figure.dpi_scale_trans)
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=axes.transAxes + below,
        ncol=_under_columns(looks),
        fontsize=style.SMALL,
        columnspacing=0.7,
        handlelength=1.3,
        handletextpad=0.5,
    )


def _draw_crowd(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw a thin line for each entry of a long vector, in one go."""
    steps = rows.pivot(index="outer_step", columns="index", values="hypergradient")
    values = np.where(np.isfinite(steps), steps, np.nan).T
    gap = np.full((len(values), 1), np.nan)
    epochs = np.tile([*steps.index, np.nan], len(values))
    axes.plot(epochs, np.hstack([values, gap]).ravel(), zorder=3, **_CROWD)
    lost = np.unique(integers(rows, "outer_step")[~np.isfinite(floats(rows, "hypergradient"))])
    cross = {"color": _CROWD["color"], "markersize": 6, "markeredgewidth": 1.5}
    axes.plot(lost, np.zeros(lost.size), "x", zorder=4, **cross)


def _last(record: RunRecord, kind: str) -> pd.DataFrame:
    """The rows of a hyperparameter in the last outer step of the first seed."""
    rows = where(record.outer, seed=int(integers(record.outer, "seed").min()), kind=kind)
    return where(rows, outer_step=int(integers(rows, "outer_step").max()))


def _looks(table: pd.DataFrame, kinds: list[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each window; windows in order of time, whole runs last."""
    several: list[str] = []
    whole: list[str] = []
    for kind in kinds:
        windows = list(dict.fromkeys(where(table, kind=kind)["window"]))
        (several if len(windows) > 1 else whole).extend(windows)
    several, whole = list(dict.fromkeys(several)), list(dict.fromkeys(whole))
    if len(several) <= len(style.OKABE_ITO):
        colours = list(style.OKABE_ITO)
    else:
        colours = style.sequence_colours(len(several))
    looks = {w: (colours[i], _MARKERS[i % len(_MARKERS)]) for i, w in enumerate(several)}
    return {**looks, **{window: (_WHOLE_RUN, "o") for window in whole}}


def _legend(looks: dict[str, tuple[str, str]], most: int) -> list[Line2D]:
    return [
        Line2D([], [], label=window, color=colour, marker=marker)
        for window, (colour, marker) in _thin(looks, most)
    ]


def _not_finite(table: pd.DataFrame) -> list[Line2D]:
    if np.isfinite(floats(table, "hypergradient")).all():
        return []
    look = {"color": style.GREY, "marker": "x", "markeredgewidth": 1.5, "markersize": 6}
    return [Line2D([], [], linestyle="", label="not finite", **look)]


def _thin(looks: dict[str, tuple[str, str]], most: int) -> list[tuple[str, tuple[str, str]]]:
    entries = list(looks.items())
    if len(entries) <= most:
        return entries
    kept = sorted({round(i) for i in np.linspace(0, len(entries) - 1, most)})
    return [entries[i] for i in kept]
