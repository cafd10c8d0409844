"""The benchmarks measure what they say, and write it down."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.contenders import SETTINGS, contenders
from benchmarks.timing import alternate, summarise
from hypergrad.curvature import STRATEGIES


def test_every_contender_takes_the_step_of_the_reference() -> None:
    found = contenders(SETTINGS["mlp"]._replace(batch_size=8), 4, dtype=torch.float64)
    assert set(found) == {"gradient", "reference", "reverse", *STRATEGIES}
    theta, v, Z, C = found["reference"]()
    for strategy in STRATEGIES:
        state, tangents, *_ = found[strategy]()
        for ours, expected in ((state.theta, theta), (state.v, v), (tangents.Z, Z)):
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(tangents.C, C, rtol=1e-10, atol=1e-14)


def test_what_does_not_fit_is_left_out() -> None:
    found = contenders(SETTINGS["wrn_16_1"]._replace(batch_size=1), 32)
    assert "stacked" not in found
    assert "vmap" not in found


def test_contenders_take_turns_after_a_first_call_each() -> None:
    calls: list[str] = []
    seconds = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ababab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_gains_are_those_of_the_same_round() -> None:
    # the second round is ten times as slow for both: the gain is 2 in every round
    timed = summarise([1.0, 10.0, 1.0], [2.0, 20.0, 2.0])
    assert timed.gain == 2.0
    assert timed.seconds == 1.0


def test_times_are_written_one_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["--models", "mlp", "--columns", "3", "--rounds", "2", "--clock", "cpu"]
        + ["--no-keep-memory", "--output", str(tmp_path)]
    )
    rows = pd.read_csv(tmp_path / "seconds.csv")
    assert set(rows.contender) == {"gradient", "reference", "reverse", *STRATEGIES}
    assert len(rows) == 2 * rows.contender.nunique()
    assert (rows.seconds > 0).all()
    assert "mlp, N = 3" in capsys.readouterr().out
