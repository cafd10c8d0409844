"""Table 1 as text: for the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.text import Text

from hypergrad.figures.table1_data import Cell, cells_of
from hypergrad.figures.table1_notes import CAPTION, MISSING, footnotes, marks
from hypergrad.figures.written import csv_text
from hypergrad.runs.atomic import write_text_atomically
from hypergrad.runs.shown import in_markdown, printable, short
from hypergrad.runs.tables import Table

TITLE = "Table 1"
_TEX_BOLD = r"\textbf{{{}}}"
_TEX = {
    **{char: f"\\{char}" for char in "{}$&#%_"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "–": "--",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
}


def render(table: pd.DataFrame, form: str) -> str:
    """Write Table 1 as text, which ends with a newline.

    In the form `terminal` (as wide as the terminal, bold where it can be), `markdown`, `csv` (a
    row a cell, accuracies as fractions) or `latex` (needs the package booktabs).
    """
    if form not in FORMS:
        raise ValueError(f"no form {form!r} of Table 1: use one of {', '.join(FORMS)}")
    return FORMS[form](table)


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write `table1.md`, `table1.csv` and `table1.tex` into a folder, made if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, form in (("md", "markdown"), ("csv", "csv"), ("tex", "latex")):
        path = folder / f"table1.{suffix}"
        write_text_atomically(path, render(table, form))
        paths.append(path)
    return paths


class TableTexts(NamedTuple):
    """Table 1 in texts: titles of columns; of each row its title, texts and which are the best."""

    caption: str
    columns: list[str]
    rows: list[tuple[str, list[str], list[bool]]]
    notes: list[str]


def table_texts(table: pd.DataFrame) -> TableTexts:
    """Return the texts of Table 1, for whoever sets it otherwise than `render`."""
    titles, rows = _grid(table)
    texts = [(title, _texts(cells, "{}"), [cell.best for cell in cells]) for title, cells in rows]
    return TableTexts(f"{TITLE}. {CAPTION}", titles, texts, footnotes(table, "Bold"))


def cell_text(cell: Cell) -> str:
    """A cell in percent, without its marks: `98.49 ± 0.28 (n=3)`."""
    if not cell.n:
        return MISSING
    spread = f" ± {100 * cell.std:.2f}" if math.isfinite(cell.std) else ""
    return f"{100 * cell.mean:.2f}{spread} (n={cell.n})"


def _terminal(table: pd.DataFrame) -> str:
    titles, rows = _grid(table)
    # Without a frame four columns fit into 80 characters; a cell then takes two lines.
    drawn = Table("", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:
        drawn.add_column(Text(short(title)), justify="right", min_width=len("98.49 ± 10.28"))
    for title, cells in rows:
        texts = _texts(cells, "{}*")  # the star is for where there is no bold type
        styles = ("bold" if cell.best else "" for cell in cells)
        drawn.add_row(title, *map(Text, texts, styles))
    console = Console()
    with console.capture() as capture:
        console.print(f"{TITLE}. {CAPTION}", markup=False, highlight=False)
        console.print()
        console.print(drawn)
        console.print()
        for note in footnotes(table, "Bold, *"):
            console.print(printable(note), markup=False, highlight=False)
    return capture.get()


def _markdown(table: pd.DataFrame) -> str:
    titles, rows = _grid(table)
    lines = [
        f"**{TITLE}.** {CAPTION}",
        "",
        f"| | {' | '.join(map(in_markdown, titles))} |",
        "|---|" + "---:|" * len(titles),
        *(f"| {title} | {' | '.join(_texts(cells, '**{}**'))} |" for title, cells in rows),
        "",
        *(f"- {in_markdown(note)}" for note in footnotes(table, "Bold")),
    ]
    return "\n".join(lines) + "\n"


def _csv(table: pd.DataFrame) -> str:
    return csv_text(table)


def _latex(table: pd.DataFrame) -> str:
    titles, rows = _grid(table)
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_escape(CAPTION)}}}",
        r"  \label{tab:table1}\par\smallskip",
        r"  \footnotesize\setlength{\tabcolsep}{4pt}%",  # three columns fit the class article
        rf"  \begin{{tabular}}{{l{'r' * len(titles)}}}",
        r"    \toprule",
        rf"    & {' & '.join(map(_escape, titles))} \\",
        r"    \midrule",
    ]
    for title, cells in rows:
        texts = " & ".join(_texts(cells, _TEX_BOLD, _escape))
        lines.append(rf"    {_escape(title)} & {texts} \\")
    lines += [
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \par\medskip",
        r"  \begin{minipage}{\linewidth}",
        *(rf"    {_escape(note)}\par" for note in footnotes(table, "Bold")),
        r"  \end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _grid(table: pd.DataFrame) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """The titles of the columns, and each row's title with its cells in their order."""
    rows: dict[str, list[Cell]] = {}
    for cell in cells_of(table):
        rows.setdefault(cell.row_title, []).append(cell)
    titles = [cell.column_title for cell in next(iter(rows.values()))]
    return titles, list(rows.items())


def _texts(cells: list[Cell], form: str, escape: Callable[[str], str] = str) -> list[str]:
    """Texts of cells with their marks, the best one in bold type."""
    return [
        (form if cell.best else "{}").format(escape(cell_text(cell))) + escape(marks(cell))
        for cell in cells
    ]


def _escape(text: str) -> str:
    r"""Text that LaTeX sets as it is; characters that it may not know by their number.

    >>> _escape("90 % of a_b ± 中")
    '90 \\% of a\\_b $\\pm$ U+4E2D'
    """
    return "".join(
        _TEX.get(char, char if char.isascii() else f"U+{ord(char):04X}") for char in printable(text)
    )


FORMS = {"terminal": _terminal, "markdown": _markdown, "csv": _csv, "latex": _latex}
