"""The benchmark of ensembles: it comes to its end."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks.ensembles import ALONE, main


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    options = ["--members", "2", "--batch-size", "4", "--rounds", "2", "--no-keep-memory"]
    main([*options, "--output", str(tmp_path)])
    rows = pd.read_csv(tmp_path / "measured.csv")
    assert list(rows["kind"]) == ["schedules"] * 3 + ["descents"] * 3
    assert list(rows["way"]) == [ALONE, "vmap", "ensemble"] * 2
    assert (rows["seconds"] > 0).all()
    assert (rows[rows["way"] == ALONE]["gain"] == 1).all()
    assert json.loads((tmp_path / "provenance.json").read_text())["keeps_freed_memory"] is False
