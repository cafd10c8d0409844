"""The command line as a user meets it: exit codes, one-line errors, what is left on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import Call, only_run
from places import ROOT

from hypergrad.cli import app as cli
from hypergrad.config.overrides import choices

SMALL = ("scale=smoke", "outer.steps=1", "epochs=1", "hd.enabled=false")
# What keeps an experiment from downloading anything.
DIGITS_28 = ("data=digits", "data.image_size=28")
SMOKE = {
    "fig1": ("data=digits", "model=wrn_16_1"),
    "fig1_mnist": ("data=digits", "model=mlp"),
    "fig2": DIGITS_28,
    "fig2_mnist": DIGITS_28,
    "fig3": DIGITS_28,
    "improve_mnist": ("data=digits", "model=mlp", "data.train_size=400"),
    "fig3_mnist": DIGITS_28,
    # The whole grid takes its time: `make smoke` does it.
    "table1": ("table.columns=[mnist]", *DIGITS_28),
    "table1_cpu": ("table.columns=[mnist]", *DIGITS_28),
    "baselines/cifar10": (
        "data=digits",
        "search.grid.learning_rate=[0.2]",
        "search.grid.momentum=[0.9]",
    ),
    "baselines/cifar10_cpu": (
        "data=digits",
        "search.grid.learning_rate=[0.2]",
        "search.grid.momentum=[0.9]",
    ),
    "baselines/digits": ("search.grid.learning_rate=[0.1,0.2]", "search.grid.weight_decay=[5e-4]"),
    "baselines/digits_cpu": ("search.grid.learning_rate=[0.1]", "search.grid.momentum=[0.9]"),
    "baselines/mnist": DIGITS_28,
    "baselines/mnist_cpu": DIGITS_28,
    "baselines/svhn": DIGITS_28,
}
FIGURES_OF = {
    "adamw": ("fig1", "fig4"),
    "adamw_groups": ("fig1", "fig4"),
    "label_smoothing": ("fig1", "fig4"),
    "from_zero": ("fig1", "fig4"),
    "improve_adamw": (),
    "improve_digits": (),
    "improve_mnist": (),
    "quickstart": (),
    "fig1": ("fig1", "fig4"),
    "fig1_mnist": ("fig1", "fig4"),
    "fig2_mnist": ("fig2",),
    "fig3_mnist": ("fig3",),
    "table1_cpu": ("table1",),
    "baselines": ("fig5",),
}
WRONG_NETWORK = """
import torch
from torch import nn


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.detach().tanh() ** 2)


class Net(nn.Sequential):
    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), Activation(), nn.Linear(8, classes))


class Activation(nn.Module):
    def forward(self, x):
        return Wrong.apply(x)
"""
LEARNING = ("from_zero", "fig1")  # the others have tests of their own for what they write


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ("frobnicate", "`hypergrad -h` shows how"),
        ("run", "hypergrad run quickstart"),
        ("run seed=1", "name the experiment first"),
        ("run nope", "use one of"),
        ("run from_zero fig1", "write key=value"),
        ("run from_zero --bad", "`hypergrad run -h` shows how"),
        ("run from_zero --cfg all", "--cfg job"),
        ("run from_zero seed=0,1", "add -m"),
        ("run from_zero -m --cfg job", "drop -m"),
        ("run from_zero -m seed=0,x", "whole number"),
        ("run from_zero budget=soon", "write 2h, 30min, 100trials or 2e6gradients"),
        ("run cifar10", "unknown experiment 'cifar10'"),
        ("run table1 search=grid", "choose rows"),
        ("run table1 table.columns=[imagenet]", "use some of cifar10, digits, mnist, svhn"),
        ("baselines", "name the data set first, as in: hypergrad baselines mnist"),
        ("baselines imagenet", "unknown baselines 'imagenet': use one of cifar10, cifar10_cpu"),
        ("baselines seed=1", "name the data set first"),
        ("baselines digits --search best", "unknown search 'best'"),
        ("baselines digits --ensemble many", "use auto, or how many"),
        ("baselines digits --executor slurm", "use one of local, ray"),
        ("baselines digits --jobs 0", "`hypergrad baselines -h` shows how"),
        ("baselines digits --search random search.trials=null", "a search needs an end"),
        ("baselines digits budget=2h", "a grid is searched whole"),
        ("baselines digits search.grid.lr=[0.1]", "use learning_rate, factor"),
        ("baselines --resume /nonexistent", "hypergrad runs"),
        ("table /nonexistent", "no run directory"),
        ("table --format html", "no run of table1"),
        ("run --resume /nonexistent", "hypergrad runs"),
        ("run --resume . --dry-run", "drop"),
        ("run from_zero data.train_size=5", "choose at least 10"),
        ("run from_zero model.options.hiden=3", "hiden"),
        ("run from_zero method.batch_size=9999", "method.batch_size=128, or more images"),
        ("run from_zero -m data.train_size=5,6", "2 of 2 failed"),
        ("plot nope", "use one of fig1"),
        ("plot --run /nonexistent", "hypergrad runs"),
        ("plot --outputs /nonexistent", "hypergrad run quickstart"),
        ("data check nope", "digits"),
        ("data check mnist --root /nonexistent", "hypergrad data download"),
        ("data download digits", "mnist"),
        ("check nope", "use one of"),
        ("check --steps 1", "--steps"),
    ],
)
def test_bad_usage(call: Call, tmp_path: Path, arguments: str, remedy: str) -> None:
    words = arguments.split()
    if words[0] == "run" and "--resume" not in words and len(words) > 2:
        words.append(f"outputs={tmp_path / 'outputs'}")
    answer = call(*words)
    assert answer.code == 2
    assert remedy in answer.err
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1 or "-m" in words
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written(call: Call, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = call("run", "from_zero", *SMALL, f"outputs={tmp_path / 'file'}")
    assert answer.code == 2
    assert "name a folder that can be written" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=() if name == "from_zero" else pytest.mark.slow)
        for name in [
            *choices("experiment"),
            *(f"baselines/{name}" for name in choices("experiment/baselines")),
        ]
    ],
)
def test_experiment_at_smoke_scale(call: Call, tmp_path: Path, experiment: str) -> None:
    wanted = ("scale=smoke", f"outputs={tmp_path}", *SMOKE.get(experiment, ()))
    command = ("run", experiment) if "/" not in experiment else experiment.split("/")
    answer = call(*command, *wanted)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    for name in (".hydra/config.yaml", ".hydra/overrides.yaml"):
        assert (run / name).is_file()
    assert list(run.glob("**/provenance.json"))
    for figure in FIGURES_OF.get(experiment.split("/")[0], (experiment,)):
        suffixes = ("md", "tex", "csv") if figure == "table1" else ("png", "pdf", "csv")
        for suffix in suffixes:
            assert (run / "figures" / f"{figure}.{suffix}").stat().st_size > 0
    assert len(list(run.parent.iterdir())) == 1
    assert str(run) in answer.out
    if experiment not in LEARNING:
        return
    inner, outer, hd = (pd.read_csv(run / f"{n}.csv") for n in ("inner", "outer", "hd"))
    # Two rows an epoch; one epoch in the first of three outer steps, two in everything else.
    assert inner.groupby("method", sort=False).size().to_dict() == {
        "ours": 2 + 4 + 4,
        "hd": 4,
        "ours_retrained": 4,
        "hd_retrained": 4,
        "sgd": 4,
    }
    assert len(outer) == 3 * 7
    assert len(hd) == 2 * 11  # 380 of 400 images in minibatches of 32
    assert set(outer["kind"]) == {"learning_rate", "momentum", "weight_decay"}
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["experiment"]) == ("finished", experiment)
    assert summary["headline"].startswith("ours ")
    assert "learned schedule" in answer.out
    assert "signal / noise" in answer.out
    assert len((run / "schedule.json").read_text()) > 0


def test_improve_is_a_command_and_goes_on(call: Call, tmp_path: Path) -> None:
    """Of the quickstart too, which learns from zero when it is run."""
    run = tmp_path / "there"
    begin = ("improve", "quickstart", "scale=smoke", "threads=1", "--run-dir", run)
    answer = call(*begin)
    assert answer.code == 0, answer.err
    assert "is finished already" in call(*begin).err
    other = call(*begin, "seed=1")
    assert (other.code, "holds a run of another command" in other.err) == (2, True)
    rows = pd.read_csv(run / "trainings.csv")
    assert set(rows["stage"]) >= {"ladder", "direction", "search"}
    assert "gain: points of test accuracy" in answer.out
    text = (run / "trainings.csv").read_text()
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "status": "interrupted"}))
    again = call("improve", "--resume", run)
    assert again.code == 0, again.err
    assert (run / "trainings.csv").read_text() == text
    nowhere = call("export", run, "-o", tmp_path / "none" / "schedule.json")
    assert (nowhere.code, nowhere.err.count("\n")) == (2, 1)
    assert f"none/schedule.json: no folder {tmp_path / 'none'}: make it first" in nowhere.err
    for command in ("export", "confirm"):  # before any training
        assert "is a folder: name a file in it" in call(command, run, "-o", tmp_path).err
    exported = call("export", run)
    assert json.loads(exported.out)["origin"]["confirmed"]
    shown = call("improve", "improve_digits", "--dry-run")
    assert "direction" in shown.out
    assert "judge" in shown.out


def test_fig1_quickly(call: Call, tmp_path: Path) -> None:
    answer = call("run", "fig1", "data=digits", "model=mlp", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    listed = call("runs", "--outputs", tmp_path)
    assert "finished" in listed.out
    plotted = call("plot", "fig4", "--outputs", tmp_path)
    assert (plotted.code, plotted.out.startswith("fig4: ")) == (0, True)


def test_the_name_of_a_run_is_only_that_of_its_folder(call: Call, tmp_path: Path) -> None:
    answer = call("run", "from_zero", *SMALL, "name=mine", f"outputs={tmp_path}")
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    assert run.parent.name == "mine"
    assert f"fig1: {run / 'figures' / 'fig1.png'}" in answer.out
    assert f"fig4: {run / 'figures' / 'fig4.png'}" in answer.out
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["experiment"], summary["figures"][0]) == ("from_zero", "fig1")
    assert call("plot", "fig1", "--outputs", tmp_path).out.startswith("fig1: ")
    assert call("run", "from_zero", "--resume", run).code == 0
    (other := tmp_path / "other").mkdir()
    answer = call("run", "from_zero", *SMALL, "figures=[]", f"outputs={other}")
    assert "no figure is drawn: `figures` names none" in answer.out


def test_any_experiment_can_be_searched(call: Call, tmp_path: Path) -> None:
    search = ("scale=smoke", "search=random", "search.trials=2", f"outputs={tmp_path}")
    answer = call("run", "from_zero", *search)
    assert answer.code == 0, answer.err
    run = only_run(tmp_path)
    assert len(pd.read_csv(run / "trials.csv")) == 2
    assert f"fig5: {run / 'figures' / 'fig5.png'}" in answer.out
    settings = json.loads((run / "summary.json").read_text())["settings"]
    assert (settings["search"], settings["table_column"]) == ("random", None)


def test_the_same_command_goes_on_in_its_directory_and_another_is_refused(
    call: Call, tmp_path: Path
) -> None:
    place, command = tmp_path / "here", ["run", "quickstart", *SMALL]
    first = call(*command, "--run-dir", place)
    assert first.code == 0, first.err
    assert (place / "schedule.json").is_file()
    assert "is finished already" in call(*command, "--run-dir", place).err
    for other in ([*command, "seed=1"], [*command, "-m"], ["run", "adamw", *SMALL]):
        refused = call(*other, "--run-dir", place)
        assert refused.code == 2
        assert "holds a run of another command (quickstart" in refused.err
        assert f"--resume {place}" in refused.err
    assert call("run", "--resume", place, "--run-dir", place).code == 2


def test_resume(call: Call, tmp_path: Path) -> None:
    call("run", "from_zero", *SMALL, f"outputs={tmp_path}")
    run = only_run(tmp_path)
    again = call("run", "--resume", run)
    assert again.code == 0
    assert "finished already" in again.err
    assert "learned schedule" in again.out
    for arguments in (("from_zero", "seed=1"), ("seed=1",), ("fig1",)):
        answer = call("run", *arguments, "--resume", run)
        assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    config = run / ".hydra" / "config.yaml"
    config.write_text(config.read_text()[:100])
    answer = call("run", "--resume", run)
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert "start a new run" in answer.err


@pytest.mark.parametrize("error", [ValueError("the values\nwent wrong"), RuntimeError("boom")])
def test_error_inside_a_run_is_a_failed_run(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from hypergrad.drivers.learn.driver import LearnDriver

    def fail(self: LearnDriver) -> None:
        raise error

    monkeypatch.setattr(LearnDriver, "run", fail)
    answer = call("run", "from_zero", *SMALL, f"outputs={tmp_path}")
    assert answer.code == 1
    lines = answer.err.splitlines()
    assert lines[0].startswith("run: ")
    assert [line for line in lines if "failed" in line] == lines[-1:]  # and no traceback
    assert lines[-1].startswith("hypergrad: the run failed: ")
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["status"] == "failed"


def test_full_error_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["hypergrad", "run", "nope"])
    with pytest.raises(ValueError, match="unknown experiment"):
        cli.main()


@pytest.mark.parametrize("size", ["2", "16"])
def test_what_torchrun_starts_several_times_is_refused(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    answer = call("run", "from_zero", *SMALL, f"outputs={tmp_path / 'outputs'}")
    assert answer.code == 2
    assert f"WORLD_SIZE={size}: each of {size} processes would do the same" in answer.err
    assert "without torchrun" in answer.err
    assert len(answer.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["", "1"])
def test_a_process_that_torchrun_starts_once_is_not(
    call: Call, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    assert call("run", "from_zero", *SMALL, "--dry-run").code == 0


def test_sweep_with_a_member_that_fails(call: Call, tmp_path: Path) -> None:
    answer = call("run", "from_zero", "-m", *SMALL, "data.train_size=5,400", f"outputs={tmp_path}")
    assert answer.code == 3
    assert "1 of 2 failed" in answer.err
    assert only_run(tmp_path)


def test_dry_run_writes_nothing(call: Call, tmp_path: Path) -> None:
    answer = call("run", "from_zero", "--dry-run", "scale=smoke", f"outputs={tmp_path}")
    assert answer.code == 0
    assert "7 tangents" in answer.out
    lines = answer.out.splitlines()
    assert len(lines) <= 10
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].startswith("from_zero: learn, 1 seed, mlp with 8,970 parameters on 400 + 100")
    assert lines[1].split() == "method inner runs inner steps gradients minutes".split()
    # an hour of such steps would be an hour of minutes: what a step took here, times all of them
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:-2]}
    each = float(lines[-1].split(" at ")[1].split()[0])
    gradients = float(rows["all"][2].replace(",", ""))
    assert float(rows["all"][3]) == pytest.approx(gradients * each / 60e3, rel=0.01, abs=0.006)
    assert lines[-1].endswith("; nothing was run (configuration: --cfg job)")
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_prints_yaml(call: Call) -> None:
    import yaml

    answer = call("run", "from_zero", "--cfg", "job", "seed=7")
    assert yaml.safe_load(answer.out)["seed"] == 7
    assert answer.err == ""


def test_check_agrees(call: Call) -> None:
    answer = call("check", "from_zero", "scale=smoke", "--steps", "6")
    assert answer.code == 0
    assert "6 steps: they agree (7 of 7 values, worst " in answer.out
    assert "float32 against float64: the same signs, worst error " in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80


def test_check_in_float64_has_nothing_else_to_compare(call: Call) -> None:
    typed = "check from_zero method=unshared scale=smoke precision=float64 --steps 5"
    answer = call(*typed.split())
    assert answer.code == 0
    assert "reverse" in answer.out
    assert "against float64" not in answer.out


def test_check_of_a_wrong_derivative_fails_and_names_the_values(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong_net.py").write_text(WRONG_NETWORK)
    custom = "model=custom model.name=wrong_net:Net hvp.strategy=loop scale=smoke"
    few = "hyperparameters.learning_rate.count=2 --steps 4"
    answer = call("check", "from_zero", *custom.split(), *few.split())
    assert answer.code == 1
    assert "4 steps: they DO NOT AGREE in learning_rate[0]" in answer.out


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ("--help", "torch hydra pandas matplotlib"),
        ("run --help", "torch hydra pandas matplotlib"),
        ("--version", "torch hydra pandas matplotlib"),
        ("runs --outputs nowhere", "torch hydra pandas matplotlib"),
        ("plot --outputs nowhere", "torch hydra"),
    ],
)
def test_what_is_not_imported(arguments: str, absent: str) -> None:
    done = python(
        "import sys\n"
        f"sys.argv = ['hypergrad', *{arguments.split()!r}]\n"
        "from hypergrad.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        f"print('HEAVY', [m for m in {absent.split()!r} if m in sys.modules])\n"
    )
    assert done.stdout.endswith("HEAVY []\n"), done.stderr


def test_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys; sys.argv = 'hypergrad run fig1 --cfg job'.split(); "
    code += "from hypergrad.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything is written
    with process.stderr as errors:
        assert errors.read() == ""
    assert process.wait(timeout=60) == 0


def test_a_network_of_ones_own(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownnets.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, shape, classes, width=8):\n"
        "        c, h, w = shape\n"
        "        super().__init__(nn.Flatten(), nn.Linear(c * h * w, width), nn.Dropout(0.1),\n"
        "                         nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    own = ("run", "from_zero", "scale=smoke", "outer.steps=2", "model=custom")
    answer = call(*own, "model.name=ownnets:Net", "model.options.width=4")
    assert answer.code == 0, answer.err
    for wrong, message in [
        ((), "model.name is empty"),
        (("model.name=ownnets:Nope",), "no attribute 'Nope'"),
        (("model.name=ownnets:Net", "model.options.depth=4"), "it takes width"),
        (("model.name=ownnets:Net", "hvp.strategy=vmap"), "use hvp.strategy=loop"),
    ]:
        answer = call(*own, *wrong)
        assert answer.code == 2
        assert message in answer.err


def test_dry_run_needs_no_data(call: Call, tmp_path: Path) -> None:
    answer = call("run", "fig1", "--dry-run", f"data.root={tmp_path}")
    assert answer.code == 0
    assert "cifar10 is not here yet" in answer.err
    assert "83,435" in answer.out  # inner steps of ten outer ones
    assert "175,066 parameters on 50,000 + 10,000 images of cifar10" in answer.out
    assert "7 tangents, whatever the horizon: 23.4 MiB" in answer.out


def test_help_of_check_says_what_it_compares(call: Call) -> None:
    answer = call("check", "--help")
    text = " ".join(answer.out.split())
    assert "with differences of ordinary trainings" in text
    assert "forward mode, or reverse mode with method=unshared" in text
