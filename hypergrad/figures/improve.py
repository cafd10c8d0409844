"""A schedule improved: what it was and what it became, and what fresh trainings say of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hypergrad.core.basis import Basis, Windows, basis_from
from hypergrad.figures import caption, style
from hypergrad.figures.axes import linear_scale
from hypergrad.figures.run_data import (
    RunRecord,
    floats,
    integer,
    integers,
    mapping,
    mappings,
    read_json,
    where,
)

_ROW, _AROUND = 2.0, 0.9  # inches: a row of panels; legend and caption
_POINTS = 400  # of a curve
_JUDGED = "judged"  # the panel of test accuracies
_LOOKS: dict[str, dict[str, Any]] = {
    "base": {"color": style.METHOD_COLOURS["sgd"], "linestyle": (0, (4, 2))},
    "improved": {"color": style.METHOD_COLOURS["ours"], "linestyle": "-"},
}


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw each hyperparameter of the first seed over epochs, and the judgement of every seed."""
    table = improvement_table(record)
    names = [name for name in dict.fromkeys(table["panel"]) if name != _JUDGED] + [_JUDGED]
    figure, panels = style.panels_in_two(_AROUND, _ROW, len(names))
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        style.letter_panel(axes, style.letter_of(place))
        own = where(table, panel=name)
        if name == _JUDGED:
            _draw_judged(axes, own)
        else:
            _draw_curves(axes, own, name, float(record.settings.get("epochs", 1)))
    handles = [Line2D([], [], **look, label=f"{name} schedule") for name, look in _LOOKS.items()]
    remarks = [
        caption.seeds_remark(record, int(integers(table, "seed")[0])),
        "Base: the schedule that it began with, set by hand",
        "Bars: fresh trainings with each schedule, on seeds that chose nothing; points: means",
    ]
    caption.sign_figure(figure, record, remarks, handles, 2)
    return figure, table


def improvement_table(record: RunRecord) -> pd.DataFrame:
    """Collect what is drawn: values over epochs of the first seed, accuracies of every training.

    Returns:
        Columns panel (a hyperparameter, or judged), schedule (base or improved), seed, x (epoch, or
        which fresh training), value.

    Raises:
        ValueError: If the run has not come to its end.
    """
    entries = mappings(mapping(read_json(record.path / "schedule.json")).get("schedules"))
    told = mappings(mapping(read_json(record.path / "improve.json")).get("seeds"))
    if not entries or not told:
        raise ValueError(f"{record.path} has improved nothing yet: wait until it has finished")
    first = entries[0]
    epochs = float(record.settings.get("epochs", 1))
    rows = []
    for name, base in mapping(first.get("base")).items():
        steps = integer(first["steps"])
        bases = mapping(first.get("bases"))
        for schedule, given in (("base", base), ("improved", first[name])):
            values = cast("Sequence[float]", given)
            basis = _basis(bases.get(name), values)
            if basis.size > 1:
                continue
            for step in np.unique(np.linspace(0, steps - 1, min(steps, _POINTS)).round()):
                weights = basis.weights(int(step), steps)
                value = sum(weight * values[i] for i, weight in weights)
                rows.append((name, schedule, first["seed"], step / steps * epochs, value))
    for seed in told:
        judged = seed.get("judged")
        for schedule, own in zip(_LOOKS, cast("Sequence", judged or ()), strict=False):
            rows += [(_JUDGED, schedule, seed["seed"], i, value) for i, value in enumerate(own)]
    return pd.DataFrame(rows, columns=["panel", "schedule", "seed", "x", "value"])


def _basis(kept: object, values: Sequence[float]) -> Basis:
    return Windows(len(values)) if kept is None else basis_from(mapping(kept))


def _draw_curves(axes: Axes, own: pd.DataFrame, name: str, epochs: float) -> None:
    for schedule, look in _LOOKS.items():
        line = where(own, schedule=schedule)
        axes.plot(floats(line, "x"), floats(line, "value"), **look)
    low, high = (float(f(floats(own, "value"), initial=0.0)) for f in (np.min, np.max))
    _, unit = linear_scale(axes.yaxis, low, high, ticks=7)
    axes.set_xlim(0, epochs)
    axes.xaxis.set_major_formatter(style.tick_format())
    axes.set_xlabel("epoch")
    axes.set_ylabel(style.wrapped_label(name, unit, 26))


def _draw_judged(axes: Axes, own: pd.DataFrame) -> None:
    """Means of every seed, joined in pairs, with the trainings that they are of."""
    axes.set_xticks([0, 1], list(_LOOKS))
    axes.set_xlim(-0.4, 1.4)
    axes.set_ylabel("test accuracy (%),\nfresh trainings")
    if own.empty:
        axes.text(0.5, 0.5, "the base stays", transform=axes.transAxes, ha="center")
        return
    for seed in dict.fromkeys(integers(own, "seed")):
        of_seed = where(own, seed=int(seed))
        pair = [100 * floats(where(of_seed, schedule=name), "value") for name in _LOOKS]
        for place, (values, look) in enumerate(zip(pair, _LOOKS.values(), strict=True)):
            x = np.full(len(values), float(place))
            axes.plot(x, values, "_", color=look["color"], alpha=0.5, markersize=9)
        means = [values.mean() for values in pair]
        axes.plot([0, 1], means, "o-", color=style.GREY, linewidth=0.8)
