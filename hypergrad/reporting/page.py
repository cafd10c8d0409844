"""A page on runs: one HTML file that needs nothing else, and lets nothing else in."""

import base64
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from hypergrad.reporting.html import Html, element
from hypergrad.reporting.page_tables import Cell, number_cell, pairs, scroll_box, sortable
from hypergrad.reporting.run_facts import Picture, RunFacts, mean_and_spread
from hypergrad.reporting.run_report import SMOKE

__all__ = ["page"]

_STATES = ("running", "finished", "interrupted", "failed", "killed", "damaged")


def page(runs: Sequence[RunFacts], now: datetime, *, remark: str = "", refresh: int = 0) -> str:
    """Write the page.

    Args:
        runs: In their order on it.
        now: When they were read.
        remark: A sentence for its head.
        refresh: Seconds after which a browser loads it again; 0 for never.

    Returns:
        The whole document. The same runs at the same time give the same one.
    """
    title = f"{_name(runs[0])}: hypergrad report" if len(runs) == 1 else "hypergrad report"
    places = {run.path: f"run-{place}" for place, run in enumerate(runs)}
    body = element(
        "body",
        element(
            "header",
            element("h1", title),
            element("p", _as_of(now, refresh), class_="soft"),
            *([element("p", remark)] if remark else []),
        ),
        element(
            "main",
            *([_overview(runs, places)] if len(runs) > 1 else []),
            *(_section(run, places[run.path]) for run in runs),
        ),
        element("footer", element("p", "Written by hypergrad report.", class_="soft")),
        Html(f"<script>{_asset('page.js')}</script>"),
    )
    return f"<!doctype html>\n{element('html', _head(title, refresh), body, lang='en').markup}\n"


def _head(title: str, refresh: int) -> Html:
    # Nothing is loaded, and no script but the page's own is run, whatever a text may hold.
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash('page.css')}; "
        f"script-src {_hash('page.js')}; base-uri 'none'; form-action 'none'"
    )
    reload = [element("meta", http_equiv="refresh", content=str(refresh))] if refresh else []
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        *reload,
        element("title", title),
        element("link", rel="icon", href="data:,"),
        Html(f"<style>{_asset('page.css')}</style>"),
    )


def _asset(name: str) -> str:
    return files("hypergrad.reporting").joinpath(name).read_text(encoding="utf-8")


def _hash(name: str) -> str:
    digest = hashlib.sha256(_asset(name).encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _as_of(now: datetime, refresh: int) -> str:
    again = f"; loads again every {refresh} s while a run goes on" if refresh else ""
    return f"As of {now:%Y-%m-%d %H:%M:%S}{again}."


def _overview(runs: Sequence[RunFacts], places: dict[Path, str]) -> Html:
    heads = ("run", "result", "status", "data", "scale", "seconds")
    rows = [
        [
            element("a", _name(run), href=f"#{places[run.path]}"),
            Cell(run.headline or run.message or "-", wide=True),
            _status(run),
            run.settings.get("data", run.settings.get("columns", "-")),
            run.settings.get("scale", "-"),
            number_cell(run.seconds, "{:,.0f}"),
        ]
        for run in runs
    ]
    heading = element("h2", f"{len(runs)} runs")
    return element("section", heading, sortable("Runs on this page", heads, rows))


def _section(run: RunFacts, place: str) -> Html:
    folder = element("p", "in ", element("code", str(run.path)), class_="soft")
    return element(
        "section", element("h2", _name(run), id=place), folder, *_content(run), class_="run"
    )


def _content(run: RunFacts) -> Iterator[Html]:
    """All that is said of a run, member or not, below its name."""
    yield element("p", _status(run))
    if run.headline:
        yield element("p", run.headline, class_="verdict")
    if run.message:
        yield element("p", run.message, class_="note")
    for text in run.damage:
        yield element("p", f"Left out: {text}", class_="note")
    if run.settings.get("scale") == "smoke":
        yield element("p", f"{SMOKE[0].upper()}{SMOKE[1:]}.", class_="note")
    if run.results:
        yield _methods(run)
    if run.table1 is not None:
        yield from _table1(run)
    for picture in run.pictures:
        yield _figure(picture, run)
    if run.members:
        yield from _members(run)
    if run.command:
        yield from _repeat(run)
    about = {"experiment": run.experiment, **run.settings}
    facts = [("What was run", about), ("Where it came from", run.origin)]
    for title, own in facts:
        if own:
            yield element("details", element("summary", title), pairs(own.items()))
    if len(run.results) > 1:
        yield element("details", element("summary", "Every seed"), _seeds(run))


def _status(run: RunFacts) -> Html:
    known = run.status if run.status in _STATES else "damaged"
    done = "" if run.fraction is None or run.has_ended else f", {100 * run.fraction:.0f} %"
    return element("span", f"{run.status}{done}", class_=f"mark {known}")


def _figure(picture: Picture, run: RunFacts) -> Html:
    told = f"{picture.title} ({picture.name})"
    if not picture.png:
        return element("p", f"{told}: not drawn: {picture.why}", class_="note")
    code = base64.b64encode(picture.png).decode("ascii")
    alt = f"{told} of {_name(run)}" + (f": {run.headline}" if run.headline else "")
    drawn = element("img", src=f"data:image/png;base64,{code}", alt=alt)
    said = element("figcaption", f"{told}. Drawn alone: ", element("code", _plot(picture, run)))
    return element("figure", scroll_box(told, drawn), said)


def _plot(picture: Picture, run: RunFacts) -> str:
    return f"hypergrad plot {picture.name} --run {_quoted(run.path)}"


def _methods(run: RunFacts) -> Html:
    heads = ("method", "test accuracy, %", "validation, %", "seeds", "diverged")
    rows = []
    for title, own in run.methods().items():
        test, validation = (
            [value for value in column if value is not None]
            for column in ([row.test for row in own], [row.validation for row in own])
        )
        rows.append(
            [
                title,
                *(
                    Cell(mean_and_spread(each), sum(each) / len(each) if each else None)
                    for each in (test, validation)
                ),
                number_cell(len(own), "{:.0f}"),
                number_cell(sum(row.diverged for row in own), "{:.0f}"),
            ]
        )
    return sortable("Results: mean ± standard deviation over seeds", heads, rows)


def _seeds(run: RunFacts) -> Html:
    heads = ("seed", "method", "test accuracy, %", "validation, %", "outer step", "diverged")
    rows = [
        [
            row.seed,
            row.method,
            number_cell(row.test, "{:.2f}", 100),
            number_cell(row.validation, "{:.2f}", 100),
            row.outer_step or "-",
            "yes" if row.diverged else "no",
        ]
        for row in run.results
    ]
    return sortable("Results of every seed", heads, rows)


def _table1(run: RunFacts) -> Iterator[Html]:
    told = run.table1
    assert told is not None
    rows = [
        [
            title,
            *(element("strong", t) if best else t for t, best in zip(texts, bests, strict=True)),
        ]
        for title, texts, bests in told.rows
    ]
    yield sortable(told.caption, ("", *told.columns), rows)
    yield element("ul", *(element("li", note) for note in told.notes))


def _members(run: RunFacts) -> Iterator[Html]:
    yield element("h3", f"{len(run.members)} members")
    heads = ("member", "result", "status", "seconds")
    rows = [
        [
            member.path.name,
            Cell(member.headline or member.message or "-", wide=True),
            _status(member),
            number_cell(member.seconds, "{:,.0f}"),
        ]
        for member in run.members
    ]
    yield sortable("Members of the run", heads, rows)
    each = (
        element("details", element("summary", member.path.name), *_content(member))
        for member in run.members
    )
    yield element("details", element("summary", "More of each member"), *each)


def _repeat(run: RunFacts) -> Iterator[Html]:
    yield element("h3", "How to repeat it")
    commit = run.origin.get("commit")
    yield element("pre", element("code", run.command))
    if commit:
        yield element("p", "at commit ", element("code", commit), class_="soft")


def _name(run: RunFacts) -> str:
    """As `hypergrad runs` calls it."""
    path = run.path.absolute()
    return f"{path.parent.name}/{path.name}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
