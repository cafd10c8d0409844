"""A whole outer step: all contenders find the same hypergradients, and what is written down."""

import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import outer_contenders
from benchmarks.__main__ import main
from benchmarks.contenders import CASES
from benchmarks.memory import peak_of
from benchmarks.outer_contenders import OUTER, contender, gradients_about, outer_problem
from benchmarks.peers import PEERS, absence
from hypergrad.core.training_step import train_step

QUIET = Namespace(columns=3, device="cpu", threads=1, keep_memory=False)


def command(folder: Path, *more: str) -> list[str]:
    """A small table: two rounds, T = 4, N = 2."""
    setting = ["--models", "mlp_8x8", "--horizons", "4", "--columns", "2", "--rounds", "2"]
    return ["outer", *setting, *more, "--no-keep-memory", "--output", str(folder)]


@pytest.mark.filterwarnings("ignore")  # of peers, at their import
@pytest.mark.parametrize("name", [name for name in OUTER if name not in ("plain", "forward")])
def test_all_find_the_hypergradients_of_forward_mode(name: str) -> None:
    if reason := absence(name):
        pytest.skip(reason)
    # ten steps, three windows of unequal length
    problem = outer_problem(CASES["mlp_8x8"], 3, 10, dtype=torch.float64)
    expected = torch.tensor(contender("forward", problem)())
    found = torch.tensor(contender(name, problem)())
    assert expected.abs().min() > 1e-3
    tolerance = 1e-6 if name == "finite_differences" else 1e-11
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0.0)


def test_the_unit_is_a_plain_training_from_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = outer_problem(CASES["mlp_8x8"], 2, 6, dtype=torch.float64)
    before = problem.model.theta().clone()
    stepped: list[int] = []
    own = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self: stepped.append(1) or own(self))
    assert contender("plain", problem)() == ()
    assert len(stepped) == 6
    assert torch.equal(problem.model.theta(), before)


def test_differences_take_two_trainings_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def counted(*given: object) -> object:
        taken.append(1)
        return train_step(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(outer_contenders, "train_step", counted)
    contender("finite_differences", outer_problem(CASES["mlp_8x8"], 3, 5))()
    assert len(taken) == 2 * 3 * 5 == gradients_about("finite_differences", 3, 5)


def test_checkpoints_keep_few_states(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, int] = {}
    real = outer_contenders.reverse.checkpoint_plan

    def noted(horizon: int, size: int, memory_gb: float) -> object:
        plan = real(horizon, size, memory_gb)
        kept[name] = plan.states
        return plan

    monkeypatch.setattr(outer_contenders.reverse, "checkpoint_plan", noted)
    for name in ("reverse", "checkpointed"):
        contender(name, outer_problem(CASES["mlp_8x8"], 2, 49))()
    assert kept == {"reverse": 49, "checkpointed": 14}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_graphs_are_kept_by_one_contender_alone() -> None:
    graphs, reverse = (peak_of(mode, "mlp_8x8", 400, QUIET) for mode in ("graphs", "reverse"))
    extra = [sizes["peak"] - sizes["before"] for sizes in (graphs, reverse)]
    assert extra[0] - extra[1] > 400 * reverse["state"]  # a graph has weights and activations


def test_a_peer_that_is_not_installed_is_left_out_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "higher", None)
    main(command(tmp_path, "--contenders", "reverse", "higher"))
    said = " ".join(capsys.readouterr().out.split())
    assert "higher left out of mlp_8x8, T = 4, N = 2: higher is not installed" in said
    assert "pip install -e '.[peers]'" in said
    assert set(pd.read_csv(tmp_path / "measured.csv").contender) == {"plain", "reverse"}
    with pytest.raises(ValueError, match="higher is not installed"):
        contender("higher", outer_problem(CASES["mlp_8x8"], 2, 4))


def test_what_would_take_too_long_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # T = 4 and N = 2: 4 steps of each of 2 N trainings
    for most, expected in (("16", {"plain", "finite_differences"}), ("15", {"plain"})):
        main(command(tmp_path, "--contenders", "finite_differences", "--most", most))
        assert set(pd.read_csv(tmp_path / "measured.csv").contender) == expected
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("it needs about 16 gradients, --most is 15") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_times_in_gradients_and_peaks_come_into_one_figure(tmp_path: Path) -> None:
    ours = ("--contenders", "reverse", "checkpointed")
    main(command(tmp_path / "times", *ours))
    rows = pd.read_csv(tmp_path / "times/measured.csv")
    unit = rows[rows.contender == "plain"].set_index("round").seconds
    expected = rows.seconds / rows["round"].map(unit)
    assert rows.gradients.tolist() == pytest.approx(expected.tolist())
    assert (tmp_path / "times/outer.png").stat().st_size > 10_000
    asked = ["--models", "mlp_8x8", "--modes", "plain", "reverse", "--horizons", "5", "10"]
    main(
        ["memory", *asked, "--columns", "2", "--rounds", "1", "--output", str(tmp_path / "memory")]
    )
    times, peaks = tmp_path / "times/measured.csv", tmp_path / "memory/measured.csv"
    drawn = ["outer", "--draw", str(times), "--memory", str(peaks)]
    main([*drawn, "--output", str(tmp_path / "both")])
    both, alone = ((tmp_path / at / "outer.png").stat().st_size for at in ("both", "times"))
    assert both != alone
    assert not (tmp_path / "both/measured.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_plain_training_needs_no_memory_for_states() -> None:
    plain, reverse = (peak_of(mode, "mlp_8x8", 600, QUIET) for mode in ("plain", "reverse"))
    states = 600 * reverse["state"]
    extra = [sizes["peak"] - sizes["before"] for sizes in (plain, reverse)]
    assert extra[1] - extra[0] > 0.8 * states


def test_who_is_no_peer_is_never_absent() -> None:
    assert all(absence(name) is None for name in OUTER if name not in PEERS)
