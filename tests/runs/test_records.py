"""Records: a changed byte, another name, a missing checksum."""

import json
from pathlib import Path

import pytest

from hypergrad.runs.records import read_record, write_record

CONTENT = {"accuracy": 0.8, "losses": [0.1 + 0.2, 5e-324], "none": None, "text": "α"}


def test_a_record_reads_back(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", CONTENT)
    assert read_record(tmp_path / "a.json") == CONTENT
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "b.json")


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, CONTENT)
    whole = path.read_bytes()
    for place in range(len(whole) - 1):  # the last is a line's end
        for bit in (0, 3):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                found = read_record(path)
            except ValueError:
                continue
            assert found == CONTENT  # such as another way to write the same number


def test_another_name_is_seen_and_what_carries_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_record(path, CONTENT)
    path.rename(tmp_path / "b.json")
    with pytest.raises(ValueError, match="does not match its content and its name"):
        read_record(tmp_path / "b.json")
    for text in (json.dumps(CONTENT), "[]", "", "{"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no checksum|no JSON"):
            read_record(path)
