"""`hypergrad plan`: what each mode takes, within 80 columns, and only what can be had."""

from pathlib import Path

import pytest
from commands import Answer, Call
from tiny import DROPOUT

from hypergrad.cli.plan_command import advice_on
from hypergrad.config.composition import compose
from hypergrad.config.overrides import choices
from hypergrad.differentiation.mode import StepSeconds
from hypergrad.drivers import probe

FREE = "method.clip_products=null"


def learning() -> list[str]:
    """The shipped experiments that learn a schedule by themselves."""
    found = []
    for name in choices("experiment"):
        config, _ = compose(name)
        if config.driver == "learn" and not config.is_multirun:
            found.append(name)
    return found


def rows(answer: Answer) -> dict[str, str]:
    """The table's rows by their modes, in words; of each its first line."""
    lines = [line for line in answer.out.splitlines() if line.startswith("│ ")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {each[0]: " ".join(each[1:]) for each in cells if each[0]}


def test_a_plan_tells_what_each_mode_takes(call: Call, tmp_path: Path) -> None:
    common = "from_zero", "scale=smoke", "threads=1", f"outputs={tmp_path}"
    answer = call("plan", *common, FREE)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[:2] == [
        "from_zero: mlp with 8,970 parameters on digits",
        "1 seeds, 3 outer steps, 22 inner steps each",
    ]
    assert lines[2].startswith("G, a training step, takes ")
    assert lines[2].endswith(" ms (threads=1)")
    found = rows(answer)
    assert list(found) == ["forward *", "reverse", "reverse, few states"]
    assert all(" G " in row and " MB " in row for row in found.values())
    assert found["reverse"].endswith("all 22 states, 22 graphs")
    assert " 7 states, 0.68 steps" in found["reverse, few states"]
    assert "* as configured" in answer.out
    assert "level at" in answer.out
    assert "7 values: so few, a black-box search" in answer.out
    answer = call("plan", *common)
    assert "c_HZ (method.clip_products) has no" in answer.out
    assert "level at" not in answer.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("experiment", learning())
def test_every_line_fits_a_terminal(
    call: Call, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for typed in ((), (FREE,)):
        size = "data.image_size=" + ("28" if "mnist" in experiment else "null")
        answer = call("plan", experiment, "data=digits", size, "threads=1", *typed)
        assert answer.code == 0, answer.err
        assert max(map(len, answer.out.splitlines())) <= 80
        assert f"{experiment}: " in answer.out


def test_every_line_fits_a_terminal_however_long_it_takes(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = StepSeconds(123.4, 45678.9, 34567.8, 234.5)
    monkeypatch.setattr(probe, "step_seconds", lambda *_, **__: slow)
    answer = call("plan", "from_zero", FREE, "threads=1", "epochs=20000", "reverse.memory_gb=30")
    assert answer.code == 0, answer.err
    assert max(map(len, answer.out.splitlines())) <= 80
    assert all(" G " in row and " MB " in row for row in rows(answer).values())


def test_real_images_fit_too(call: Call, shared_data: Path) -> None:
    answer = call("plan", "fig1_mnist", f"data.root={shared_data}", "threads=1", FREE)
    assert answer.code == 0, answer.err
    assert max(map(len, answer.out.splitlines())) <= 80
    assert list(rows(answer)) == ["forward *", "reverse", "reverse, few states"]


def test_a_network_that_draws_random_numbers_has_no_reverse_mode(
    call: Call, tmp_path: Path
) -> None:
    (tmp_path / "planned.py").write_text(DROPOUT)  # where `call` stands
    custom = "model=custom", "model.name=planned:Net", "hvp.strategy=loop", "threads=1"
    answer = call("plan", "from_zero", "scale=smoke", FREE, *custom)
    assert answer.code == 0, answer.err
    found = rows(answer)
    assert list(found) == ["forward *", "reverse"]
    assert found["reverse"].startswith("- - - ")
    assert "(Dropout) draws random" in answer.out
    assert "level at" not in answer.out


def test_a_plan_is_of_one_run_that_learns(call: Call) -> None:
    answer = call("plan", "baselines/digits")
    assert answer.code == 2
    assert "run it with --dry-run" in answer.err


@pytest.mark.parametrize(
    ("values", "descent", "said"),
    [
        (7, "signs", "did as well at equal cost"),
        (8, "averaged", "did as well at equal cost"),
        (9, "signs", ""),
        (63, "signs", ""),
        (64, "signs", "outer.descent=averaged"),
        (64, "averaged", ""),
    ],
)
def test_a_plan_says_what_the_records_say_of_so_many_values(
    values: int, descent: str, said: str
) -> None:
    advice = advice_on(values, descent)
    assert said in advice
    assert bool(advice) == bool(said)
