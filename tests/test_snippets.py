"""The README and docs/library.md, run as they stand: what a reader copies works."""

import re
from itertools import cycle
from pathlib import Path

import pytest
import torch
from torch import nn

from hypergrad.data import load
from hypergrad.data.sources import TensorBatches

ROOT = Path(__file__).resolve().parents[1]


def snippets(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What a page takes for granted: a module, its data, a loss."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    train = load("digits", train_size=1200).train
    held = load("digits").train.take(torch.arange(1200, 1297))
    images, labels = train.images.flatten(1), train.labels
    given: dict[str, object] = {
        "module": nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10)),
        "inputs": images,
        "labels": labels,
        "held_inputs": held.images.flatten(1),
        "held_labels": held.labels,
        "total": 20,
    }
    return given


def test_the_readme(names: dict[str, object], tmp_path: Path) -> None:
    batches = TensorBatches((names["inputs"], names["labels"]), 32, (0, "readme"))  # type: ignore[arg-type]
    names["batches"] = batches
    names["validation"] = [(names["held_inputs"], names["held_labels"])]
    for code in snippets("README.md"):
        exec(compile(code, "README.md", "exec"), names)
    history = names["history"]
    assert isinstance(history, list)
    assert set(history[-1].schedule) == {"learning_rate", "decay", "label_smoothing"}
    assert history[-1].validation_loss < history[0].validation_loss
    assert (tmp_path / "learned.json").is_file()


def test_the_page_about_a_search(
    names: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec("import torch", names)
    first = next(code for code in snippets("docs/library.md") if "inner = InnerOptimizer" in code)
    exec(compile(first, "library.md", "exec"), names)
    search, in_a_folder = [code for code in snippets("docs/library.md") if "Search(" in code]
    exec(compile(search, "library.md", "exec"), names)
    assert capsys.readouterr().out.startswith("0 ")
    assert {path.name for path in tmp_path.iterdir()} >= {"learned.json", "checkpoints"}
    exec(compile(in_a_folder, "library.md", "exec"), names)
    (run,) = (tmp_path / "outputs" / "mine").iterdir()
    assert (run / "outer.csv").is_file()


@pytest.mark.slow
def test_the_page_about_improving(names: dict[str, object], tmp_path: Path) -> None:
    snippet = next(code for code in snippets("docs/library.md") if "found = improve(" in code)
    names["Network"] = lambda: nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
    exec("import torch", names)
    exec(compile(snippet, "library.md", "exec"), names)
    assert (tmp_path / "improved.json").is_file()
    found = names["found"]
    assert found.found.name in ("base", "ladder", "end")  # type: ignore[attr-defined]
    assert "against the base on 4 fresh trainings" in found.summary  # type: ignore[attr-defined]


def test_a_plain_loop_with_a_schedule(names: dict[str, object]) -> None:
    loop = next(code for code in snippets("docs/library.md") if "scheduler.step()" in code)
    pair = (names["inputs"], names["labels"])
    names["batches"] = cycle([pair])
    exec(compile(loop, "library.md", "exec"), names)
    loss = nn.functional.cross_entropy(names["module"](pair[0]), pair[1])  # type: ignore[operator]
    assert loss < 1.5
