"""What is written while a run goes on, with a clock that the test moves."""

import io
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from hypergrad.reporting import progress as module
from hypergrad.reporting.progress import RunProgress, TaskProgress
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
        problem=SimpleNamespace(minibatches=SimpleNamespace(steps_per_epoch=100)),
        values={"learning_rate": 0.2, "momentum": 0.15, "weight_decay": 4e-4},
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
    monkeypatch.setattr(module, "time", clock)
    return clock


def make(total: float, *, terminal: bool = False) -> tuple[RunProgress, io.StringIO]:
    text = io.StringIO()
    console = Console(
        file=text, force_terminal=terminal, width=80, no_color=True, _environ={"TERM": "xterm"}
    )
    return RunProgress(total, 10, 2, "scale=smoke is smaller.", console), text


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


def test_values_of_any_names_are_shown(clock: Clock) -> None:
    display, text = make(1000)
    scores = {name: ROW[name] for name in list(ROW)[:6]}
    own = {"learning_rate": 1e-3, "beta1": 0.9, "weight_decay_matrices": 0.01}
    display.begin(0, "start", 0, 200)
    display.row({"seed": 0, **scores, **own, "class_weights": None, "seconds": 1.5})
    assert text.getvalue().splitlines() == [
        "seed 0 · training at the starting values · 200 steps",
        "  epoch 1.5 · α 0.001 β₁ 0.9 weight decay matrices 0.01"
        " · train 0.123 90.0% · val 0.234 80.0% · test 70.0%",
    ]


def test_plain_speed_once_a_minute(clock: Clock) -> None:
    display, text = make(1000)
    with display:
        display.begin(0, "ours", 0, 200)
        for cost in range(1, 131):
            clock.now += 1
            display.step(INNER, cost)
            display.row(ROW)
    assert text.getvalue().count("1 steps/s") == 2
    assert "1 steps/s · 0:15:39 left" in text.getvalue()  # 939 s after 61 of 1000


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
    assert "takes about 1 day, 3:46:19. scale=smoke is smaller." in text.getvalue()


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
    assert "1% 1 steps/s · 0:16:31 left" in lines[3]  # 991 s after 9 of 1000
    assert len(lines) == 4
    assert max(map(len, lines)) <= 80
    display.begin(0, "ours", 3, 200)
    assert text.getvalue() == (
        "seed 0 · outer step 2 of 0-9 · α 0.2 β 0.15 μ 0.0004 · val 80.0% · test 70.0%\n"
    )


def test_prediction_forgets_the_first_steps(clock: Clock) -> None:
    progress, _ = make(10_000)
    cost = 0.0
    for seconds, gain in ((100, 1.0), (100, 10.0)):
        for _ in range(seconds):
            clock.now += 1
            cost += gain
            progress.step(INNER, cost)
    assert progress._cost.time_remaining == (10_000 - cost) / 10


def tasks(*, terminal: bool = False) -> tuple[TaskProgress, io.StringIO]:
    text = io.StringIO()
    return TaskProgress(Console(file=text, force_terminal=terminal, width=80)), text


def test_tasks_are_counted_with_the_time_left(clock: Clock) -> None:
    progress, text = tasks()
    with progress:
        progress.begin(10, 2)
        for number in range(8):
            clock.now += 5
            progress.done(f"trial {number}")
    lines = text.getvalue().splitlines()
    assert lines[0] == "2 of 10 are done already"
    # Five seconds each, and five left after the fifth of ten.
    assert lines[3] == "5 of 10 · trial 2 · 0:00:25 left"
    assert lines[-1] == "10 of 10 · trial 7"
    assert len(lines) == 9


def test_tasks_without_a_number_are_shown_by_their_share(clock: Clock) -> None:
    progress, text = tasks()
    progress.begin(None, 0, 0.0)
    for share in (0.25, 0.5):
        clock.now += 10
        progress.done("", share=share)
    assert text.getvalue().splitlines()[-1] == "2 · 50% · 0:00:20 left"


def test_plain_lines_about_tasks_come_now_and_then(clock: Clock) -> None:
    progress, text = tasks()
    progress.begin(100, 0)
    for _ in range(99):
        clock.now += 0.5
        progress.done("")
    assert len(text.getvalue().splitlines()) == 19  # one in five: more than two seconds apart
    progress.done("")
    assert text.getvalue().splitlines()[-1] == "100 of 100"


def test_a_terminal_keeps_only_what_is_said(clock: Clock) -> None:
    progress, text = tasks(terminal=True)
    progress.begin(10, 0)
    progress.done("quiet")
    assert text.getvalue() == ""
    progress.say("this stays")
    progress.note("so does this")
    assert "this stays" in text.getvalue()
    assert "! so does this" in text.getvalue()
