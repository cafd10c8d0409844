"""Figures 1 and 4 of hyperparameters of any name, over any basis."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hypergrad.core.basis import Basis, Cosine, Hats, Vector, WarmUp, Windows
from hypergrad.figures import fig1, fig4, style
from hypergrad.figures.axes import log_scale
from hypergrad.figures.curves import basis_of
from hypergrad.figures.run_data import floats, read_run, where

MakeRun = Callable[..., Path]
STEPS = 6


def draw(module: object, run: Path) -> tuple[Figure, pd.DataFrame]:
    with style.house_style():
        return module.draw(read_run(run))  # type: ignore[attr-defined]


def panels(figure: Figure, count: int) -> list[Axes]:
    return figure.axes[:count]


def labels(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def drawn(axes: Axes) -> list[list[list[float]]]:
    return [line.get_xydata().tolist() for line in axes.lines]


def coefficients(run: Path, kind: str, outer_step: int) -> np.ndarray:
    return floats(where(read_run(run).outer, kind=kind, outer_step=outer_step), "value")


def test_panels_follow_the_names_found_and_accuracy_comes_last(make_adamw: MakeRun) -> None:
    run = make_adamw()
    assert read_run(run).hyperparameters == ("learning_rate", "beta1", "weight_decay_matrices")
    figure, table = draw(fig1, run)
    assert [axes.get_ylabel() for axes in panels(figure, 4)] == [
        "learning rate α",
        "first-moment decay β₁",
        "weight decay matrices",
        "test accuracy (%)",
    ]
    assert [axes.get_title("left") for axes in panels(figure, 4)] == list("abcd")
    assert list(dict.fromkeys(table["panel"])) == [*read_run(run).hyperparameters, "test_accuracy"]
    assert "entry" not in table


def test_hats_are_straight_lines_between_knots(make_adamw: MakeRun) -> None:
    run = make_adamw()
    figure, table = draw(fig1, run)
    for outer_step in range(STEPS):
        knots = coefficients(run, "weight_decay_matrices", outer_step)
        points = [[epoch, v] for epoch, v in zip((0, 12.5, 25, 37.5, 50), knots, strict=True)]
        assert points in drawn(figure.axes[2])
        rows = table[(table["panel"] == "weight_decay_matrices")]
        rows = rows[rows["outer_step"] == outer_step]
        assert rows[["epoch", "value"]].to_numpy().tolist() == points


def test_a_span_of_more_than_thirty_has_a_logarithmic_axis(make_adamw: MakeRun) -> None:
    figure, table = draw(fig1, make_adamw())
    assert [axes.get_yscale() for axes in panels(figure, 3)] == ["log", "linear", "linear"]
    rates = table[table["panel"] == "learning_rate"]["value"]
    assert rates.max() > 30 * rates.min() > 0
    low, high = figure.axes[0].get_ylim()
    assert low < rates.min() < rates.max() < high
    assert figure.axes[0].get_yticklabels()[0].get_text() == "$10^{-4}$"


def test_a_short_logarithmic_axis_has_numbers_between_its_powers() -> None:
    axes = Figure().add_subplot()
    limits, unit = log_scale(axes, 2e-4, 8e-3)
    assert unit == r" ($\times 10^{-3}$)"
    ticks = [tick for tick in axes.get_yticks() if limits[0] <= tick <= limits[1]]
    assert ticks == pytest.approx([2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2])
    texts = axes.yaxis.get_major_formatter().format_ticks(ticks)
    assert texts == ["0.2", "0.5", "1", "2", "5", "10"]


@pytest.mark.parametrize(
    ("basis", "value_at"),
    [
        (Cosine(3), lambda e, c: sum(c[i] * np.cos(np.pi * i * e / 50) for i in range(3))),
        (WarmUp(0.2, Windows(1)), lambda e, c: c[0] * np.minimum((e + 0.25) / 10, 1)),
    ],
)
def test_other_bases_are_drawn_at_a_hundred_points(
    make_adamw: MakeRun,
    basis: Basis,
    value_at: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> None:
    run = make_adamw(bases={"learning_rate": Windows(2), "noise": basis})
    figure, table = draw(fig1, run)
    rows = table[(table["panel"] == "noise") & (table["outer_step"] == 3)]
    epochs = (np.arange(100) + 0.5) / 2
    assert rows["epoch"].to_numpy() == pytest.approx(epochs, rel=1e-12)
    expected = value_at(epochs, coefficients(run, "noise", 3))
    assert rows["value"].to_numpy() == pytest.approx(expected, rel=1e-9)  # rounding only
    assert rows[["epoch", "value"]].to_numpy().tolist() in drawn(figure.axes[1])


def test_a_constant_vector_is_drawn_by_its_entries(make_adamw: MakeRun) -> None:
    run = make_adamw(bases={"learning_rate": Windows(2), "class_weights": Vector(10)})
    figure, table = draw(fig1, run)
    axes = figure.axes[1]
    values = coefficients(run, "class_weights", 2).tolist()
    assert [[i, value] for i, value in enumerate(values)] in drawn(axes)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("entry", "class weights")
    rows = table[(table["panel"] == "class_weights") & (table["outer_step"] == 2)]
    assert rows["entry"].tolist() == [i for i in range(10) for _ in range(2)]
    assert rows["value"].tolist() == [value for value in values for _ in range(2)]
    assert table[table["panel"] == "learning_rate"]["entry"].isna().all()


def test_a_long_vector_is_drawn_in_order_of_value(make_adamw: MakeRun) -> None:
    run = make_adamw(bases={"learning_rate": Windows(2), "example_weights": Vector(40)})
    figure, _ = draw(fig1, run)
    values = sorted(coefficients(run, "example_weights", 2))
    assert [[i, value] for i, value in enumerate(values)] in drawn(figure.axes[1])
    assert figure.axes[1].get_xlabel() == "entries, in order of value"
    assert len(figure.axes[1].lines) == STEPS + 1  # the best one is drawn twice
    figure, table = draw(fig4, run)
    thin = figure.axes[1].lines[0]
    assert thin.get_linewidth() < 0.5
    assert np.isfinite(thin.get_ydata()).sum() == 40 * STEPS
    assert labels(figure.axes[1]) == ["one of 40 entries"]
    assert len(table) == STEPS * 42


def test_a_vector_that_changes_has_a_line_for_each_entry(make_adamw: MakeRun) -> None:
    bases = {"learning_rate": Windows(2), "example_weights": Vector(20, Hats(3))}
    run = make_adamw(bases=bases)
    figure, _ = draw(fig1, run)
    axes = figure.axes[1]
    assert axes.get_title("right") == "a line for each of 20 entries"
    assert axes.get_xlabel() == "epoch"
    first = axes.lines[0].get_xydata()
    values = coefficients(run, "example_weights", 0).reshape(3, 20)
    assert len(first) == 20 * 3 + 19  # a gap between entries
    assert first[4:7].tolist() == [[e, v] for e, v in zip((0, 25, 50), values[:, 1], strict=True)]
    assert np.isnan(first[3]).all()


@pytest.mark.parametrize(("names", "wide"), [(1, False), (2, True), (3, False), (6, True)])
def test_the_last_panel_fills_its_row(make_adamw: MakeRun, names: int, wide: bool) -> None:
    figure, _ = draw(fig1, make_adamw(bases={f"rate_{i}": Windows(1) for i in range(names)}))
    *_, last = panels(figure, names + 1)
    assert last.get_ylabel() == "test accuracy (%)"
    place = last.get_subplotspec()
    assert place is not None
    assert (place.colspan.stop - place.colspan.start == 2) == wide


def test_the_starting_values_stand_beside_ours(make_adamw: MakeRun) -> None:
    figure, table = draw(fig1, make_adamw())
    (legend,) = figure.legends
    assert "starting values 86.13 %" in [text.get_text() for text in legend.get_texts()]
    finals = table[table["panel"] == "test_accuracy"]["method"]
    assert list(dict.fromkeys(finals)) == ["ours", "ours_retrained", "start"]


def test_figure_4_has_a_legend_under_panels_of_different_bases(make_adamw: MakeRun) -> None:
    figure, table = draw(fig4, make_adamw())
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["learning rate α", "first-moment\ndecay β₁", "weight decay\nmatrices"]
    windows = [f"epochs {k}\N{EN DASH}{k + 10}" for k in range(0, 50, 10)]
    knots = [f"knot at epoch {epoch}" for epoch in ("0", "12.5", "25", "37.5", "50")]
    whole = ["epochs 0\N{EN DASH}50"]
    assert [labels(axes) for axes in figure.axes] == [windows, whole, knots]
    assert not figure.legends
    fourth = table[(table["kind"] == "weight_decay_matrices") & (table["index"] == 3)]
    assert set(fourth["window"]) == {"knot at epoch 37.5"}
    steps = [[t, h] for t, h in enumerate(fourth["hypergradient"])]
    assert steps in drawn(figure.axes[2])
    assert figure.axes[0].get_ylabel().endswith("averaged over its steps")


@pytest.mark.parametrize(
    ("names", "grid"), [(1, (1, 1)), (4, (1, 4)), (5, (2, 3)), (8, (2, 4)), (9, (3, 3))]
)
def test_figure_4_wraps_its_panels(make_adamw: MakeRun, names: int, grid: tuple[int, int]) -> None:
    figure, _ = draw(fig4, make_adamw(bases={f"rate_{i}": Windows(2) for i in range(names)}))
    assert len(figure.axes) == names
    place = figure.axes[-1].get_subplotspec()
    assert place is not None
    assert place.get_gridspec().get_geometry() == grid
    (legend,) = figure.legends  # the same windows everywhere: one legend for all
    assert len(legend.get_texts()) == 2


@pytest.mark.parametrize(
    ("basis", "found"),
    [
        (Hats(4), Hats(4)),
        (Cosine(4), Cosine(4)),
        # What outer.csv alone does not tell: taken for values in use over their epochs.
        (Vector(3, Windows(2)), Vector(3, Windows(2))),
        (Vector(3), Vector(3, Windows(1))),
        (WarmUp(0.1, Windows(4)), Windows(4)),
        (WarmUp(0.1, Hats(4)), Vector(4, Windows(1))),
    ],
)
def test_a_run_without_schedules_is_drawn_by_its_column(
    make_adamw: MakeRun, basis: Basis, found: Basis
) -> None:
    run = make_adamw(bases={"noise": basis})
    record = read_run(run)
    rows = where(record.outer, outer_step=1)
    known = {"noise": basis}
    assert record.bases == known
    assert basis_of(record, "noise", rows) == basis
    (run / "schedule.json").unlink()
    record = read_run(run)
    assert basis_of(record, "noise", rows) == found
    for module in (fig1, fig4):
        draw(module, run)


def test_hypergradient_descent_is_drawn_where_it_moved_a_value(make_adamw: MakeRun) -> None:
    run = make_adamw()
    rows = [f"0,{t},{t / 20},{t / 100},{t / 1000},0.1,0.2" for t in range(1000)]
    names = "learning_rate,beta1,learning_rate_hypergradient,beta1_hypergradient"
    (run / "hd.csv").write_text("\n".join([f"seed,step,epoch,{names}", *rows]) + "\n")
    assert list(read_run(run).hd) == ["seed", "step", "epoch", "learning_rate", "beta1"]
    _, table = draw(fig1, run)
    assert set(table[table["method"] == "hd"]["panel"]) == {"learning_rate", "beta1"}


def test_damaged_bases_are_named(make_adamw: MakeRun) -> None:
    run = make_adamw()
    (run / "schedule.json").write_text('{"schedules": [{"bases": {"beta1": {"kind": "hats"}}}]}')
    with pytest.raises(ValueError, match="schedule.json is damaged"):
        read_run(run)
