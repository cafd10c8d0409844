"""What is written while a run goes on, with a clock that the test moves."""

import io
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from hypergrad.reporting import pace
from hypergrad.reporting import run_progress as module
from hypergrad.reporting.pace import Pace
from hypergrad.reporting.run_progress import Display
from hypergrad.training.inner_run import InnerRun

ROW = {
    "epoch": 1.5,
    "train_loss": 0.1234,
    "train_accuracy": 0.9,
    "validation_loss": 0.2345,
    "validation_accuracy": 0.8,
    "test_accuracy": 0.7,
    "learning_rate": 0.2,
    "momentum": 0.15,
    "weight_decay": 4e-4,
}
INNER = cast(
    InnerRun,
    SimpleNamespace(
        epoch=1.5,
        horizon=200,
        minibatches=SimpleNamespace(steps_per_epoch=100),
        values=SimpleNamespace(alpha=0.2, beta=0.15, mu=4e-4),
    ),
)


class Clock:
    """A clock in the place of the `time` module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(total: float, *, terminal: bool = False) -> tuple[Display, io.StringIO]:
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=terminal, width=80, no_color=True, _environ={"TERM": "xterm"}
    )
    return Display(total, 10, 2, "scale=smoke is smaller.", console), text


def test_plain_lines_have_all_numbers(clock: Clock) -> None:
    display, text = make(1000)
    with display:
        display.begin(0, "ours", 2, 200)
        display.row(ROW)
        display.row({**ROW, "validation_loss": None, "validation_accuracy": None})
    lines = text.getvalue().splitlines()
    assert lines == [
        "seed 0 · outer step 2 of 0-9 · 200 steps",
        "  epoch 1.5 · α 0.2 β 0.15 μ 0.0004 · train 0.123 90.0% · val 0.234 80.0% · test 70.0%",
        "  epoch 1.5 · α 0.2 β 0.15 μ 0.0004 · train 0.123 90.0% · test 70.0%",
    ]
    assert "\x1b" not in text.getvalue()


def test_plain_speed_once_a_minute(clock: Clock) -> None:
    display, text = make(1000)
    with display:
        display.begin(0, "ours", 0, 200)
        for cost in range(1, 131):
            clock.now += 1
            display.step(INNER, cost)
            display.row(ROW)
    assert text.getvalue().count("1 steps/s") == 2
    assert "1 steps/s · 16 min left" in text.getvalue()  # 939 s after 61 of 1000


def test_non_finite_numbers_are_shown_as_such(clock: Clock) -> None:
    display, text = make(1000)
    display.begin(0, "hd", 0, 200)
    display.row({**ROW, "train_loss": float("nan"), "validation_loss": float("inf")})
    assert "train nan 90.0% · val inf" in text.getvalue()


def test_long_run_is_told_once_with_the_smaller_scale(clock: Clock) -> None:
    display, text = make(100_000)
    for cost in range(1, 60):
        clock.now += 1
        display.step(INNER, cost)
    assert text.getvalue().count("!") == 1
    assert "takes about 27 h 46 min. scale=smoke is smaller." in text.getvalue()


def test_short_run_is_not_warned_about(clock: Clock) -> None:
    display, text = make(1000)
    for cost in range(1, 60):
        clock.now += 1
        display.step(INNER, cost)
    assert text.getvalue() == ""


def test_live_lines_fit_and_an_ended_part_leaves_one(clock: Clock) -> None:
    display, text = make(1000, terminal=True)
    display.begin(0, "ours", 2, 200)
    for cost in range(1, 10):
        clock.now += 1
        display.step(INNER, cost)
    display.row(ROW)
    assert text.getvalue() == ""
    shown = Console(file=io.StringIO(), width=80, record=True)
    shown.print(display._panel())
    lines = shown.export_text().splitlines()
    assert lines[:3] == [
        "  seed 0 · outer step 2 of 0-9 · epoch 1.5/2",
        "  α 0.2 β 0.15 μ 0.0004",
        "  train 0.123 90.0% · val 0.234 80.0% · test 70.0%",
    ]
    assert "1 % 1 steps/s · 17 min left" in lines[3]
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    display.begin(0, "ours", 3, 200)
    assert text.getvalue() == (
        "seed 0 · outer step 2 of 0-9 · α 0.2 β 0.15 μ 0.0004 · val 80.0% · test 70.0%\n"
    )


def test_prediction_forgets_the_first_steps(clock: Clock) -> None:
    pace = Pace(10_000)
    cost = 0.0
    for seconds, gain in ((100, 1.0), (100, 10.0)):
        for _ in range(seconds):
            clock.now += 1
            cost += gain
            pace.count()
            pace.update(cost)
    assert pace.left == pytest.approx((10_000 - cost) / 10)
