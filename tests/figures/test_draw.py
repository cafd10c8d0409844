import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from hypergrad.figures import draw, figures_of

MakeRun = Callable[..., Path]
SMALL = {"epochs": 2, "rows_per_epoch": 2, "steps_per_epoch": 20, "model": "lenet"}


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, hypergrad.figures\n"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("summary", "names"),
    [
        ({"experiment": "mine", "figures": ["fig1", "fig4"]}, ("fig1", "fig4")),
        ({"experiment": "fig1", "figures": []}, ()),
        # Made before the key: known by the name of the experiment.
        ({"experiment": "fig1"}, ("fig1", "fig4")),
        ({"experiment": "quickstart"}, ("fig1", "fig4")),
        ({"experiment": "fig2"}, ("fig2", "fig2_mse")),
        ({"experiment": "mine", "figures": ["fig2", "fig2_mse"]}, ("fig2", "fig2_mse")),
        ({"experiment": "fig3"}, ("fig3",)),
        ({"experiment": "baselines_svhn"}, ("fig5",)),
        ({"experiment": "table1"}, ("table1",)),
        ({"experiment": "mine"}, ()),
        ({}, ()),
    ],
)
def test_a_run_says_which_figures_it_is_drawn_as(
    summary: dict[str, object], names: tuple[str, ...]
) -> None:
    assert figures_of(summary) == names


@pytest.mark.parametrize("name", ["fig1", "fig4"])
def test_the_same_data_gives_the_same_bytes(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    run = make_run(**SMALL)
    first = draw(name, run)
    again = draw(name, run, tmp_path / "elsewhere")
    assert [path.name for path in first] == [f"{name}.png", f"{name}.pdf", f"{name}.csv"]
    assert {path.parent for path in first} == {run / "figures"}
    assert {path.parent for path in again} == {tmp_path / "elsewhere"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert b"CreationDate" not in first[1].read_bytes()
    assert first[0].read_bytes().startswith(b"\x89PNG")
    drawn, logged = pd.read_csv(first[2]), pd.read_csv(run / "outer.csv")
    panel, column = {"fig1": ("panel", "value"), "fig4": ("kind", "hypergradient")}[name]
    ours = drawn[(drawn[panel] == "momentum") & (drawn["outer_step"] == 5)]
    expected = logged[(logged["kind"] == "momentum") & (logged["outer_step"] == 5)][column]
    assert set(ours[column]) == set(expected)


def test_an_unknown_figure_names_the_known_ones(make_run: MakeRun) -> None:
    with pytest.raises(
        ValueError,
        match="unknown figure 'fig9': choose from fig1, fig2, fig2_mse, fig3, fig4, fig5",
    ):
        draw("fig9", make_run(**SMALL))


def test_a_run_of_another_experiment_is_refused(make_run: MakeRun) -> None:
    run = make_run(experiment="fig2", **SMALL)
    with pytest.raises(
        ValueError, match="fig1 cannot be drawn from .*: it is drawn as fig2, fig2_mse;"
    ):
        draw("fig1", run)


@pytest.mark.parametrize("name", ["fig1", "fig4"])
def test_a_run_without_an_outer_step_is_refused_and_leaves_nothing(
    make_run: MakeRun, name: str
) -> None:
    run = make_run(**SMALL, logged_outer_steps=0, status="running", fraction=0.0)
    with pytest.raises(ValueError, match=r"outer.csv yet: wait for the first.*--run PATH"):
        draw(name, run)
    assert not (run / "figures").exists()
