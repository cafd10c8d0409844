"""trainings.csv: what is written reads back to the last bit; a torn row is cut off."""

import math
from pathlib import Path

import pytest

from hypergrad.core.budget import Spent
from hypergrad.core.move_space import Candidate
from hypergrad.drivers.improve.records import Records
from hypergrad.training.improvement.trainings import Key, Outcome, Training

DONE = [
    (
        Training(Key("ladder", 0), Candidate((0.0, 0.0), 0.1), name="x0.1"),
        Outcome(0.1 + 0.2, 1 / 3, False, Spent(1.25, 10, 0, 1)),
    ),
    (
        Training(Key("direction", 2), Candidate((1e-17, -1 / 7), 0.4), 1.3, True, 2, "here"),
        Outcome(2.0, 0.5, False, Spent(0.1, 20, 10, 1), (math.pi, -1e-300)),
    ),
    (
        Training(Key("search", 1), Candidate((0.5, 0.0), 1.6), 1.3, False, 1, "step 1"),
        Outcome(math.inf, 0.1, True, Spent(0.0, 3, 0, 1)),
    ),
]


def write(path: Path) -> None:
    records = Records(path)
    for training, outcome in DONE:
        records.append(3, training, outcome)
    records.append(4, *DONE[0])
    records.close()


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "trainings.csv")
    assert Records(tmp_path / "trainings.csv").of(3) == DONE
    assert Records(tmp_path / "trainings.csv").of(4) == DONE[:1]
    assert Records(tmp_path / "none.csv").of(3) == []


def test_a_row_that_was_cut_off_is_dropped_wherever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "trainings.csv"
    write(path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        records = Records(path)
        kept = records.of(3)
        assert kept == DONE[: len(kept)]
        assert len(kept) == min(max(whole[:length].count(b"\n") - 1, 0), 3)
        records.append(5, *DONE[1])
        assert records.of(5) == [DONE[1]]
        records.close()


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "trainings.csv"
    write(path)
    path.write_text(path.read_text().replace("0.30000000000000004", "much"))
    with pytest.raises(ValueError, match="trainings.csv is damaged"):
        Records(path).of(3)
