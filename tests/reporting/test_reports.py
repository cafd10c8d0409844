"""What a finished run prints, from runs whose numbers are known."""

import json
from pathlib import Path

import pytest
from searches import trial, write_search

from hypergrad.reporting.run_report import draw_figures, print_diagnostics
from hypergrad.reporting.search_report import print_search
from hypergrad.runs.directory import RunDirectory

Capture = pytest.CaptureFixture[str]


def test_the_best_settings_come_first(tmp_path: Path, capsys: Capture) -> None:
    rows = [trial(0, seed, 0.8 + seed / 100, learning_rate=0.1) for seed in range(2)]
    rows += [trial(1, seed, 0.9, learning_rate=0.2, validation_loss="nan") for seed in range(2)]
    rows += [
        trial(2, 0, 0.7, learning_rate=0.4, test_accuracy=""),
        trial(2, 1, 0.1, learning_rate=0.4, validation_loss=2.0),
    ]
    run = write_search(tmp_path / "run", rows)
    summary = json.loads((run / "summary.json").read_text())
    summary["results"] = [{"test_accuracy": 0.85, "diverged": False}] * 2
    summary |= {"spent": [{"seconds": 1200.0}, {"seconds": 34.0}], "best": {"text": "α 0.1"}}
    (run / "summary.json").write_text(json.dumps(summary))
    print_search(run)
    out = capsys.readouterr().out
    lines = [" ".join(line.replace("│", " ").split()) for line in out.splitlines() if "α 0" in line]
    assert lines == [
        "α 0.1 η 0.2 β 0.9 μ 0.0005 80.50 ± 0.71 % 80.50 ± 0.71 % -",
        # A seed that came to nothing counts as none; a loss that is no number loses.
        "α 0.4 η 0.2 β 0.9 μ 0.0005 40.00 ± 42.43 % 10.00 % 1 of 2",
        "α 0.2 η 0.2 β 0.9 μ 0.0005 90.00 ± 0.00 % 90.00 ± 0.00 % -",
        "hand-tuned (best) with α 0.1: 85.00 ± 0.00 % (test accuracy, 2 seeds)",
    ]
    assert "6 trials, 1 diverged; 1,234 s of computing" in out


def test_diagnostics_have_a_line_for_every_name_found(tmp_path: Path, capsys: Capture) -> None:
    header = "kind,hypergradient,signal_to_noise,clipped_gradients,clipped_products"
    rows = ["learning_rate,0.1,2.0,0.25,", "beta1,nan,,,", "weight_decay_matrices,0.2,0.5,0,0.125"]
    (tmp_path / "outer.csv").write_text("\n".join([header, *rows]) + "\n")
    print_diagnostics(tmp_path)
    lines = [" ".join(x.replace("│", " ").split()) for x in capsys.readouterr().out.splitlines()]
    assert "learning rate 2.00 - 25.00% - 0 of 1" in lines
    assert "beta1 - - - - 1 of 1" in lines
    assert "weight decay matrices 0.50 - 0.00% 12.50% 0 of 1" in lines  # within 80 columns


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([], "no figure is drawn: `figures` names none\n"),
        (["fig1"], "no figure is drawn: it has no data of fig1\n"),
    ],
)
def test_a_run_that_draws_no_figure_says_so(
    tmp_path: Path, capsys: Capture, figures: list[str], said: str
) -> None:
    draw_figures(RunDirectory(tmp_path), figures)
    assert capsys.readouterr().out == said


def test_a_run_of_any_name_draws_what_it_names(tmp_path: Path, capsys: Capture) -> None:
    run = write_search(tmp_path / "run", [trial(0, seed, 0.8) for seed in range(3)])
    summary = json.loads((run / "summary.json").read_text())
    named = {**summary, "experiment": "mine", "figures": ["fig5"]}
    (run / "summary.json").write_text(json.dumps(named))
    draw_figures(RunDirectory(run), ["fig5"])
    assert capsys.readouterr().out == f"fig5: {run}/figures/fig5.png\n"
    assert (run / "figures" / "fig5.csv").is_file()
