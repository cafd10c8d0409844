"""What a page says of runs, and that nothing in their files can say more than text."""

import json
import math
import re
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from markup import HOSTILE, Reader

from hypergrad.reporting.page import page
from hypergrad.reporting.run_facts import Picture, RunFacts, read_facts
from hypergrad.runs.directory import RunDirectory

NOW = datetime(2026, 1, 31, 12, 0, 5)
RECORDS = Path(__file__).parents[2] / "experiments"


def write(run: Path, name: str = "summary.json", **content: object) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / name).write_text(json.dumps(content))
    return run


def result(seed: int, method: str, test: float, **more: object) -> dict[str, object]:
    return {"seed": seed, "method": method, "test_accuracy": test, "diverged": False, **more}


def small(run: Path, **more: object) -> Path:
    results = [
        *(result(seed, "sgd", 0.5 + seed / 10) for seed in (0, 1)),
        *(result(seed, "ours_retrained", 0.9, outer_step=3) for seed in (0, 1)),
    ]
    fields = {"experiment": "mine", "status": "finished", "results": results, **more}
    return write(run, **{"headline": "ours 90 %", "settings": {"data": "digits"}, **fields})


def test_results_are_means_over_seeds_ours_first(tmp_path: Path) -> None:
    text = page([read_facts(small(tmp_path / "a" / "run"))], NOW)
    read = Reader(text)
    assert "<title>a/run: hypergrad report</title>" in text
    assert "As of 2026-01-31 12:00:05." in read.text
    rows = re.findall(r"<tr><th scope=.row.>(.*?)</th><td[^>]*>(.*?)</td>", text)
    assert rows[:2] == [
        ("learned schedule (ours)", "90.00 ± 0.00"),
        ("plain SGD, a common setting", "55.00 ± 7.07"),
    ]
    assert rows[2:6] == [
        ("0", "sgd"),
        ("1", "sgd"),
        ("0", "ours_retrained"),
        ("1", "ours_retrained"),
    ]
    assert "ours 90 %" in read.text


def test_how_to_repeat_it_is_a_command_of_the_first_session(tmp_path: Path) -> None:
    run = small(tmp_path / "run")
    first = ["/opt/bin/__main__.py", "run", "mine", "data.path=my images", "x=$(rm -r /)"]
    sessions = [{"command": first}, {"command": ["hypergrad", "run", "--resume", "x"]}]
    write(run, "provenance.json", command=first, sessions=sessions, git_commit="abc", seeds=[0, 1])
    facts = read_facts(run)
    assert facts.command == "hypergrad run mine 'data.path=my images' 'x=$(rm -r /)'"
    assert facts.origin == {"commit": "abc", "seeds": "0 1"}
    write(tmp_path / "other", "provenance.json", command=["my script.py", "-x"])
    assert read_facts(tmp_path / "other").command == "'my script.py' -x"  # the library's
    assert "hypergrad run mine &#x27;data.path=my images&#x27;" in page([facts], NOW)


def test_several_runs_begin_with_a_table_of_them(tmp_path: Path) -> None:
    runs = [read_facts(small(tmp_path / name)) for name in ("b", "a")]
    text = page(runs, NOW, remark="The newest 2 of 9 runs.")
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", text) == [
        "2 runs",
        f"{tmp_path.name}/b",
        f"{tmp_path.name}/a",
    ]
    assert re.findall(r"href=\"(#.*?)\"", text) == ["#run-0", "#run-1"]
    assert re.findall(r"id=\"(.*?)\"", text) == ["run-0", "run-1"]
    assert "The newest 2 of 9 runs." in text


def written_all_over(run: Path, text: str) -> RunFacts:
    """A run with a member whose every text is the same."""
    small(
        run,
        **dict.fromkeys(("experiment", "headline", "message", "status"), text),
        settings={text: text, "data": text, "scale": [text]},
        results=[{**result(0, text, 0.5), "seed": text, "outer_step": text}],
        members=["inside"],
    )
    write(run, "provenance.json", command=["hypergrad", text], git_commit=text, device=text)
    small(run / "inside", headline=text)
    pictures = Picture("fig1", "T", b"", text), Picture("fig4", "T", b"x")
    return replace(read_facts(run), pictures=pictures)


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_run_end_as_texts(tmp_path: Path, text: str) -> None:
    hostile = written_all_over(tmp_path / text.replace("/", "∕"), text)
    plain = written_all_over(tmp_path / "harmless", "harmless")
    found, expected = (Reader(page([each, each], NOW)) for each in (hostile, plain))
    # The same elements with the same attributes, whatever the texts are.
    assert [(tag, sorted(own)) for tag, own in found.tags] == [
        (tag, sorted(own)) for tag, own in expected.tags
    ]
    assert found.text.count(text) >= 20


def test_nothing_is_loaded_and_only_its_own_script_runs(tmp_path: Path) -> None:
    read = Reader(page([read_facts(small(tmp_path / "run"))], NOW))
    policy = next(own["content"] for tag, own in read.tags if own.get("http-equiv") is not None)
    assert policy is not None
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts["default-src"] == "'none'"
    assert parts["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", parts["script-src"])
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", parts["style-src"])
    addresses = [own[name] or "" for _, own in read.tags for name in ("src", "href") if name in own]
    assert {address.partition(":")[0] for address in addresses} <= {"data", "#run-0"}
    assert "http:" not in read.text
    assert "https:" not in read.text


def test_a_page_that_is_followed_loads_itself_again(tmp_path: Path) -> None:
    running = RunFacts(tmp_path, status="running", fraction=0.4)
    again = Reader(page([running], NOW, refresh=5))
    metas = [own.get("content") for tag, own in again.tags if own.get("http-equiv") == "refresh"]
    assert metas == ["5"]
    assert "running, 40 %" in again.text
    assert "refresh" not in page([running], NOW)


def test_headings_tables_and_pictures_have_their_names(tmp_path: Path) -> None:
    facts = replace(read_facts(small(tmp_path / "run")), pictures=(Picture("fig1", "T", b"x"),))
    read = Reader(page([facts, facts], NOW))
    assert [tag for tag, _ in read.tags if re.fullmatch("h[123]", tag)] == ["h1", "h2", "h2", "h2"]
    heads = [own for tag, own in read.tags if tag == "th"]
    assert {own["scope"] for own in heads} == {"col", "row"}
    count = {name: sum(tag == name for tag, _ in read.tags) for name in ("table", "caption")}
    assert count["table"] == count["caption"] == 5
    assert {own["alt"] for tag, own in read.tags if tag == "img"} == {
        f"T (fig1) of {tmp_path.name}/run: ours 90 %"
    }
    assert next(own for tag, own in read.tags if tag == "html")["lang"] == "en"


def test_a_smoke_run_says_that_it_shows_nothing(tmp_path: Path) -> None:
    text = page([read_facts(small(tmp_path / "run", settings={"scale": "smoke"}))], NOW)
    assert "Smoke scale: shows that everything runs, and nothing about accuracy." in text


@pytest.mark.parametrize(
    "content",
    [b"{", b"\xff", b"[" * 100_000, b'{"a": ' + b"[" * 100_000, b"9" * 5000, b"[1, 2]", b""],
)
def test_a_damaged_file_is_told_and_the_rest_is_there(tmp_path: Path, content: bytes) -> None:
    run = small(tmp_path / "run")
    (run / "provenance.json").write_bytes(content)
    facts = read_facts(run)
    assert facts.headline == "ours 90 %"
    assert facts.command == ""
    assert len(facts.damage) == (content != b"[1, 2]")
    (run / "summary.json").write_bytes(content)
    facts = read_facts(run)
    assert facts.status == "damaged"
    assert page([facts], NOW)


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    odd = [math.nan, math.inf, True, "0.5", None, [0.5], 10**400]
    results = [{**result(0, "sgd", 0), "test_accuracy": value} for value in odd]
    run = small(tmp_path / "run", results=[*results, 3, result(1, "sgd", 0.25)], progress=7)
    write(
        run,
        "provenance.json",
        wall_seconds="long",
        sessions=3,
        command="rm -r",
        seeds={"a": [[[[]]]]},
    )
    facts = read_facts(run)
    assert [row.test for row in facts.results] == [None] * len(odd) + [0.25]
    assert (facts.seconds, facts.command, facts.origin) == (None, "", {"seeds": "a: …"})
    assert "25.00" in page([facts], NOW)


def test_what_has_ended_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(small(tmp_path / "run", status="running", headline="early"))
    status = RunDirectory.status

    def ends_meanwhile(self: RunDirectory) -> str:
        told = status(self)
        run.update_summary({"status": "finished", "headline": "late"})
        return told

    monkeypatch.setattr(RunDirectory, "status", ends_meanwhile)
    with run.hold():
        facts = read_facts(run.path)
    # It is looked at again, or it is whole: never an early result that is taken for the last.
    assert (facts.status, facts.headline) == ("running", "late")


def test_a_figure_that_cannot_be_drawn_is_told(tmp_path: Path) -> None:
    run = small(tmp_path / "run", figures=["fig1", "fig9"])
    (run / "outer.csv").write_text("seed,kind\n<b>,1\n")
    (picture,) = read_facts(run).pictures
    assert picture.name == "fig1"
    assert not picture.png
    assert "lacks the column" in picture.why
    assert "not drawn: " in page([read_facts(run)], NOW)


def test_members_are_folders_that_a_run_lists(tmp_path: Path) -> None:
    run = small(tmp_path / "run", members=["a", "../other", "link", "b", {"name": "c"}, 3])
    for name in ("a", "b", "c", "unlisted"):
        small(run / name)
    small(tmp_path / "other")
    (run / "link").symlink_to(tmp_path / "other")
    assert [member.path.name for member in read_facts(run).members] == ["a", "b", "c"]
    write(run, "members.json", sweep=True, members=[{"name": "unlisted"}])
    write(run, experiment="mine", status="finished")
    assert [member.path.name for member in read_facts(run).members] == ["unlisted"]


def test_a_record_is_shown_with_its_figures_and_table(tmp_path: Path) -> None:
    shutil.copytree(RECORDS / "table1" / "record", tmp_path / "record")
    facts = read_facts(tmp_path / "record")
    assert facts.table1 is not None
    assert facts.table1.columns == ["MNIST", "Digits"]
    assert len(facts.members) == 20
    assert not any(member.pictures for member in facts.members)
    text = page([facts], NOW)
    assert "<strong>98.43 ± 0.27 (n=3)</strong>" in text
    assert text == page([read_facts(tmp_path / "record")], NOW)
    (drawn,) = read_facts(RECORDS / "quickstart" / "record").pictures
    assert drawn.png.startswith(b"\x89PNG")
