"""The unattended GPU visit, on a CPU: its plan, its steps, stopping and going on."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.gpu_visit import ROOT, main

SMOKE = ["--device", "cpu", "--scale", "smoke"]


def state(output: Path) -> dict[str, dict]:
    return json.loads((output / "visit.json").read_text())


def test_the_plan_is_printed_and_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "visit"
    assert main(["--output", str(output), "--cifar10", "images", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[0] == "gpu_tests"
    assert names[-2:] == ["fig1_mnist", "grid_cifar10"]
    assert {"step_lenet_7", "step_wrn_16_1_7", "step_wrn_16_4_7"} <= set(names)
    assert all("device" in line for line in lines[1:])
    assert not output.exists()


def test_the_grid_is_left_out_without_its_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--output", str(tmp_path), "--dry-run"])
    assert "cifar10" not in capsys.readouterr().out


@pytest.mark.parametrize("cifar10", ["images"])
def test_every_command_of_a_real_visit_is_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cifar10: str
) -> None:
    """The configurations compose; what is not there is data and a device."""
    from hypergrad.config.composition import compose

    main(["--output", str(tmp_path), "--cifar10", cifar10, "--dry-run"])
    composed = 0
    for line in capsys.readouterr().out.splitlines():
        _, _, command = line.partition("): ")
        _, _, words = command.partition(" -m hypergrad ")
        if words:
            name, experiment, *overrides = words.split()
            experiment = f"baselines/{experiment}" if name == "baselines" else experiment
            config, _ = compose(experiment, overrides)
            assert config.device == "cuda"
            assert config.scale == "full"
            composed += 1
    assert composed == 4


def test_a_call_without_time_does_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "visit"), *SMOKE, "--minutes", "0"]) == 0
    assert "5 of 5 remain: call again" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_stopped_when_its_time_is_over_and_goes_on(tmp_path: Path) -> None:
    """In two places: the archive carries the state from one to the other."""
    first, second, archive = tmp_path / "here", tmp_path / "there", tmp_path / "visit.tar.gz"
    common = [*SMOKE, "--only", "fig1", "--pack", str(archive)]
    assert main([*common, "--output", str(first), "--minutes", "0.45"]) == 0
    assert state(first)["fig1"]["status"] == "to go on"
    assert tarfile.is_tarfile(archive)
    assert main([*common, "--output", str(second), "--minutes", "5"]) == 0
    found = state(second)["fig1"]
    assert (found["status"], found["code"], found["tries"]) == ("done", 0, 2)
    (run,) = (second / "runs" / "fig1").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
    before = (second / "visit.json").read_text()
    assert main([*common, "--output", str(second)]) == 0  # nothing is done twice
    assert (second / "visit.json").read_text() == before


@pytest.mark.slow
def test_a_whole_visit(tmp_path: Path) -> None:
    output = tmp_path / "visit"
    command = [sys.executable, "-m", "benchmarks.gpu_visit", *SMOKE, "--minutes", "9"]
    done = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "nothing remains"
    steps = state(output)
    assert {step["status"] for step in steps.values()} == {"done"}
    assert list(steps) == ["gpu_tests", "check_lenet", "step_mlp_3", "fig1", "grid"]
    measured = pd.read_csv(output / "bench" / "step_mlp_3" / "measured.csv")
    assert {"reference", "stacked", "stacked, replayed"} <= set(measured["contender"])
    assert (output / "logs" / "grid.log").read_text().startswith("$ ")


def test_a_piece_that_fails_is_noted_and_the_visit_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import gpu_visit
    from benchmarks.visit_steps import VisitStep

    plan = [
        VisitStep("bad", (sys.executable, "-c", "raise SystemExit(3)"), 5),
        VisitStep("long", (sys.executable, "-c", "import time; time.sleep(60)"), 0.5),
        VisitStep("good", (sys.executable, "-c", "print('fine')"), 5),
    ]
    monkeypatch.setattr(gpu_visit, "steps", lambda *_: plan)
    for _ in range(3):
        assert main(["--output", str(tmp_path), "--minutes", "1"]) == 0
    found = {name: (step["status"], step["tries"]) for name, step in state(tmp_path).items()}
    assert found == {"bad": ("failed", 1), "long": ("too long", 2), "good": ("done", 1)}
    assert (tmp_path / "logs" / "good.log").read_text().endswith("fine\n")
    assert "bad                  failed" in capsys.readouterr().out
