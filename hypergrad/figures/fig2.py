"""Figure 2: how much hypergradients vary from repeat to repeat, inner step by inner step."""

from __future__ import annotations

import math
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator

from hypergrad.figures import caption, style
from hypergrad.figures.axes import TICKS, linear_scale, powers_between, symlog_scale
from hypergrad.figures.fig2_data import METHODS, figure_2_table, read_hypergradients
from hypergrad.figures.run_data import RunRecord, floats, integers, where

_ROW, _AROUND = 1.44, 1.3  # inches: a row of panels; legend, axis label and caption
_TITLE_PAD = 13.0  # points: room for a note under the title
_SPREAD = 8.0  # reach of the widest method over the narrowest beyond which a linear axis hides it
_BULK = (0.02, 0.98)  # quantiles that a linear axis shows
Bands = dict[str, tuple[np.ndarray, np.ndarray]]  # method: the band's lower and upper edge
_NAMES = {
    "greedy": "greedy: one step ahead",
    "unshared": "unshared: one value a step",
    "shared": "shared: one value a window",
}
_PERTURBED = {
    "weights": "initial weights",
    "learning_rate": "learning rates",
    "train": "training batches",
    "validation": "validation batches",
    "all": "all at once",
}
ROUNDING = "rounding noise: what was perturbed has no effect"
_ROUNDINGS = 1e3  # of one operation: about what a hypergradient gathers
_SIZED = ("weights", "learning_rate")  # what is perturbed by so many per cent of itself


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw a row of two panels a perturbation: hypervariance and hypergradient."""
    raw = read_hypergradients(record.path)
    windows = _window_lengths(raw)
    horizon = int(integers(raw, "end_step").max())
    width = round(np.mean(windows)) if windows.size else max(1, horizon // 10)
    table = figure_2_table(raw, width)
    names = list(dict.fromkeys(table["perturbation"]))
    figure, panels = style.panel_grid(_AROUND + _ROW * len(names), len(names), 2)
    for axes, letter in zip(panels, ascii_lowercase, strict=False):
        axes.set_autoscaley_on(False)  # it warns where all values are the same
        axes.set_xlim(0, horizon)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.tick_params(labelbottom=axes in panels[-2:])
        title = perturbation_title(record, names[panels.index(axes) // 2])
        style.letter_panel(axes, letter, title if axes in panels[::2] else "", _TITLE_PAD)
    for name, left, right in zip(names, panels[::2], panels[1::2], strict=True):
        rows = where(table, perturbation=name)
        _draw_variance(left, rows)
        _draw_mean(right, rows)
        noise = is_rounding(rows, record.settings.get("precision", "float32"))
        style.note_edge(left, ROUNDING if noise else ratio_note(rows))
        style.note_panel(right, _repeats_note(rows), pad=_TITLE_PAD)
    for axes in panels[-2:]:
        axes.set_xlabel("inner step")
    figure.align_ylabels(panels)
    handles = [
        Line2D([], [], color=style.METHOD_COLOURS[method], label=_NAMES[method])
        for method in METHODS
        if method in set(table["method"])
    ]
    remarks = _remarks(record, windows, width, horizon)
    caption.sign_figure(figure, record, remarks, handles, len(METHODS))
    return figure, table


def is_rounding(rows: pd.DataFrame, precision: str) -> bool:
    """Whether repeats differ by no more than rounding, with every method that has a variance."""
    variance, mean = floats(rows, "hypervariance"), floats(rows, "mean")
    known = np.isfinite(variance) & np.isfinite(mean)
    if not variance[known].any():
        return False
    noise = _ROUNDINGS * float(np.finfo(np.dtype(precision)).eps)
    methods = np.asarray(rows["method"])[known]
    variance, mean = variance[known], mean[known]
    return all(
        variance[methods == name].mean() <= noise**2 * (mean[methods == name] ** 2).mean()
        for name in np.unique(methods)
    )


def ratio_note(rows: pd.DataFrame) -> str:
    """Say by how much sharing cuts hypervariance, and what independent noise would make of it."""
    missing = [name for name in ("shared", "unshared") if where(rows, method=name).empty]
    if missing:
        return f"no ratio: {' and '.join(missing)} missing"
    shared = where(rows, method="shared")
    ratio, low, high, independent = (
        float(floats(shared, name)[0]) for name in ("ratio", "low", "high", "independent")
    )
    if not math.isfinite(ratio):
        few = int(integers(shared, "compared")[0]) < 2
        return f"no ratio: {'needs two finite repeats' if few else 'no variance'}"
    interval = f" [{short_number(low)}, {short_number(high)}]" if math.isfinite(low) else ""
    return f"shared/unshared {short_number(ratio)}{interval}, 1/W = {short_number(independent)}"


def set_scale(axes: Axes, bands: Bands) -> None:
    """Choose a vertical axis on which the bands of all methods can be read.

    Linear for their bulk where they are of similar reach (what is outside is noted), else
    symmetric logarithmic, with the narrowest method around its linear range.
    """
    finite = {name: finite_only(np.concatenate(edges)) for name, edges in bands.items()}
    bulk = {name: np.quantile(v, _BULK) for name, v in finite.items() if v.size}
    reach = [float(np.abs(ends).max()) for ends in bulk.values() if np.any(ends)]
    unit = ""
    if reach and max(reach) > _SPREAD * min(reach):
        every = np.concatenate(list(finite.values()))
        low, high = float(every.min()), float(every.max())
        first = math.floor(math.log10(min(reach)))
        decades = math.log10(max(-low, high)) - first
        symlog_scale(axes, first, low, high, flat=max(1.0, 0.35 * decades))
    else:
        ends = np.concatenate([np.zeros(1), *bulk.values()])
        low, high = float(ends.min()), float(ends.max())
        _, unit = linear_scale(axes.yaxis, low, high, margin=0.1, flat=1.0, ticks=4)
    axes.set_ylabel(f"hypergradient\n{unit.strip()}" if unit else "hypergradient")


def outside_note(lines: dict[str, np.ndarray], limits: tuple[float, float]) -> str:
    """Say which lines leave a panel, and how far; empty while all stay inside.

    >>> outside_note({"greedy": np.array([0.0, 2.53]), "shared": np.array([0.1])}, (-1.0, 1.0))
    'beyond the panel: greedy 2.5'
    """
    notes = []
    for name, values in lines.items():
        low, high = (f(finite_only(values), initial=limits[0]) for f in (np.min, np.max))
        ends = [short_number(low)] if low < limits[0] else []
        ends += [short_number(high)] if high > limits[1] else []
        notes += [f"{name} {' and '.join(ends)}"] if ends else []
    return f"beyond the panel: {', '.join(notes)}" if notes else ""


def finite_only(values: np.ndarray) -> np.ndarray:
    """The values that are finite numbers."""
    return values[np.isfinite(values)]


def short_number(value: float) -> str:
    """A number to two digits, for a note."""
    return style.tidy_number(float(f"{value:.2g}"))


def _draw_variance(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylabel("hypervariance")
    shown = [np.empty(0)]
    for method in METHODS:
        of_method = where(rows, method=method)
        raw, smooth = (
            _positive(floats(of_method, name)) for name in ("hypervariance", "smooth_hypervariance")
        )
        _draw_line(axes, of_method, smooth, method)
        if method != "shared":
            faint = {"color": style.METHOD_COLOURS[method], "linewidth": 0.45, "alpha": 0.35}
            axes.plot(_places(of_method, method), raw, zorder=1.5, **faint)
        shown += [np.quantile(finite_only(raw), _BULK)] if finite_only(raw).size else []
        shown += [finite_only(smooth)]
    powers = np.log10(np.concatenate(shown))
    if not powers.size:
        axes.set_yticks([])
        few = int(integers(rows, "repeats").max()) < 2
        style.note_inside(axes, "needs two finite repeats" if few else "no variance at all")
        return
    low, high = float(powers.min()), float(powers.max())
    low, high = low - 0.06 * (high - low) - 0.1, high + 0.06 * (high - low) + 0.1
    if math.floor(high) <= math.ceil(low):  # one power of ten is no scale
        low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    axes.set_yscale("log")
    axes.set_ylim(10.0**low, 10.0**high)
    labelled = powers_between(math.ceil(low), math.floor(high), TICKS + 1)
    axes.set_yticks([10.0**e for e in labelled], [rf"$10^{{{e}}}$" for e in labelled])
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_mean(axes: Axes, rows: pd.DataFrame) -> None:
    axes.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    bands: Bands = {}
    lines: dict[str, np.ndarray] = {}
    for order, method in enumerate(METHODS):
        of_method = where(rows, method=method)
        if of_method.empty:
            continue
        raw, smooth, std = (
            _plain(floats(of_method, name)) for name in ("mean", "smooth_mean", "smooth_std")
        )
        # Without a second repeat there is a line, but no band.
        std = np.where(np.isnan(std), 0.0, std)
        bands[method], lines[method] = (smooth - std, smooth + std), smooth
        place = _places(of_method, method)
        low, high = (_spread_out(edge, place) for edge in bands[method])
        look = {"color": style.METHOD_COLOURS[method], "linewidth": 0, "zorder": 2 + 0.1 * order}
        axes.fill_between(place, low, high, alpha=0.22, **look)
        _draw_line(axes, of_method, smooth, method)
        if method != "shared":
            # Points, for lines that change sign at every step would fill the panel.
            faint = {"color": style.METHOD_COLOURS[method], "markersize": 1.3, "alpha": 0.35}
            axes.plot(place, raw, "o", markeredgewidth=0, zorder=1.5, **faint)
    set_scale(axes, bands)
    style.note_edge(axes, outside_note(lines, axes.get_ylim()))


def _draw_line(axes: Axes, rows: pd.DataFrame, smooth: np.ndarray, method: str) -> None:
    place = _places(rows, method)
    wide = 1.4 if method == "shared" else 1.1
    colour = style.METHOD_COLOURS[method]
    axes.plot(place, _spread_out(smooth, place), color=colour, linewidth=wide, zorder=4)


def _places(rows: pd.DataFrame, method: str) -> np.ndarray:
    """Middles of the inner steps; of a window both ends, for it is drawn as a step."""
    ends = np.stack([floats(rows, "start_step"), floats(rows, "end_step")], axis=1)
    return ends.ravel() if method == "shared" else ends.mean(axis=1)


def _spread_out(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    return values if values.size == place.size else np.repeat(values, 2)


def perturbation_title(record: RunRecord, name: str) -> str:
    """What a row or panel is about: what was perturbed, and by how much."""
    title = f"perturbed: {_PERTURBED.get(name, name.replace('_', ' '))}"
    size = record.settings.get("perturbation_size")
    if name in _SIZED and size is not None:
        title += f" ± {style.tidy_number(100 * float(size))} %"
    return title


def _repeats_note(rows: pd.DataFrame) -> str:
    count = int((integers(rows, "repeats") + integers(rows, "dropped")).max())
    lost = count - int(integers(rows, "compared").min())
    number = f"{count} repeat{'s' if count > 1 else ''}"
    return f"{number}, {lost} not finite" if lost else number


def _remarks(record: RunRecord, windows: np.ndarray, width: int, horizon: int) -> list[str]:
    settings = record.settings
    forms = {
        "precision": "{}",
        "batch_size": "batch size {}",
        "clip_gradient": "c_g = {}",
        "steps": f"T = {horizon}",
        "windows": "{} windows",
        "learning_rate": "learning rate {}",
        "momentum": "momentum {}",
        "repeats": "{} repeats of each perturbation",
    }
    known = [form.format(_setting(settings[k])) for k, form in forms.items() if k in settings]
    if "precision" in settings and "clip_gradient" not in settings:
        known.insert(2, "gradients not clipped")
    lengths = [str(length) for length in np.unique(windows)[[0, -1]]] if windows.size else []
    lengths = list(dict.fromkeys(lengths))
    remarks = [
        ", ".join(known),
        f"W = {' to '.join(lengths)} steps a window" if lengths else "",
        f"Greedy and unshared: moving averages over {width} steps (of variances, of means); faint: "
        "every step, which may leave the panel",
        "Bands: mean ± standard deviation over repeats",
    ]
    if lengths:
        remarks.append(
            "Above: ratio of mean hypervariances, [its 95 % bootstrap interval over repeats], and "
            "1/W, its value for noise that is independent between steps"
        )
    return remarks


def _window_lengths(raw: pd.DataFrame) -> np.ndarray:
    shared = where(raw, method="shared")
    return integers(shared, "end_step") - integers(shared, "start_step")


def _plain(values: np.ndarray) -> np.ndarray:
    """An infinite value must not reach an axis."""
    return np.where(np.isfinite(values), values, np.nan)


def _positive(values: np.ndarray) -> np.ndarray:
    """A logarithmic axis has no place for zero."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _setting(text: str) -> str:
    """A number without trailing zeros, anything else as it stands.

    >>> _setting("1.0"), _setting("float64")
    ('1', 'float64')
    """
    try:
        return style.tidy_number(float(text))
    except ValueError:
        return text
