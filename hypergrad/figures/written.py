"""What files of figures and tables hold: nothing in them to obey."""

from __future__ import annotations

import io

import pandas as pd

from hypergrad.runs.shown import in_a_cell, in_a_figure

__all__ = ["csv_text", "figure_bytes"]

# No time stamp: a redrawn figure differs only when its data do.
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def csv_text(table: pd.DataFrame) -> str:
    """Return a table as CSV, whose texts a spreadsheet takes for texts."""
    texts = table.select_dtypes(include=["object", "string", "category"]).columns
    columns = {name: table[name].astype(object).map(_safe) for name in texts}
    return table.assign(**columns).to_csv(index=False, lineterminator="\n")


def figure_bytes(figure: object, suffix: str) -> bytes:
    """Return a figure of matplotlib as PNG, PDF or SVG.

    Raises:
        ValueError: If there is a text in it that cannot be drawn.
    """
    from matplotlib.figure import Figure

    assert isinstance(figure, Figure)
    _plain_texts(figure)
    content = io.BytesIO()
    figure.savefig(content, format=suffix, metadata=_METADATA[suffix])
    return content.getvalue()


def _safe(value: object) -> object:
    return in_a_cell(value) if isinstance(value, str) else value


def _plain_texts(figure: object) -> None:
    """Let no text be taken for a formula that is none, or hold what no font has."""
    from matplotlib.cbook import is_math_text
    from matplotlib.figure import Figure
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    assert isinstance(figure, Figure)
    parser = MathTextParser("path")
    for each in figure.findobj(Text):
        assert isinstance(each, Text)
        text = each.get_text()
        if (plain := in_a_figure(text)) != text:
            each.set_text(plain)
        try:
            for line in plain.split("\n"):
                if is_math_text(line):
                    parser.parse(line)
        except (ValueError, RecursionError):
            each.set_parse_math(False)
