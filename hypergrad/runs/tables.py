"""Tables for a terminal, in which a text is shown as it is and is no markup."""

from rich import table
from rich.console import RenderableType
from rich.style import StyleType
from rich.text import Text

from hypergrad.runs.shown import short

__all__ = ["Table"]


class Table(table.Table):
    """A table of rich, whose cells may hold what somebody else has written."""

    def add_row(
        self,
        *renderables: RenderableType | None,
        style: StyleType | None = None,
        end_section: bool = False,
    ) -> None:
        """Add a row; a text among its cells is printable and has no markup."""
        cells = (_plain(cell) if isinstance(cell, str) else cell for cell in renderables)
        super().add_row(*cells, style=style, end_section=end_section)


def _plain(cell: str) -> Text:
    indent = min(len(cell) - len(cell.lstrip(" ")), 8)
    return Text(" " * indent + short(cell))
