"""A schedule improved: what it was and what it became, and what fresh trainings say of both."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hypergrad.core.basis import Basis, Windows, basis_from
from hypergrad.figures import caption, style
from hypergrad.figures.axes import needs_log
from hypergrad.figures.run_data import RunRecord, mapping, mappings, read_json

_ROW, _AROUND = 2.0, 0.9  # inches: a row of panels; legend and caption
_POINTS = 400  # of a curve
_JUDGED = "judged"  # the panel of test accuracies
_LOOKS = {
    "base": {"color": style.METHOD_COLOURS["sgd"], "linestyle": (0, (4, 2))},
    "improved": {"color": style.METHOD_COLOURS["ours"], "linestyle": "-"},
}


def draw(record: RunRecord) -> tuple[Figure, pd.DataFrame]:
    """Draw each hyperparameter of the first seed over epochs, and the judgement of every seed."""
    table = improvement_table(record)
    curves = table[table["panel"] != _JUDGED]
    names = [*dict.fromkeys(curves["panel"]), _JUDGED]
    rows = math.ceil(len(names) / 2)
    figure, panels = style.panel_grid(_AROUND + _ROW * rows, rows, 2)
    if len(names) % 2:  # the last panel is as wide as two
        panels.pop().remove()
        whole = panels[-1].get_subplotspec()
        assert whole is not None
        panels[-1].set_subplotspec(whole.get_gridspec()[-1, :])
    for place, (axes, name) in enumerate(zip(panels, names, strict=True)):
        style.letter_panel(axes, style.letter_of(place))
        own = table[table["panel"] == name]
        if name == _JUDGED:
            _draw_judged(axes, own)
        else:
            _draw_curves(axes, own, name)
    handles = [
        Line2D([], [], **look, marker="o" if name == "improved" else None, label=f"{name} schedule")
        for name, look in _LOOKS.items()
    ]
    remarks = [f"schedules of seed {record.seeds[0] if record.seeds else 0}"]
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
        steps = int(first["steps"])  # type: ignore[call-overload]
        bases = mapping(first.get("bases"))
        for schedule, values in (("base", base), ("improved", first[name])):
            basis = _basis(bases.get(name), values)
            if basis.size > 1:
                continue
            for step in np.unique(np.linspace(0, steps - 1, min(steps, _POINTS)).round()):
                weights = basis.weights(int(step), steps)
                value = sum(weight * values[i] for i, weight in weights)
                rows.append((name, schedule, first["seed"], step / steps * epochs, value))
    for seed in told:
        judged = seed.get("judged")
        for schedule, own in zip(_LOOKS, judged or (), strict=False):
            rows += [(_JUDGED, schedule, seed["seed"], i, value) for i, value in enumerate(own)]
    return pd.DataFrame(rows, columns=["panel", "schedule", "seed", "x", "value"])


def _basis(kept: object, values: list[float]) -> Basis:
    return Windows(len(values)) if kept is None else basis_from(mapping(kept))


def _draw_curves(axes: Axes, own: pd.DataFrame, name: str) -> None:
    for schedule, look in _LOOKS.items():
        line = own[own["schedule"] == schedule]
        axes.plot(line["x"], line["value"], **look)
    positive = own["value"][own["value"] > 0].to_numpy()
    if (own["value"] >= 0).all() and positive.size and needs_log(positive):
        axes.set_yscale("log")
    elif (own["value"] >= 0).all():
        axes.set_ylim(bottom=0)
    axes.set_xlabel("epoch")
    axes.set_ylabel(style.wrapped_label(name, "", 26))


def _draw_judged(axes: Axes, own: pd.DataFrame) -> None:
    """Means of every seed, joined in pairs, with the trainings that they are of."""
    axes.set_xticks([0, 1], list(_LOOKS))
    axes.set_xlim(-0.4, 1.4)
    axes.set_ylabel("test accuracy (%),\nfresh trainings")
    if own.empty:
        axes.text(0.5, 0.5, "the base stays", transform=axes.transAxes, ha="center")
        return
    for _, seed in own.groupby("seed"):
        pairs = [100 * seed[seed["schedule"] == schedule]["value"] for schedule in _LOOKS]
        for place, (values, look) in enumerate(zip(pairs, _LOOKS.values(), strict=True)):
            axes.plot([place] * len(values), values, "_", color=look["color"], alpha=0.5)
        axes.plot(
            [0, 1], [values.mean() for values in pairs], "o-", color=style.GREY, linewidth=0.8
        )
