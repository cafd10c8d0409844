"""`hypergrad report` as a user meets it: which runs, where the page is, how it is followed."""

import json
import re
import time
from pathlib import Path

import pytest

from hypergrad.cli import report_command
from hypergrad.reporting import run_facts
from hypergrad.reporting.run_facts import read_facts
from hypergrad.runs.directory import RunDirectory

Capture = pytest.CaptureFixture[str]


def write(outputs: Path, day: int, status: str = "finished", headline: str = "") -> Path:
    run = outputs / "mine" / f"2025-01-0{day}_000000_aaaaaa"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text("name: mine\n")
    summary = {"experiment": "mine", "status": status, "headline": headline, "figures": []}
    (run / "summary.json").write_text(json.dumps(summary))
    return run


def names(page: Path) -> list[str]:
    return re.findall(r"<h2 id=.run-\d+.>mine/2025-01-0(\d)", page.read_text(encoding="utf-8"))


def test_the_finished_runs_newest_first(tmp_path: Path, capsys: Capture) -> None:
    for day, status in enumerate(("finished", "failed", "finished", "running"), start=1):
        write(tmp_path, day, status)
    report_command.report([], tmp_path, None, 10, follow=False)
    page = tmp_path / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert names(page) == ["3", "1"]
    assert "refresh" not in page.read_text()
    report_command.report([], tmp_path, None, 1, follow=False)
    assert names(page) == ["3"]
    assert "The newest 1 of 2 runs." in page.read_text()


def test_runs_that_are_named_whatever_became_of_them(tmp_path: Path) -> None:
    runs = [write(tmp_path, day, status) for day, status in ((1, "failed"), (2, "running"))]
    page = tmp_path / "new" / "folder" / "page.html"
    report_command.report([*runs, runs[0]], tmp_path, page, 10, follow=False)
    assert names(page) == ["1", "2"]
    assert not (tmp_path / "report.html").exists()
    text = page.read_text()
    assert ">failed<" in text
    assert ">killed<" in text  # nobody writes it


def test_what_there_is_not_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no runs under .*start one with `hypergrad run quickst"):
        report_command.report([], tmp_path, None, 10, follow=False)
    write(tmp_path, 1, "failed")
    with pytest.raises(ValueError, match="1 runs under .*, none finished: name those"):
        report_command.report([], tmp_path, None, 10, follow=False)
    with pytest.raises(ValueError, match="no run at .*mine: `hypergrad runs` lists"):
        report_command.report([tmp_path / "mine"], tmp_path, None, 10, follow=False)
    assert not (tmp_path / "report.html").exists()


def test_a_page_is_rewritten_while_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    done, run = write(tmp_path, 1), write(tmp_path, 2, "running", "at first")
    page, seen = tmp_path / "report.html", []

    def meanwhile(seconds: float) -> None:
        assert seconds == report_command.EVERY
        seen.append(page.read_text())
        status = "running" if len(seen) == 1 else "finished"
        RunDirectory(run).update_summary({"status": status, "headline": f"look {len(seen)}"})

    reads = []

    def counted(path: Path) -> run_facts.RunFacts:
        reads.append(path)
        return read_facts(path)

    monkeypatch.setattr(run_facts, "read_facts", counted)
    monkeypatch.setattr(time, "sleep", meanwhile)
    with RunDirectory(run).hold():
        report_command.report([], tmp_path, None, 10, follow=True)
    seen.append(page.read_text())
    assert names(page) == ["2", "1"]
    assert ['http-equiv="refresh"' in text for text in seen] == [True, True, False]
    for text, headline in zip(seen, ("at first", "look 1", "look 2"), strict=True):
        assert f'<p class="verdict">{headline}</p>' in text
    # What has ended is read once, and what is read is said once.
    assert (reads.count(done), reads.count(run)) == (1, 3)
    assert capsys.readouterr().err == f"reading {run}\nreading {done}\n"


def test_a_page_that_is_left_asks_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write(tmp_path, 1, "running")

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with RunDirectory(run).hold(), pytest.raises(KeyboardInterrupt):
        report_command.report([run], tmp_path, None, 10, follow=True)
    assert "refresh" not in (tmp_path / "report.html").read_text()
