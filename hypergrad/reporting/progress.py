"""What a user sees while work goes on: live lines on a terminal, plain ones elsewhere."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from hypergrad.training.inner_run import InnerRun

__all__ = ["RunProgress", "TaskProgress"]

Value = int | float | str | None
Row = Mapping[str, Value]

LOOK_BACK = 60.0  # seconds that a speed is of: the first steps of a run are unlike the others
LONG_RUN = 3 * 3600.0  # seconds; beyond that a user wants to know before lunch
WARM_UP = 20.0  # seconds of stepping before a prediction is worth a warning
REFRESH = 0.2  # seconds between two looks at the clock
SPEED_EVERY = 60.0  # seconds between two plain lines about speed
TASKS_EVERY = 2.0  # seconds between two plain lines about tasks

NAMES = {
    "ours": "outer step",
    "confirm": "confirmation",
    "hd": "hypergradient descent",
    "ours_retrained": "training with the learned schedule",
    "hd_retrained": "training with HD's schedule",
    "sgd": "training with plain SGD",
    "start": "training at the starting values",
}
SYMBOLS = {
    "learning_rate": "α",
    "momentum": "β",
    "weight_decay": "μ",
    "beta1": "β₁",
    "beta2": "β₂",
    "epsilon": "ε",
}


class Lines:
    """Lines on stderr that stay, and a live display under them where there is a terminal.

    Args:
        console: Where to write.
        columns: Of the live bar.
        look_back: Seconds that speeds are of.
    """

    def __init__(
        self, console: Console, columns: Sequence[ProgressColumn], look_back: float
    ) -> None:
        self._console = console
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(
            *columns,
            console=console,
            auto_refresh=False,
            speed_estimate_period=look_back,
            get_time=lambda: time.monotonic(),
        )

    def __enter__(self) -> Self:
        self._live = Live(
            console=self._console,
            get_renderable=self._panel,
            refresh_per_second=4,
            transient=True,
        )
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _panel(self) -> Group:
        return Group(self._bar.get_renderable())

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._print(text)

    def note(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"! {text}", style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _add_bar(self, total: float | None, *, visible: bool = True) -> Task:
        name = self._bar.add_task("", total=total, visible=visible)
        return next(task for task in self._bar.tasks if task.id == name)


class RunProgress(Lines):
    """Progress of a learning run.

    On a terminal: a few live lines, and one line for every inner run that ended. Elsewhere: a line
    for every inner run and every row of it. Live lines fit into 80 columns.

    Args:
        total: Gradient evaluations planned for the whole run; None where a budget ends it.
        outer_steps: Outer steps of a search.
        epochs: Horizon of the later inner runs.
        hint: What to say when the run looks long, such as the name of a smaller scale.
        console: Where to write.
    """

    def __init__(
        self, total: float | None, outer_steps: int, epochs: int, hint: str, console: Console
    ) -> None:
        columns = (BarColumn(24), TaskProgressColumn(), TextColumn("{task.description}"))
        super().__init__(console, columns, LOOK_BACK)
        self._total, self._outer_steps, self._hint = total, outer_steps, hint
        self._cost = self._add_bar(total, visible=total is not None)
        self._steps = self._add_bar(None, visible=False)
        self._title, self._position, self._values = "starting", "", ""
        self._row: Row | None = None
        self._counted, self._began = 0, 0.0
        self._refreshed, self._speed_shown = 0.0, time.monotonic()
        self._warned = False

    def __exit__(self, *_: object) -> None:
        self._close_inner_run()
        super().__exit__()

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None:
        """Note that an inner run begins."""
        self._close_inner_run()
        # Counted from 0, as in the files and the figures.
        last = "" if self._total is None else f" of 0-{self._outer_steps - 1}"
        which = f" {outer_step}{last}" if method == "ours" else ""
        self._title, self._position, self._values = f"seed {seed} · {NAMES[method]}{which}", "", ""
        if not self._is_live:
            self._print(f"{self._title} · {steps:,} steps")

    def step(self, inner: "InnerRun", cost: float) -> None:
        """Note a step; `cost` gradient evaluations of the run are done."""
        self._counted += 1
        now = time.monotonic()
        if now - self._refreshed < REFRESH:
            return
        self._refreshed, self._began = now, self._began or now
        self._bar.update(self._steps.id, completed=self._counted)
        self._bar.update(self._cost.id, completed=cost)
        self._bar.update(self._cost.id, description=self._speed())
        self._warn_if_long(now - self._began)
        horizon = inner.horizon // inner.problem.minibatches.steps_per_epoch
        self._position = f"epoch {inner.epoch:.1f}/{horizon}"
        self._values = _values(inner.values)

    def row(self, row: Row) -> None:
        """Show the numbers of a new row of `inner.csv`."""
        self._row = row
        if self._is_live:
            return
        self._print(f"  epoch {_number(row['epoch'], '.3g')} · {_values_of(row)} · {_scores(row)}")
        now, speed = time.monotonic(), self._speed()
        if now - self._speed_shown > SPEED_EVERY and speed:
            self._speed_shown = now
            self._print(f"  {speed}")

    def _speed(self) -> str:
        """Steps a second and the time left; empty where there is no telling."""
        speed, left = self._steps.speed, _left(self._cost)
        return f"{speed:.3g} steps/s · {left} left" if speed and left else ""

    def _warn_if_long(self, elapsed: float) -> None:
        left = self._cost.time_remaining
        if self._warned or left is None or elapsed < WARM_UP:
            return
        self._warned = True
        if left > LONG_RUN:
            self.note(f"at this speed the run takes about {_left(self._cost)}. {self._hint}")

    def _close_inner_run(self) -> None:
        """Leave one line of an inner run on the terminal, once the live lines go on."""
        if self._is_live and self._row is not None:
            row = self._row
            known = row["validation_accuracy"] is not None
            validation = f" · val {_percent(row, 'validation')}" if known else ""
            self._print(f"{self._title} · {_values_of(row)}{validation} · test {_percent(row)}")
        self._row = None

    def _panel(self) -> Group:
        lines = [" · ".join(text for text in (self._title, self._position) if text), self._values]
        lines += [_scores(self._row)] if self._row is not None else []
        texts = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines if line]
        return Group(*texts, self._bar.get_renderable())


class TaskProgress(Lines):
    """Progress of many equal tasks: one live line on a terminal, a line a task elsewhere.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("  "), BarColumn(24), TextColumn("{task.description}"))
        super().__init__(console, columns, look_back=float("inf"))
        self._share = self._add_bar(None)
        self._total: int | None = 0
        self._count = 0
        self._printed = time.monotonic()

    def begin(self, total: int | None, before: int, share: float | None = None) -> None:
        """Note how many tasks there are, and how many were done before.

        Args:
            total: Of the tasks; None where something else than their number ends them.
            before: Tasks that are done.
            share: How much of the whole that is, in [0, 1]; `before / total` unless given.
        """
        self._total, self._count = total, before
        self._bar.reset(self._share.id, total=1.0)
        self._advance(share)
        if before:
            self._print(f"{self._of_total()} are done already")

    def done(self, text: str, count: int = 1, share: float | None = None) -> None:
        """Note that more tasks are done; elsewhere than on a terminal, some lines are left out.

        Args:
            text: How things stand.
            count: Tasks done since the last call; 0 if they are only nearer to their end.
            share: As for `begin`.
        """
        self._count += count
        self._advance(share)
        completed, left = self._share.completed, _left(self._share)
        words = [text, f"{completed:.0%}" if self._total is None else ""]
        words += [f"{left} left" if left and completed < 1 else ""]
        line = " · ".join([self._of_total(), *filter(None, words)])
        self._bar.update(self._share.id, description=line)
        now = time.monotonic()
        due = completed == 1 or now - self._printed > TASKS_EVERY
        if not self._is_live and count and due:
            self._printed = now
            self._print(line)

    def _advance(self, share: float | None) -> None:
        if share is None:
            share = self._count / self._total if self._total else 0.0
        self._bar.update(self._share.id, completed=share)

    def _of_total(self) -> str:
        return f"{self._count}" if self._total is None else f"{self._count} of {self._total}"


def _left(task: Task) -> str:
    """The time left as h:mm:ss; empty while it is not known."""
    left = task.time_remaining
    return "" if left is None else str(timedelta(seconds=left))


def _values(values: Mapping[str, object]) -> str:
    """What a step used, in words; of a vector the smallest entry and the largest.

    >>> _values({"learning_rate": 0.1, "label_smoothing": 0.05, "class_weights": (0.5, 2.0)})
    'α 0.1 label smoothing 0.05 class weights 0.5…2'
    """
    return " ".join(
        f"{SYMBOLS.get(name, name.replace('_', ' '))} {text}"
        for name, value in values.items()
        if (text := _written(value))
    )


def _written(value: object) -> str:
    """A number or a vector; empty for what is neither: no file has a vector in one cell."""
    if isinstance(value, tuple):
        return f"{_number(min(value), '.3g')}…{_number(max(value), '.3g')}"
    return f"{value:.3g}" if isinstance(value, int | float) else ""


def _values_of(row: Row) -> str:
    """Those of a row of `inner.csv`: a column each, between accuracies and seconds."""
    names = list(row)
    own = names[names.index("test_accuracy") + 1 :]
    return _values({name: row[name] for name in own if name != "seconds"})


def _scores(row: Row) -> str:
    scores = [f"train {_number(row['train_loss'], '.3f')} {_percent(row, 'train')}"]
    if row["validation_accuracy"] is not None:
        loss = _number(row["validation_loss"], ".3f")
        scores.append(f"val {loss} {_percent(row, 'validation')}")
    return " · ".join([*scores, f"test {_percent(row)}"])


def _percent(row: Row, images: str = "test") -> str:
    value = row[f"{images}_accuracy"]
    return f"{100 * value:.1f}%" if isinstance(value, int | float) else "-"


def _number(value: Value, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"
