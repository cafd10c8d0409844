import os
import subprocess
import sys
from pathlib import Path

import pytest

from hypergrad.runs.atomic import (
    remove_leftovers,
    write_bytes_atomically,
    write_text_atomically,
)


def test_content_is_replaced_whole_and_nothing_else_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text_atomically(path, "old\n")
    write_text_atomically(path, "new α\n")
    assert path.read_bytes() == "new α\n".encode()
    write_bytes_atomically(path, b"")
    assert path.read_bytes() == b""
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failure_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "a.json"
    write_text_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_leftover_of_a_kill_is_removed_and_other_files_are_not(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from hypergrad.runs.atomic import write_text_atomically\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "write_text_atomically(pathlib.Path(sys.argv[1]), 'new')\n"
    )
    path = tmp_path / "a.json"
    path.write_text("old")
    (tmp_path / ".hidden").write_text("")
    result = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert result.returncode == -9
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 3
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden", "a.json"]
    remove_leftovers(tmp_path / "missing")
