"""Tables for a terminal, in which a text is shown as it is and is no markup."""

from rich import table
from rich.console import RenderableType
from rich.text import Text

from hypergrad.runs.shown import short

__all__ = ["Table"]


class Table(table.Table):
    """A table of rich, whose cells may hold what somebody else has written."""

    def add_row(self, *cells: RenderableType | None, style: str | None = None) -> None:
        """Add a row; a text among its cells is printable and has no markup."""
        plain = (_plain(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*plain, style=style)


def _plain(cell: str) -> Text:
    indent = min(len(cell) - len(cell.lstrip(" ")), 8)
    return Text(" " * indent + short(cell))
