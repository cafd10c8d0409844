"""What every figure says about its run: legend, caption, and the mark of an unfinished run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hypergrad.figures.run_data import RunRecord, status_mark
from hypergrad.figures.style import GREY, SMALL, legend_above

_LINE_LENGTH = 130  # characters of the small type on a page-wide line
_SAID = {
    "data": "data {}",
    "model": "model {}",
    "method": "method {}",
    "epochs": "{} epochs",
    "outer_steps": "{} outer steps",
    "scale": "scale {}",
}


def sign_figure(
    figure: Figure, record: RunRecord, remarks: list[str], handles: list[Line2D], columns: int
) -> None:
    """Write the legend above, and below what was run and the figure's remarks.

    Args:
        figure: with its panels.
        record: its run; one that is not finished is marked as such.
        remarks: sentences without their full stops; empty ones are left out.
        handles: the legend's entries.
        columns: of the legend, at most.
    """
    known = [
        form.format(record.settings[key]) for key, form in _SAID.items() if key in record.settings
    ]
    head = ": ".join(text for text in (record.experiment, ", ".join(known)) if text)
    write_caption(figure, head, remarks)
    legend_above(figure, handles, columns, status_mark(record))


def write_caption(figure: Figure, head: str, remarks: list[str]) -> None:
    """Write what was run, and remarks without their full stops, below a figure."""
    caption = ". ".join(text for text in (head, *remarks) if text) + "."
    look = {"fontsize": SMALL, "color": GREY, "linespacing": 1.25}
    figure.supxlabel(textwrap.fill(caption, _LINE_LENGTH), x=0.012, ha="left", **look)


def seeds_remark(record: RunRecord, shown: int) -> str:
    """Which seed the lines show, and of which seeds it is one."""
    count = len(record.seeds)
    if count < 2:
        return f"Seed {shown}"
    return f"Lines: seed {shown} of the {count} seeds {listed(record.seeds)}"


def listed(seeds: Sequence[int]) -> str:
    """Seeds in words, in order.

    >>> listed([10, 11, 12]), listed([0, 1, 5])
    ('10–12', '0, 1, 5')
    """
    first, last = seeds[0], seeds[-1]
    if len(seeds) > 2 and list(seeds) == list(range(first, last + 1)):
        return f"{first}\N{EN DASH}{last}"
    return ", ".join(map(str, seeds))
