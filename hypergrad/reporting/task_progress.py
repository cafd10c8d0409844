"""What a user sees while many equal tasks go on: how many are done, and how long the rest takes."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hypergrad.reporting.pace import duration

__all__ = ["TaskProgress"]

PLAIN_PACE = 2.0  # seconds between two lines where there is no live one


class TaskProgress:
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
        self._total: int | None = 0
        self._count = 0
        self._share = self._first_share = 0.0
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> "TaskProgress":
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._bar.stop()

    def begin(self, total: int | None, before: int, share: float | None = None) -> None:
        """Note how many tasks there are, and how many were done before.

        Args:
            total: Of the tasks; None where something else than their number ends them.
            before: Tasks that are done.
            share: How much of the whole that is, in [0, 1]; `before / total` unless given.
        """
        self._total, self._count = total, before
        self._share = self._first_share = self._share_of(share)
        self._began = time.monotonic()
        self._bar.update(self._task, total=total, completed=before)
        if before:
            self._print(f"{before}{self._of_total()} are done already")

    def done(self, text: str, count: int = 1, share: float | None = None) -> None:
        """Note that more tasks are done; elsewhere than on a terminal, some lines are left out.

        Args:
            text: How things stand.
            count: Tasks done since the last call; 0 if only parts of some are.
            share: As for `begin`.
        """
        self._count += count
        self._share = self._share_of(share)
        now, fresh = time.monotonic(), self._share - self._first_share
        parts = [text] if text else []
        if self._total is None:
            parts.append(f"{self._share:.0%}")
        if 0 < fresh and self._share < 1:
            left = (now - self._began) / fresh * (1 - self._share)
            parts.append(f"{duration(left)} left")
        line = " · ".join(parts)
        self._bar.update(self._task, completed=self._count, description=line)
        due = self._share == 1 or now - self._printed > PLAIN_PACE
        if not self._is_live and count and due:
            self._printed = now
            self._print(f"{self._count}{self._of_total()} · {line}")

    def _of_total(self) -> str:
        return "" if self._total is None else f" of {self._total}"

    def _share_of(self, share: float | None) -> float:
        if share is not None:
            return share
        return self._count / self._total if self._total else 0.0

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._print(text)

    def note(self, text: str) -> None:
        """Print a line that stands out."""
        self._print(f"! {text}", style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
