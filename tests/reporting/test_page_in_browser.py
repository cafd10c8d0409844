"""The page in a real browser: quiet, alone, sorted by a click, no wider than a telephone."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from markup import HOSTILE

from hypergrad.reporting.page import page
from hypergrad.reporting.run_facts import RunFacts, read_facts
from hypergrad.runs.atomic import write_text_atomically

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.skipif(os.name != "posix", reason="speaks to the browser through descriptors"),
]
RECORDS = Path(__file__).parents[2] / "experiments"
NUMBERS = "[...document.querySelectorAll('table')].find(t => t.caption.textContent === '{}')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def write(folder: Path) -> Path:
    """A page with figures, a table of members, and texts that try to be scripts."""
    run = folder / "run"
    run.mkdir()
    attack = " ".join([*HOSTILE, "<img src='https://localhost:9/x'>", "a" * 300])
    results = [
        {"seed": seed, "method": "sgd", "test_accuracy": accuracy, "diverged": False}
        for seed, accuracy in enumerate((0.9, 0.1, None, 0.5))
    ]
    summary = {"experiment": attack, "headline": attack, "status": "failed", "message": attack}
    settings = {"settings": {attack: attack}, "results": results}
    (run / "summary.json").write_text(json.dumps({**summary, **settings}))
    facts = [read_facts(path) for path in (run, RECORDS / "quickstart" / "record")]
    table = replace(read_facts(RECORDS / "table1" / "record"), pictures=())
    file = folder / "page.html"
    file.write_text(page([*facts, table], datetime(2026, 1, 31)), encoding="utf-8")
    return file


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_quiet_alone_and_no_wider_than_its_window(
    browser: Browser, tmp_path: Path, width: int, dark: bool
) -> None:
    file = write(tmp_path)
    browser.open(file.as_uri(), width, dark)
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.complaints() == []
    asked = browser.requests()
    assert asked[0] == file.as_uri()
    assert all(address.startswith("data:") for address in asked[1:])
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value("[...document.images].every(i => i.complete && i.naturalWidth > 1000)")
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)")


def test_a_click_sorts_a_table_by_its_numbers_and_again_the_other_way(
    browser: Browser, tmp_path: Path
) -> None:
    browser.open(write(tmp_path).as_uri(), 1280)
    table = NUMBERS.format("Results of every seed")
    column = f"{table}.tHead.rows[0].cells[2]"
    order = f"[...{table}.tBodies[0].rows].map(row => row.cells[2].textContent).join(' ')"
    assert browser.value(order) == "90.00 10.00 - 50.00"
    for direction, texts in (
        ("ascending", "10.00 50.00 90.00 -"),
        ("descending", "90.00 50.00 10.00 -"),
        ("ascending", "10.00 50.00 90.00 -"),
    ):
        browser.value(f"{column}.querySelector('button').click()")
        assert browser.value(order) == texts
        assert browser.value(f"{column}.getAttribute('aria-sort')") == direction
    browser.value(f"{table}.tHead.rows[0].cells[0].querySelector('button').click()")
    assert browser.value(f"{column}.getAttribute('aria-sort')") is None
    assert browser.value(order) == "90.00 10.00 - 50.00"


def test_a_script_that_is_not_the_pages_own_does_not_run(browser: Browser, tmp_path: Path) -> None:
    file = write(tmp_path)
    # As if the escaping had failed: the policy is what is left.
    attack = "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'><p id=end>"
    file.write_text(file.read_text(encoding="utf-8").replace("<main>", f"<main>{attack}"))
    browser.open(file.as_uri(), 1280)
    assert browser.value("document.querySelector('#end') !== null")
    assert browser.value("window.hit") is None
    assert browser.complaints()


def test_a_page_that_is_followed_loads_itself_until_the_run_has_ended(
    browser: Browser, tmp_path: Path
) -> None:
    file, now = tmp_path / "page.html", datetime(2026, 1, 31)
    run = RunFacts(tmp_path, status="running", headline="early")
    file.write_text(page([run], now, refresh=1), encoding="utf-8")
    browser.open(file.as_uri(), 390)
    write_text_atomically(file, page([replace(run, status="finished", headline="late")], now))
    verdict = "document.querySelector('.verdict')?.textContent"
    until = time.monotonic() + 60
    while browser.value(verdict) != "late":
        assert time.monotonic() < until
        time.sleep(0.2)
    loads = browser.requests().count(file.as_uri())
    time.sleep(1.5)
    assert browser.requests().count(file.as_uri()) == loads == 2
    assert browser.complaints() == []
