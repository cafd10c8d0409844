"""What a user sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from hypergrad.inner import InnerRun

__all__ = ["Display", "duration"]

Row = Mapping[str, int | float | str | None]

LONG_RUN = 3 * 3600.0  # seconds; beyond that a user wants to know before lunch
WARM_UP = 20.0  # seconds of stepping before a prediction is worth anything
REFRESH = 0.2  # seconds

NAMES = {
    "ours": "outer step",
    "hd": "hypergradient descent",
    "ours_retrained": "training with the learned schedule",
    "hd_retrained": "training with HD's schedule",
    "sgd": "training with plain SGD",
}


class Display:
    """Progress on stderr.

    Args:
        total: Gradient evaluations planned for the whole run.
        outer_steps: Outer steps of a search.
        epochs: Horizon of the later inner runs.
        hint: What to say when the run looks long, such as the name of a smaller scale.
        console: Where to write.
    """

    def __init__(
        self, total: float, outer_steps: int, epochs: int, hint: str, console: Console
    ) -> None:
        self._total, self._outer_steps, self._epochs = total, outer_steps, epochs
        self._hint, self._console = hint, console
        self._began: float | None = None
        self._cost_at_start = 0.0
        self._part_began, self._part_steps = 0.0, 0
        self._title, self._left = "", ""
        self._refreshed = 0.0
        self._warned = False
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            console=console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._progress.add_task("starting", total=total, speed="")

    def __enter__(self) -> "Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, seed: int, method: str, outer_step: int, steps: int) -> None:
        """Note that an inner run begins."""
        which = f" {outer_step + 1}/{self._outer_steps}" if method == "ours" else ""
        self._title = f"seed {seed} · {NAMES[method]}{which}"
        self._part_began, self._part_steps = time.monotonic(), 0

    def step(self, inner: InnerRun, cost: float) -> None:
        """Note a step; `cost` gradient evaluations of the run are done."""
        now = time.monotonic()
        self._part_steps += 1
        if self._began is None:
            self._began, self._cost_at_start = now, cost
        if now - self._refreshed < REFRESH:
            return
        self._refreshed = now
        rate = self._part_steps / max(now - self._part_began, 1e-9)
        elapsed = now - self._began
        fraction = (cost - self._cost_at_start) / (self._total - self._cost_at_start)
        if fraction > 0 and elapsed > 1:
            left = elapsed * (1 - fraction) / fraction
            self._left = f"{duration(left)} left"
            self._warn_if_long(elapsed, left)
        per_epoch = inner.minibatches.steps_per_epoch
        self._progress.update(
            self._task,
            completed=cost,
            description=f"{self._title} · epoch {inner.epoch:.1f}/{inner.horizon // per_epoch}",
            speed=f"{rate:.1f} steps/s · {self._left}",
        )

    def row(self, row: Row) -> None:
        """Print the numbers of a new row of `inner.csv`."""
        parts = [
            self._title,
            f"epoch {row['epoch']:.3g}",
            f"α {row['learning_rate']:.3g} β {row['momentum']:.3g} μ {row['weight_decay']:.2g}",
            f"train {row['train_loss']:.4f} {_percent(row['train_accuracy'])}",
        ]
        if row["validation_accuracy"] is not None:
            parts.append(f"val {row['validation_loss']:.4f} {_percent(row['validation_accuracy'])}")
        parts.append(f"test {_percent(row['test_accuracy'])}")
        if not self._live and self._left:
            parts.append(self._left)
        self._print(" · ".join(parts))

    def note(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"! {text}", style="yellow")

    def _warn_if_long(self, elapsed: float, left: float) -> None:
        if not self._warned and elapsed > WARM_UP:
            self._warned = True
            if left > LONG_RUN:
                self.note(f"at this speed the run takes about {duration(left)}. {self._hint}")

    def _print(self, text: str, style: str | None = None) -> None:
        self._progress.console.print(text, style=style, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Return a length of time as people say it.

    >>> duration(42), duration(130), duration(7300), duration(200000)
    ('42 s', '2 min', '2 h 2 min', '2 d 7 h')
    """
    minutes, hours = round(seconds / 60), int(seconds // 3600)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"


def _percent(value: int | float | str | None) -> str:
    return f"{100 * value:.2f} %" if isinstance(value, int | float) else "-"
