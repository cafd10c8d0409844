"""A schedule elsewhere: longer, on fresh seeds, with another network; beside what it began with."""

import json
from pathlib import Path

import pytest
from commands import Call, only_run

from hypergrad import Schedule
from hypergrad.config.checks import ConfigError
from hypergrad.drivers.confirm import Confirmation, stretched

OVERRIDES = ("scale=smoke", "threads=1", "repeats=1")


@pytest.mark.parametrize("wrong", ["soon", "0x", "x", "-3", "nan", "0.2"])
def test_a_horizon_that_is_none(wrong: str) -> None:
    with pytest.raises(ConfigError, match="write 5x"):
        stretched(2, wrong)


def test_what_it_says() -> None:
    seen = Confirmation(940, 10, "lenet", (0.96, 0.94), (0.95, 0.90), 0)
    assert str(seen) == (
        "2 fresh trainings of lenet over 940 steps (10 epochs): test accuracy 95.00 %, worst "
        "94.00 %, +2.50 ± 19.06 points to the schedule it began with"
    )
    alone = seen._replace(rival=())
    assert alone.difference is None
    assert str(alone).endswith("worst 94.00 %")


def test_an_improved_schedule_over_twice_its_horizon(call: Call, tmp_path: Path) -> None:
    done = call("run", "quickstart", *OVERRIDES, f"outputs={tmp_path}")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    file = tmp_path / "schedule.json"
    given = "--horizon", "2x", "--trainings", "3", "-o", str(file)
    answer = call("confirm", str(run), *given)
    assert answer.code == 0, answer.err
    steps = json.loads((run / "schedule.json").read_text())["schedules"][0]["steps"]
    assert f"3 fresh trainings of mlp over {2 * steps} steps" in answer.out
    assert "points to the schedule it began with" in answer.out
    assert len(answer.err.splitlines()) == 6
    schedule = Schedule.load(file)
    assert schedule.origin is not None
    assert schedule.origin.confirmed is not None
    assert schedule.origin.confirmed.endswith(answer.out.splitlines()[0])
    again = call("confirm", str(run), *given)
    assert again.out == answer.out  # fresh seeds are the same ones


def test_a_learned_schedule_on_another_network(call: Call, tmp_path: Path) -> None:
    done = call("run", "from_zero", *OVERRIDES, "hd.enabled=false", f"outputs={tmp_path}")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    answer = call("confirm", str(run), "model.options.hidden=20", "--trainings", "2")
    assert answer.code == 0, answer.err
    assert "2 fresh trainings of mlp" in answer.out
    other = call("confirm", str(run), "optimizer=adamw")
    assert other.code == 2
    assert "learned for another one" in other.err
