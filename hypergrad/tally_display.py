"""What a user sees while many equal tasks go on: how many are done, and how long the rest takes."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hypergrad.pace import duration

__all__ = ["TallyDisplay"]


class TallyDisplay:
    """Progress on stderr: one live line on a terminal, a line a task elsewhere.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_live = console.is_terminal and not console.is_dumb_terminal
        self._bar = Progress(
            TextColumn("  "),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None)
        self._total = self._before = self._count = 0
        self._began = time.monotonic()

    def __enter__(self) -> "TallyDisplay":
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._bar.stop()

    def begin(self, total: int, before: int) -> None:
        """Note how many tasks there are, and how many were done before."""
        self._total, self._before, self._count = total, before, before
        self._began = time.monotonic()
        self._bar.update(self._task, total=total, completed=before)
        if before:
            self._print(f"{before} of {total} are done already")

    def done(self, text: str) -> None:
        """Note that one more task is done."""
        self._count += 1
        elapsed = time.monotonic() - self._began
        left = elapsed / (self._count - self._before) * (self._total - self._count)
        rest = f" · {duration(left)} left" if self._count < self._total else ""
        self._bar.update(self._task, completed=self._count, description=f"{text}{rest}")
        if not self._is_live:
            self._print(f"{self._count} of {self._total} · {text}{rest}")

    def note(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"! {text}", style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
