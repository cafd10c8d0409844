"""Tables of a page: what can be sorted, what scrolls in its own box."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hypergrad.reporting.html import Html, element

__all__ = ["Cell", "number_cell", "pairs", "scroll_box", "sortable"]


class Cell(NamedTuple):
    """A cell of a table: what it says, and the number that it is sorted by; NaN is none."""

    text: str
    value: float | None = None
    number: bool = False
    wide: bool = False


def number_cell(value: float | None, form: str, scale: float = 1.0) -> Cell:
    """A number in a form; a dash, which is sorted last, for none.

    >>> number_cell(0.5, "{:.1f}", 100).text, number_cell(None, "{}").text
    ('50.0', '-')
    """
    text = "-" if value is None else form.format(scale * value)
    return Cell(text, value, number=True)


def sortable(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell | Html | str]]
) -> Html:
    """A table whose columns are sorted by a click, in a box that scrolls by itself."""
    named = element("tr", *(_head(head) for head in heads))
    table = element(
        "table",
        element("caption", caption),
        element("thead", named),
        element("tbody", *(_row(row) for row in rows)),
        class_="sortable",
    )
    return scroll_box(caption, table)


def scroll_box(name: str, content: Html) -> Html:
    """A box that scrolls sideways by itself, by the keyboard too."""
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=name)


def pairs(entries: Iterable[tuple[str, str]]) -> Html:
    """Names and what they stand for."""
    both = [element(*each) for name, text in entries for each in (("dt", name), ("dd", text))]
    return element("dl", *both)


def _head(name: str) -> Html:
    return element("th", element("button", name or "row", type="button"), scope="col")


def _row(cells: Sequence[Cell | Html | str]) -> Html:
    first, *others = cells
    return element("tr", _cell("th", first, scope="row"), *(_cell("td", each) for each in others))


def _cell(tag: str, cell: Cell | Html | str, **more: str) -> Html:
    if not isinstance(cell, Cell):
        return element(tag, cell, **more)
    if cell.number or cell.value is not None:
        more |= {"data_value": "" if cell.value is None else repr(cell.value)}
    names = [name for name, wanted in (("number", cell.number), ("wide", cell.wide)) if wanted]
    if names:
        more |= {"class_": " ".join(names)}
    return element(tag, cell.text, **more)
