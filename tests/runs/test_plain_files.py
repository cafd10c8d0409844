"""Files of a run directory: what is read, and what is refused by its name."""

import gzip
import json
import os
from pathlib import Path

import pytest

from hypergrad.runs import plain_files
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import (
    check_member_name,
    check_plain,
    check_tree,
    read_csv_bytes,
    read_json,
    read_plain,
)


def test_a_plain_file_is_read_whole_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_plain(path, 5) == b"12345"
    with pytest.raises(ValueError, match=r"file holds more than 0 KiB"):
        read_plain(path, 4)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "nothing", 4)


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "device"])
def test_nothing_but_a_plain_file_is_opened(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").write_text("{}")
    path = tmp_path / "strange"
    if what == "link":
        path.symlink_to(tmp_path / "file")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    kind = {"device": "no file"}.get(what, f"a {what}")
    with pytest.raises(ValueError, match=f"is {kind}"):
        read_plain(path, 10)
    with pytest.raises(ValueError, match=f"is {kind}"):
        check_plain(path)
    check_plain(tmp_path / "file")
    check_plain(tmp_path / "nothing")


def test_a_tree_of_plain_files_has_no_link_at_any_depth(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "a" / "b").mkdir(parents=True)
    (run / "a" / "b" / "file").touch()
    (tmp_path / "latest").symlink_to(run)
    check_tree(tmp_path / "latest")  # the run itself may be reached by one
    (run / "a" / "b" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"a/b/link is a link, where a run has a plain file"):
        check_tree(run)


def test_an_archive_is_bounded_by_what_it_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_files, "CSV_LIMIT", 1000)
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress(b"x" * 1000))
    assert read_csv_bytes(path) == b"x" * 1000
    path.write_bytes(gzip.compress(b"x" * 1001))
    with pytest.raises(ValueError, match="more than"):
        read_csv_bytes(path)
    path.write_bytes(gzip.compress(b"x" * 1000)[:-9])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        read_csv_bytes(path)


def test_json_is_as_deep_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}
    path.write_text("[" * 10**5)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)


@pytest.mark.parametrize(
    "name", ["../victim", "a/b", "..", ".hidden", "", "/tmp", "a\\b", "a\nb", "x" * 300, 3, None]
)
def test_a_member_is_a_folder_of_its_run(tmp_path: Path, name: object) -> None:
    with pytest.raises(ValueError, match="is no plain folder name"):
        check_member_name(name)
    with pytest.raises(ValueError, match="is no plain folder name"):
        RunDirectory(tmp_path).member(name)  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist_shared", "0_seed=0", "digits_ours_seed0", "1_a=-1,b=2.5"])
def test_members_have_the_names_that_sweeps_give(name: str) -> None:
    assert check_member_name(name) == name


def test_a_member_is_no_link(tmp_path: Path) -> None:
    run, victim = tmp_path / "run", tmp_path / "victim"
    run.mkdir()
    victim.mkdir()
    (run / "member").symlink_to(victim)
    with pytest.raises(ValueError, match="is no folder"):
        RunDirectory(run).member("member")
    assert list(victim.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    run, victim = RunDirectory(tmp_path / "run"), tmp_path / "victim"
    run.path.mkdir()
    victim.write_text("mine")
    (run.path / ".lock").symlink_to(victim)
    assert not run.is_held()
    with pytest.raises(ValueError, match=r"\.lock is a link"), run.hold():
        pass
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "entries",
    [{"headline": [1]}, {"progress": [1]}, {"progress": {"fraction": "x"}}, {"results": {}},
     {"status": None}, {"settings": 3}, {"progress": {"fraction": float("inf")}}],
)  # fmt: skip
def test_a_summary_of_other_kinds_is_damaged(tmp_path: Path, entries: dict) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished"} | entries))
    run = RunDirectory(tmp_path)
    with pytest.raises(ValueError, match="is damaged"):
        run.read_summary()
    assert run.status() == "damaged"
