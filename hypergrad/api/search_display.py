"""A bar on stderr while an outer step of a search is under way."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["SearchDisplay"]


class SearchDisplay:
    """Shows how far an outer step has come; gone from the terminal when it is taken.

    Args:
        console: Where to draw; stderr unless given. Nothing is drawn where it is no terminal.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = self._new()
        self._horizon = 0

    def __enter__(self) -> None:
        self._bar = self._new()
        self._bar.start()

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def begin(self, number: int, count: int, horizon: int) -> None:
        """An inner run begins: of which outer step, of how many at most, for how many steps."""
        self._horizon = horizon
        self._bar.add_task(f"outer step {number + 1}/{count}", total=horizon, step="")

    def step(self, step: int, back: int, others: int) -> None:
        """So many steps are done, there and back; of which further trajectory, from 1."""
        task = self._bar.tasks[-1]
        where = f"trajectory {others + 1}, " if others else ""
        if back:
            text, done = f"{where}step back {back}/{self._horizon}", back
        else:
            text, done = f"{where}step {step}/{self._horizon}", step
        self._bar.update(task.id, completed=done, step=text)

    def _new(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[step]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
