"""What a user sees while a run goes on: live lines on a terminal, plain ones elsewhere."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hypergrad.reporting.pace import Pace, duration

if TYPE_CHECKING:
    from hypergrad.training.inner_run import InnerRun

__all__ = ["Display"]

Cell = int | float | str | None
Row = Mapping[str, Cell]

LONG_RUN = 3 * 3600.0  # seconds; beyond that a user wants to know before lunch
WARM_UP = 20.0  # seconds of stepping before a prediction is worth a warning
REFRESH = 0.2  # seconds between two looks at the clock
PLAIN_PACE = 60.0  # seconds between two plain lines about speed

NAMES = {
    "ours": "outer step",
    "hd": "hypergradient descent",
    "ours_retrained": "training with the learned schedule",
    "hd_retrained": "training with HD's schedule",
    "sgd": "training with plain SGD",
}


class Display:
    """Progress on stderr.

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
        self._total, self._outer_steps = total, outer_steps
        self._hint, self._console = hint, console
        self._pace = Pace(total or 0.0)
        self._cost = 0.0
        self._title, self._position, self._values = "starting", "", ""
        self._row: Row | None = None
        self._refreshed, self._pace_shown = 0.0, time.monotonic()
        self._warned = False
        self._live = Live(
            console=console,
            get_renderable=self._panel,
            refresh_per_second=4,
            transient=True,
        )
        self._is_live = console.is_terminal and not console.is_dumb_terminal

    def __enter__(self) -> "Display":
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_part()
        if self._is_live:
            self._live.stop()

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None:
        """Note that an inner run begins."""
        self._close_part()
        # Counted from 0, as in the files and the figures.
        last = "" if self._total is None else f" of 0-{self._outer_steps - 1}"
        which = f" {outer_step}{last}" if method == "ours" else ""
        self._title, self._position, self._values = f"seed {seed} · {NAMES[method]}{which}", "", ""
        if not self._is_live:
            self._print(f"{self._title} · {steps:,} steps")

    def step(self, inner: "InnerRun", cost: float) -> None:
        """Note a step; `cost` gradient evaluations of the run are done."""
        self._pace.count()
        now = time.monotonic()
        if now - self._refreshed < REFRESH:
            return
        self._refreshed, self._cost = now, cost
        self._pace.update(cost)
        self._warn_if_long()
        horizon = inner.horizon // inner.problem.minibatches.steps_per_epoch
        self._position = f"epoch {inner.epoch:.1f}/{horizon}"
        values = inner.values
        self._values = _values(values.alpha, values.beta, values.mu)

    def row(self, row: Row) -> None:
        """Show the numbers of a new row of `inner.csv`."""
        self._row = row
        if self._is_live:
            return
        self._print(f"  epoch {_number(row['epoch'], '.3g')} · {_values_of(row)} · {_scores(row)}")
        now = time.monotonic()
        if self._total is not None and now - self._pace_shown > PLAIN_PACE and str(self._pace):
            self._pace_shown = now
            self._print(f"  {self._pace}")

    def note(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"! {text}", style="yellow")

    def _warn_if_long(self) -> None:
        left = self._pace.left
        if self._warned or left is None or self._total is None or self._pace.elapsed < WARM_UP:
            return
        self._warned = True
        if left > LONG_RUN:
            self.note(f"at this speed the run takes about {duration(left)}. {self._hint}")

    def _close_part(self) -> None:
        """Leave one line of an inner run on the terminal, once the live lines go on."""
        if self._is_live and self._row is not None:
            row = self._row
            known = row["validation_accuracy"] is not None
            validation = f" · val {_percent(row, 'validation')}" if known else ""
            self._print(f"{self._title} · {_values_of(row)}{validation} · test {_percent(row)}")
        self._row = None

    def _panel(self) -> Group:
        lines = [" · ".join(part for part in (self._title, self._position) if part)]
        if self._values:
            lines.append(self._values)
        if self._row is not None:
            lines.append(_scores(self._row))
        texts = [Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in lines]
        if self._total is None:
            return Group(*texts)
        bar = Table.grid(padding=(0, 1))
        share = f"{100 * self._cost / self._total:.0f} %"
        bar.add_row(ProgressBar(self._total, self._cost, width=24), share, str(self._pace))
        return Group(*texts, bar)

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


def _values(alpha: float, beta: float, mu: float) -> str:
    return f"α {alpha:.3g} β {beta:.3g} μ {mu:.2g}"


def _values_of(row: Row) -> str:
    parts = zip("αβμ", ("learning_rate", "momentum", "weight_decay"), ("3", "3", "2"), strict=True)
    return " ".join(f"{name} {_number(row[key], f'.{digits}g')}" for name, key, digits in parts)


def _scores(row: Row) -> str:
    parts = [f"train {_number(row['train_loss'], '.3f')} {_percent(row, 'train')}"]
    if row["validation_accuracy"] is not None:
        loss = _number(row["validation_loss"], ".3f")
        parts.append(f"val {loss} {_percent(row, 'validation')}")
    return " · ".join([*parts, f"test {_percent(row)}"])


def _percent(row: Row, part: str = "test") -> str:
    value = row[f"{part}_accuracy"]
    return f"{100 * value:.1f}%" if isinstance(value, int | float) else "-"


def _number(value: Cell, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else "-"
