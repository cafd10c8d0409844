"""What every figure says about its run: the caption line and the mark of an unfinished run."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from hypergrad.figures.run_data import RunRecord, status_mark
from hypergrad.figures.style import GREY, METHOD_COLOURS, SMALL

MARK_HEIGHT = 0.25  # inches
_LINE_HEIGHT = 0.13  # inches
_LINE_LENGTH = 130  # characters of the small type on a page-wide line


def caption_text(record: RunRecord, remarks: list[str]) -> str:
    """The caption: experiment, data set, model, horizon and scale, then the figure's remarks."""
    named = (
        ("data", "data {}"),
        ("model", "model {}"),
        ("method", "method {}"),
        ("epochs", "{} epochs"),
        ("outer_steps", "{} outer steps"),
        ("scale", "scale {}"),
    )
    known = [form.format(record.settings[key]) for key, form in named if key in record.settings]
    head = ", ".join(known)
    if record.experiment:
        head = f"{record.experiment}: {head}" if head else record.experiment
    sentences = ". ".join(part for part in (head, *remarks) if part)
    return textwrap.fill(sentences + ".", _LINE_LENGTH)


def seeds_remark(record: RunRecord, shown: int) -> str:
    """Which of several seeds the lines show; empty when there is only one."""
    count = len(record.seeds)
    return f"Lines: seed {shown} of {count} seeds" if count > 1 else ""


def caption_height(text: str) -> float:
    """Inches that a caption needs below the panels."""
    return 0.06 + _LINE_HEIGHT * len(text.splitlines())


def sign_figure(figure: Figure, record: RunRecord, text: str) -> None:
    """Write the caption and, where the run is not finished, the mark that says so."""
    height = figure.get_figheight()
    figure.text(
        0.012, 0.05 / height, text, fontsize=SMALL, color=GREY, va="bottom", linespacing=1.25
    )
    mark = status_mark(record)
    if mark:
        figure.text(
            0.5,
            1 - 0.5 * MARK_HEIGHT / height,
            mark,
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            color="white",
            bbox={"facecolor": METHOD_COLOURS["hd"], "edgecolor": "none", "pad": 2.5},
        )


def mark_height(record: RunRecord) -> float:
    """Inches that the mark needs above the panels; none for a finished run."""
    return 0.0 if record.finished else MARK_HEIGHT + 0.03
