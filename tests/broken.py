"""Small runs of every kind, broken off where one likes; edited, damaged, gone on with."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from commands import Call, only_run
from tiny import OVERRIDES

from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop

LEARN = (
    *("run", "from_zero", *OVERRIDES, "repeats=1", "threads=1", "figures=[]"),
    "checkpoint_seconds=1000",
)
DIGITS = ("data.image_size=null", "model=mlp", "model.options.hidden=8", "scale=smoke", "threads=1")
SEARCH = ("baselines", "digits", *DIGITS, "repeats=1", "search.grid.learning_rate=[0.1]",
          "search.grid.factor=[0.2]", "search.grid.momentum=[0.9]", "search.ensemble=1",
          "search.grid.weight_decay=[5e-4]", "figures=[]")  # fmt: skip
STUDY = ("run", "fig2", "data=digits", "model=mlp", "model.options.hidden=8", "scale=smoke",
         "data.image_size=null", "repeats=1", "hypervariance.steps=12", "threads=1", "jobs=1",
         "hypervariance.perturbations=[train]", "figures=[]")  # fmt: skip
IMPROVE = ("run", "improve_digits", *DIGITS[:3], "threads=1", "epochs=1", "figures=[]",
           "repeats=1", "data.train_size=60", "data.test_size=40", "method.batch_size=20",
           "improve.iterations=1", "improve.trajectories=2", "improve.repeats=1",
           "improve.margins=[1]", "improve.final=2", "improve.final_margins=[1]",
           "improve.judged=2", "improve.scales=[]", "improve.steps=[1]",
           "hyperparameters.learning_rate.count=1", "baseline.learning_rate=0.1")  # fmt: skip


class Broken(NamedTuple):
    """A run that was broken off, and the command's answers to a resume."""

    path: Path
    call: Call

    def edit(self, key: str, value: object) -> None:
        file = self.path / ".hydra" / "config.yaml"
        config = yaml.safe_load(file.read_text())
        *groups, name = key.split(".")
        place = config
        for group in groups:
            place = place[group]
        place[name] = value
        file.write_text(yaml.safe_dump(config))

    def files(self) -> dict[str, bytes]:
        own = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {str(p.relative_to(self.path)): p.read_bytes() for p in own if p.name != ".lock"}


def stop_at_save(patch: pytest.MonkeyPatch, count: int) -> None:
    saves = 0
    save = RecordedInnerLoop.save

    def stopping(loop: RecordedInnerLoop, inner: object) -> None:
        nonlocal saves
        save(loop, inner)  # pyright: ignore[reportArgumentType]
        saves += 1
        if saves == count:
            raise RuntimeError("stopped here")

    patch.setattr(RecordedInnerLoop, "save", stopping)


def finish(run: Path) -> None:
    """Make a finished run one that is to go on."""
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))


def begun(call: Call, outputs: Path, *command: str) -> Broken:
    """A run that has come to its end, and is to go on all the same."""
    answer = call(*command, f"outputs={outputs}")
    assert answer.code == 0, answer.err
    run = only_run(outputs)
    finish(run)
    return Broken(run, call)


def broken_off(call: Call, outputs: Path, saves: int = 2) -> Broken:
    """A run that learns, broken off after so many checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        stop_at_save(patch, saves)
        answer = call(*LEARN, f"outputs={outputs}")
    assert answer.code == 1, answer.err
    return Broken(only_run(outputs), call)
