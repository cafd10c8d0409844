"""Schedules as files: what is written comes back, and nothing else is taken."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from places import ROOT
from torch import Tensor, nn

import hypergrad
from hypergrad.core import strict_json
from hypergrad.core.basis import Cosine, Hats, Linear, Vector, WarmUp, Windows
from hypergrad.core.functional_model import FlatModel
from hypergrad.core.gradient_transforms import ElementwiseClip, NormClip, Transformed
from hypergrad.core.hyperparameters import Hyperparameter as H
from hypergrad.core.inner_optimizer import InnerOptimizer
from hypergrad.core.rules import Rule, adamw, sgd
from hypergrad.core.rules.sgd_schedules import sgd_schedule
from hypergrad.core.schedule import Schedule
from hypergrad.core.schedule_file import FORMAT, Origin

ORIGIN = Origin(
    steps=20, epochs=4, batch_size=32, seed=-3, seeds=(-3, 1), outer_step=3, validation_loss=0.1,
    validation_accuracy=0.9, retrained_test_accuracy=0.8, data="digits", data_fingerprint="ab",
    network="mlp", network_options='{"hidden": 8}', network_source=None, commit="cd",
)  # fmt: skip


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1


def is_vector(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() <= 1


def rich() -> Schedule:
    """One of everything: bases, groups, what is not learned, the loss, a clip."""
    inner = InnerOptimizer(
        adamw(),
        (
            H("learning_rate", WarmUp(0.2, Hats(3)), (1e-3, 1 / 3, 0.1)),
            H("beta1", Cosine(2), (0.9, 0.01)),
            H("decay", Windows(2), 0.1, sets="weight_decay", where=is_matrix),
            H("bare", Hats(2), (0.0, 0.1), sets="weight_decay", where=is_vector, learned=False),
            H("class_weights", Vector(3, Windows(2)), 0.7),
        ),
        NormClip(0.5),
    )
    start = inner.start()
    known = inner.learned_for(FlatModel(network()))
    return Schedule(start, start.bases, known, ORIGIN)


def kept(tmp_path: Path, schedule: Schedule) -> dict[str, Any]:
    schedule.save(tmp_path / "kept.json")
    return json.loads((tmp_path / "kept.json").read_text())


def test_everything_comes_back(tmp_path: Path) -> None:
    schedule = rich()
    schedule.save(str(tmp_path / "a.json"))
    found = Schedule.load(tmp_path / "a.json")
    assert found == schedule  # values to the last bit, and bases
    assert found.learned_for == schedule.learned_for
    assert found.origin == ORIGIN
    assert [found.at(t, 30) for t in range(30)] == [schedule.at(t, 30) for t in range(30)]
    found.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.json", "b.json"]


def test_a_file_says_what_a_person_wants_to_know(tmp_path: Path) -> None:
    found = kept(tmp_path, rich())
    assert found["format"] == FORMAT
    assert found["version"] == 1
    assert found["hypergrad"] == hypergrad.__version__
    assert found["bases"]["learning_rate"] == {
        "kind": "warmup",
        "share": 0.2,
        "basis": {"kind": "hats", "count": 3},
    }
    known = found["learned_for"]
    assert (known["kind"], known["clip"]) == ("AdamW", {"kind": "norm", "limit": 0.5})
    assert known["values"] == {"beta2": 0.999, "epsilon": 1e-8}  # the others are set everywhere
    assert [group["parameters"] for group in known["groups"]] == [
        ["0.weight", "2.weight"],
        ["0.bias", "2.bias"],
    ]
    assert known["groups"][1]["hyperparameters"]["weight_decay"] == "bare"
    assert known["of_loss"] == {"class_weights": "class_weights"}
    assert known["fixed"]["bare"]["values"] == [0.0, 0.1]


def test_what_is_not_known_stays_so(tmp_path: Path) -> None:
    sgd_schedule((0.1, 0.2), (), (1e-3,)).save(tmp_path / "plain.json")
    found = Schedule.load(tmp_path / "plain.json")
    assert found == sgd_schedule((0.1, 0.2), (), (1e-3,))
    assert found.learned_for is None
    assert found.origin is None


def test_a_metric_that_there_is_not_is_left_out(tmp_path: Path) -> None:
    schedule = Schedule({"learning_rate": (0.1,)}, origin=Origin(validation_accuracy=float("nan")))
    assert kept(tmp_path, schedule)["origin"]["validation_accuracy"] is None


# What cannot be written


class Halved:
    """A gradient transform of one's own."""

    def __call__(self, g: Tensor) -> Tensor:
        return g / 2

    def with_derivative(self, g: Tensor) -> Transformed:
        return Transformed(g / 2, lambda rows: rows / 2, torch.ones(()))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule({"a": (0.1, float("nan"))}), "a has values that are no finite numbers"),
        (
            Schedule({"a": (0.1,)}, {"a": Linear(lambda step, horizon: (1.0,), 1)}),
            "cannot be written down: it is code",
        ),
        (
            InnerOptimizer(sgd(), (H("learning_rate"),), Halved()).start(),
            "the gradient transform .* cannot be written down",
        ),
    ],
)
def test_what_is_no_number_or_is_code_is_not_written(
    tmp_path: Path, schedule: Schedule, message: str
) -> None:
    path = tmp_path / "kept.json"
    rich().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        schedule.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.json"]


def test_a_write_that_fails_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept.json"
    rich().save(path)
    before = path.read_bytes()

    def full(*given: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        sgd_schedule((0.1,)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["kept.json"]


def test_a_rule_of_ones_own_is_kept_and_makes_no_optimizer(tmp_path: Path) -> None:
    rule = Rule(lambda g, theta, slots, values, step: (theta - values["a"] * g, ()), {"a": 0.1})
    InnerOptimizer(rule, (H("a", 2, 0.3),)).start().save(tmp_path / "own.json")
    found = Schedule.load(tmp_path / "own.json")
    assert found.at(0, 2) == {"a": 0.3}
    with pytest.raises(ValueError, match="learned for a rule of one's own, not for one of torch"):
        found.optimizer(network())


# What is not read


def changed(*place: str | int, to: object) -> Callable[[dict], None]:
    def change(file: dict) -> None:
        for key in place[:-1]:
            file = file[key]
        file[place[-1]] = to  # type: ignore[index]

    return change


HUGE = 10**400
KNOWN = "learned_for"
WRONG: list[tuple[Callable[[dict], object], str]] = [
    (changed("version", to=2), "its version is 2, and this hypergrad reads 1"),
    (changed("version", to=True), "its version is True"),
    (changed("version", to=[1] * 99), r"its version is \[1, 1"),
    (changed("format", to="other"), 'no "format": "hypergrad schedule"'),
    (lambda file: file.pop("values"), "no values"),
    (changed("surprise", to=1), "unknown key 'surprise'"),
    (changed("s" * 999, to=1), r"unknown key 's{40}\.\.\.'"),
    (changed("values", to=[]), "values: no object"),
    (changed("values", "beta1", to=0.9), "values.beta1: no list"),
    (changed("values", "beta1", 0, to="0.9"), r"values.beta1\[0\]: no number"),
    (changed("values", "beta1", 0, to=True), r"values.beta1\[0\]: no number"),
    (changed("values", "beta1", 0, to=None), r"values.beta1\[0\]: no number"),
    (changed("values", "beta1", 0, to=HUGE), r"values.beta1\[0\]: no finite number"),
    (changed("values", "beta1", to=[0.9]), "1 values of beta1 for a basis of 2"),
    (lambda file: file["bases"].pop("beta1"), "bases: no beta1"),
    (changed("bases", "other", to={"kind": "hats", "count": 1}), "bases: unknown key 'other'"),
    (changed("bases", "beta1", "kind", to="spline"), "bases.beta1: no basis 'spline'"),
    (changed("bases", "beta1", "count", to=2.0), "bases.beta1.count: no whole number"),
    (changed("bases", "beta1", "count", to=-2), "bases.beta1.count: out of range"),
    (changed("bases", "beta1", "count", to=2**64), "bases.beta1.count: out of range"),
    (changed("bases", "beta1", "count", to=2**60), "2 values of beta1 for a basis of 1152921"),
    (changed("bases", "beta1", "more", to=1), "bases.beta1: unknown key 'more'"),
    (changed("bases", "learning_rate", "share", to=1.5), "learning_rate: a warm-up over 1.5"),
    (changed("bases", "learning_rate", "basis", to=None), "learning_rate.basis: no object"),
    (changed(KNOWN, "kind", to="Shampoo"), "a schedule is for one of SGD"),
    (changed(KNOWN, "kind", to=3), "learned_for.kind: no text"),
    (changed(KNOWN, "options", "fast", to=True), "no option fast"),
    (changed(KNOWN, "values", "epsilon", to="small"), "learned_for.values.epsilon: no number"),
    (changed(KNOWN, "values", "momentum", to=0.9), "AdamW takes no momentum"),
    (
        changed(KNOWN, "groups", 0, "hyperparameters", "beta2", to="ghost"),
        "'ghost' sets a value, but has none",
    ),
    (
        changed(KNOWN, "groups", 0, "hyperparameters", "momentum", to="beta1"),
        "AdamW takes no momentum",
    ),
    (changed(KNOWN, "groups", 0, "parameters", to=["0.bias"]), "two groups hold 0.bias"),
    (changed(KNOWN, "groups", 0, "parameters", to=["a", "a"]), "two groups hold a"),
    (changed(KNOWN, "groups", 0, "parameters", to=[]), "two groups hold all parameters"),
    (
        changed(KNOWN, "groups", 0, "parameters", 0, to="a\nb"),
        r"parameters\[0\]: 'a\\nb': too long, or no text of one line",
    ),
    (
        changed(KNOWN, "groups", 0, "parameters", 0, to="x" * 10_001),
        r"parameters\[0\]: 'x{40}\.\.\.': too long",
    ),
    (changed(KNOWN, "of_loss", "other", to="ghost"), "'ghost' sets a value, but has none"),
    (changed(KNOWN, "fixed", "bare", "values", to=[1]), "fixed.bare: 1 values for a basis of 2"),
    (changed(KNOWN, "clip", "kind", to="soft"), "learned_for.clip: no clip 'soft'"),
    (changed(KNOWN, "clip", "limit", to=-1), "a gradient clip of -1"),
    (changed("origin", "steps", to=1.5), "origin.steps: no whole number"),
    (changed("origin", "author", to="me"), "origin: unknown key 'author'"),
    (changed("origin", "seeds", to=["0"]), r"origin.seeds\[0\]: no whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_damaged_file_is_refused_in_a_line_that_says_where(
    tmp_path: Path, change: Callable[[dict], object], message: str
) -> None:
    file = kept(tmp_path, rich())
    change(file)
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(file))
    with pytest.raises(ValueError, match=message) as refused:
        Schedule.load(path)
    text = str(refused.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert len(text) < len(str(path)) + 300


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b'{"format": "hypergrad schedule", "version": 1', "Expecting ',' delimiter"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
        (b"\xff\xfe", "no UTF-8 text"),
        (b"[]", 'no "format"'),
        (b"\x80\x04", "no UTF-8 text"),
    ],
)
def test_what_is_no_json_of_ours_is_refused_in_a_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        Schedule.load(tmp_path / "x.json")
    assert "\n" not in str(refused.value)


def test_a_number_beyond_the_largest_is_not_read_as_infinity(tmp_path: Path) -> None:
    text = json.dumps(kept(tmp_path, rich())).replace("0.999", "1e999")
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match="values.beta2: no finite number"):
        Schedule.load(tmp_path / "x.json")


def test_a_file_that_is_too_large_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich().save(tmp_path / "x.json")
    monkeypatch.setattr(strict_json, "LARGEST", 2**10)
    with pytest.raises(ValueError, match="larger than"):
        Schedule.load(tmp_path / "x.json")


def test_bases_do_not_nest_for_ever(tmp_path: Path) -> None:
    file = kept(tmp_path, rich())
    for _ in range(8):
        file["bases"]["beta1"] = {"kind": "warmup", "share": 0.1, "basis": file["bases"]["beta1"]}
    (tmp_path / "x.json").write_text(json.dumps(file))
    with pytest.raises(ValueError, match="bases nested too deeply"):
        Schedule.load(tmp_path / "x.json")


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nobody could read .*: values: 'two\\nlines': too long"):
        Schedule({"two\nlines": (0.1,)}).save(tmp_path / "x.json")
    assert os.listdir(tmp_path) == []


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder: .*`hypergrad export`"):
        Schedule.load(tmp_path)
    (tmp_path / "schedule.json").write_text('{"schedules": []}')
    with pytest.raises(ValueError, match="hypergrad.load_schedule reads a run's schedule.json"):
        Schedule.load(tmp_path / "schedule.json")
    with pytest.raises(ValueError, match="none.json is no file") as refused:
        Schedule.load(tmp_path / "none.json")
    assert str(refused.value) == f"{tmp_path / 'none.json'} is no file"
    if Path("/dev/zero").exists():
        with pytest.raises(ValueError, match="/dev/zero is no file"):
            Schedule.load("/dev/zero")


# Without the runner

SCRIPT = """
import sys
import torch
from hypergrad import Schedule

schedule = Schedule.load(sys.argv[1])
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
optimizer = schedule.optimizer(model)
scheduler = schedule.scheduler(optimizer, 10)
for _ in range(10):
    optimizer.zero_grad()
    model(torch.ones(2, 4)).sum().backward()
    schedule.clip(model.parameters())
    optimizer.step()
    scheduler.step()
runner = ("hydra", "omegaconf", "typer", "pandas", "matplotlib", "sklearn", "rich", "joblib")
packages = {name.partition(".")[0] for name in sys.modules}
own = {name.split(".")[1] for name in sys.modules if name.startswith("hypergrad.")}
print(sorted(packages.intersection(runner)), sorted(own))
"""


def test_a_script_needs_nothing_but_the_core(tmp_path: Path) -> None:
    rich().save(tmp_path / "kept.json")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "kept.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[] ['core', 'version']"


def test_every_clip_is_kept(tmp_path: Path) -> None:
    for clip in (ElementwiseClip(3.0), NormClip(1.0)):
        InnerOptimizer(sgd(), (H("learning_rate"),), clip).start().save(tmp_path / "x.json")
        known = Schedule.load(tmp_path / "x.json").learned_for
        assert known is not None
        assert known.clip == clip
