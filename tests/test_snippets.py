"""The README and the pages of docs/, run as they stand: what a reader copies works."""

import re
from collections import OrderedDict
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


# What makes a page's training small; each must be found on it.
SMALL = {
    "docs/tutorial.md": {
        "epochs, batch_size = 5, 32": "epochs, batch_size = 1, 32",
        "outer_steps=8": "outer_steps=2",
        "(0.001, 0.003, 0.01, 0.03, 0.1)": "(0.001, 0.1)",
        "range(100, 108)": "range(100, 102)",
    },
    "docs/library.md": {"epochs=10": "epochs=1", "iterations=3": "iterations=0"},
}
PAGES = sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
WITH_CODE = [page for page in PAGES if snippets(page)]


def test_every_page_with_code_is_run() -> None:
    assert WITH_CODE == sorted(SMALL)


def test_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "\n".join(snippets("docs/tutorial.md"))
    for long, short in SMALL["docs/tutorial.md"].items():
        assert code.count(long) == 1
        code = code.replace(long, short)
    names: dict[str, object] = {}
    exec(compile(code, "tutorial.md", "exec"), names)
    history = names["history"]
    assert isinstance(history, list)
    assert history[1].validation_loss < history[0].validation_loss
    assert (tmp_path / "learned.json").is_file()


@pytest.mark.slow
def test_the_tutorial_comes_to_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile("\n".join(snippets("docs/tutorial.md")), "tutorial.md", "exec"), {})
    result = re.compile(r"^([\d.]+) % learned, ([\d.]+) % (constant 0.001|cosine)", re.M)
    printed = result.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    found = result.findall(capsys.readouterr().out)
    assert [name for *_, name in found] == [name for *_, name in printed]
    # Another processor rounds differently: by so many points the means may differ.
    for (own, rival, _), (own_printed, rival_printed, _) in zip(found, printed, strict=True):
        assert float(own) == pytest.approx(float(own_printed), abs=1.0)
        assert float(rival) == pytest.approx(float(rival_printed), abs=1.5)


@pytest.mark.slow
def test_every_snippet_about_the_library(
    names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, as a reader goes through the page."""
    names["Network"] = lambda: nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
    layers = {"body": nn.Linear(64, 12), "bend": nn.Tanh(), "head": nn.Linear(12, 10)}
    names["module"] = nn.Sequential(OrderedDict(layers))
    inputs, labels = names["inputs"], names["labels"]
    names["batches"] = iter([(inputs, labels)] * 40)  # half of them for the first loop
    names["teacher_logits"] = nn.functional.one_hot(labels, 10).float()  # type: ignore[arg-type]
    names["source"] = labels % 2  # type: ignore[operator]
    for code in snippets("docs/library.md"):
        for long, short in SMALL["docs/library.md"].items():
            code = code.replace(long, short)
        exec(compile(code, "library.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {"learned.json", "improved.json"}
