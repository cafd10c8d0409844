"""The benchmarks measure what they say, and write it down."""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import plain
from benchmarks.__main__ import main
from benchmarks.contenders import CASES, contenders, schedule_of
from benchmarks.memory import peak_of
from benchmarks.overheads import shares, start_up
from benchmarks.stand_in import stand_in
from benchmarks.step_figure import two_gradients
from benchmarks.stopwatch import Stopwatch
from benchmarks.timing import alternate, summarise
from benchmarks.trainings import TRAININGS, trainings
from hypergrad.core import training_step as training
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.curvature import STRATEGIES
from hypergrad.data import Augmentation, Minibatches
from hypergrad.models import build
from hypergrad.training.inner_problem import InnerProblem
from hypergrad.training.inner_run import ScheduledRun

BESIDE = {"gradient", "reference", "reverse", "finite_differences"}
QUIET = Namespace(columns=3, device="cpu", threads=1, keep_memory=False)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_every_contender_takes_the_step_of_the_reference(columns: int) -> None:
    found = contenders(CASES["mlp"]._replace(batch_size=8), columns, dtype=torch.float64)
    assert set(found) == {*BESIDE, *STRATEGIES}
    theta, v, Z, C = found["reference"]()
    for strategy in STRATEGIES:
        state, tangents, *_ = found[strategy]()
        for ours, expected in ((state.theta, theta), (state.slots[0], v), (tangents.Z, Z)):
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(tangents.S[0], C, rtol=1e-10, atol=1e-14)
    # Differences of 1e-6 in float64 leave about ten digits, of weights of the size of one.
    for ours, expected in zip(found["finite_differences"](), (Z, C), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("columns", [1, 2, 7])
def test_finite_differences_cost_two_training_steps_a_value(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[float] = []

    def counted(model: FlatModel, *rest: object) -> object:
        calls.append(1.0)
        return training.train_step(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("benchmarks.differences.train_step", counted)
    contenders(CASES["mlp"]._replace(batch_size=2), columns)["finite_differences"]()
    assert len(calls) == 2 * columns


@pytest.mark.parametrize(
    ("columns", "counts"), [(1, (1, 0, 0)), (2, (1, 1, 0)), (3, (1, 1, 1)), (7, (5, 1, 1))]
)
def test_values_are_of_all_kinds_where_there_are_enough(
    columns: int, counts: tuple[int, int, int]
) -> None:
    assert tuple(schedule_of(columns).counts.values()) == counts
    assert list(schedule_of(columns)) == ["learning_rate", "momentum", "weight_decay"]


def test_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="0 columns: give at least 1"):
        schedule_of(0)


def test_the_bound_is_two_gradients_a_column_and_one() -> None:
    assert two_gradients(7, 2.0) == 30.0


def test_what_does_not_fit_is_left_out() -> None:
    found = contenders(CASES["wrn_16_1"]._replace(batch_size=1), 32)
    assert "stacked" not in found
    assert "vmap" not in found


def test_the_wider_network_is_the_wider_one() -> None:
    case = CASES["wrn_16_4"]
    module = build(case.name, case.shape, 10, options=dict(case.options))
    assert sum(parameter.numel() for parameter in module.parameters()) == 2_748_890


def test_contenders_take_turns_after_a_first_call_each() -> None:
    calls: list[str] = []
    seconds = alternate({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=2)
    assert "".join(calls) == "ab" + 2 * "aabb"  # short calls have another before them
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_no_further_round_begins_beyond_the_limit_once_there_are_two() -> None:
    assert len(alternate({"a": lambda: None}, rounds=9, limit=-1.0)["a"]) == 2


def test_gains_are_those_of_the_same_round() -> None:
    # the second round is ten times as slow for both: the gain is 2 in every round
    timed = summarise([1.0, 10.0, 1.0], [2.0, 20.0, 2.0])
    assert timed.gain == 2.0
    assert timed.seconds == 1.0


def test_times_are_written_one_row_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["step", "--models", "mlp", "--columns", "1", "2", "--rounds", "2", "--clock", "cpu"]
        + ["--no-keep-memory", "--output", str(tmp_path)]
    )
    rows = pd.read_csv(tmp_path / "measured.csv")
    assert set(rows.contender) == {*BESIDE, *STRATEGIES}
    assert len(rows) == 2 * 2 * rows.contender.nunique()
    assert (rows.seconds > 0).all()
    assert "mlp, N = 2" in capsys.readouterr().out
    assert (tmp_path / "step.png").stat().st_size > 10_000
    measured = str(tmp_path / "measured.csv")
    main(["step", "--draw", measured, measured, "--output", str(tmp_path / "again")])
    assert (tmp_path / "again" / "step.png").stat().st_size > 10_000
    about = json.loads((tmp_path / "provenance.json").read_text())
    assert about["command"][0] == "python -m benchmarks"


def test_a_record_is_replaced_not_added_to(tmp_path: Path) -> None:
    command = ["step", "--models", "mlp", "--columns", "1", "--rounds", "2", "--no-keep-memory"]
    for _ in range(2):
        main([*command, "--output", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "measured.csv")
    assert len(rows) == 2 * rows.contender.nunique()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_a_process_of_its_own_reports_its_memory() -> None:
    steps = 300
    forward, reverse = (peak_of(mode, "mlp_8x8", steps, QUIET) for mode in ("forward", "reverse"))
    assert forward["state"] == 2 * 4 * 8_970  # weights and velocity, float32
    # Python with PyTorch in it: some hundred MiB, and what the run adds to it.
    assert 2**26 < forward["before"] < forward["peak"] < 2**32
    states = steps * reverse["state"]
    assert reverse["peak"] - reverse["before"] > 0.8 * states


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="invalid choice: 'sideways'"):
        peak_of("sideways", "mlp_8x8", 10, QUIET)


@pytest.mark.parametrize("augment", [False, True])
def test_the_loop_by_hand_ends_where_the_library_does(augment: bool) -> None:
    data = stand_in("mnist", 40, 8).to(dtype=torch.float64)
    model = FlatModel(build("lenet", data.shape, 10).double())
    key = (0, "retrain", 0)
    recipe = plain.Recipe(2, 16, key, augment, 0.1, 0.9, 5e-4, clip=0.01)
    net = plain.train(model.module, data.train, recipe)
    minibatches = Minibatches(data.train, 16, key, Augmentation() if augment else None)
    optimizer = InnerOptimizer(transform=ElementwiseClip(0.01))
    problem = InnerProblem.over_epochs(model, model.theta(), minibatches, 2, optimizer)
    run = ScheduledRun(problem, sgd_schedule((0.1,), (0.9,), (5e-4,)))
    while not run.done:
        run.advance()
    theta = FlatModel(net).theta()
    assert not torch.allclose(theta, model.theta(), atol=1e-3)
    torch.testing.assert_close(theta, run.state.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(TRAININGS))
def test_all_ways_to_train_come_to_the_same(name: str) -> None:
    tiny = TRAININGS[name]._replace(batches=3, batch_size=10, tests=50)
    found = {way: train() for way, train in trainings(tiny, precision="float64").items()}
    assert set(found) == {"plain", "trial", "retrain", "ensemble"}
    assert len(set(found.values())) == 1


def test_stopwatch_gives_inner_calls_their_own_time() -> None:
    now = iter([0.0, 1.0, 4.0, 10.0])  # outer begins, inner begins and ends, outer ends

    class Machine:
        def outer(self) -> str:
            return self.inner() + "!"

        def inner(self) -> str:
            return "done"

    watch, untouched = Stopwatch(lambda: next(now)), Machine.inner
    with watch.watching({"whole": [(Machine, "outer")], "part": [(Machine, "inner")]}):
        assert Machine().outer() == "done!"
    assert watch.seconds == {"part": 3.0, "whole": 7.0}
    assert Machine.inner is untouched


def test_the_time_of_a_run_is_divided_among_all_it_does() -> None:
    run = "fig1 data=digits model=mlp scale=smoke outer.steps=1"
    seconds = shares(run, "cpu")
    assert set(seconds) == {"training", "minibatches", "evaluation", "logging", "checkpoints"}
    assert all(took > 0 for took in seconds.values())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_start_costs_seconds_of_a_processor() -> None:
    assert 0.2 < start_up("cpu") < 60.0  # PyTorch is imported, and nothing is trained yet


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("step --rounds 1", "1: must be at least 2"),
        ("step --columns 0", "0: must be at least 1"),
        ("memory --horizons 0", "0: must be at least 1"),
        ("loop --threads 0", "0: must be at least 1"),
        ("step --device nowhere", "nowhere cannot be used"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(
    arguments: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments.split(), "--output", str(tmp_path / "out")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
