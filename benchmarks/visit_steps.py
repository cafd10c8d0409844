"""What a GPU visit does: the one table to change when an option of a command changes."""

import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["VisitStep", "steps"]

PYTHON = sys.executable
HYPERGRAD = (PYTHON, "-m", "hypergrad")
BENCHMARKS = (PYTHON, "-m", "benchmarks")


class VisitStep(NamedTuple):
    """One command of a visit.

    Attributes:
        name: Of its log, and in the state file.
        command: What to run, from the root of the repository.
        seconds: How long to allow it: it is not begun with less left.
        experiment: For a run that goes on where it was stopped: its folder under the runs. Such a
            step is begun with `seconds` left and interrupted when they are over.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    experiment: str | None = None


def steps(
    device: str, scale: str, output: Path, data: Path | None, cifar10: Path | None
) -> list[VisitStep]:
    """Return what a visit does, in order.

    Args:
        device: `cuda`, or `cpu` to try the visit itself.
        scale: `full`, or `smoke`: the same on digits, in a minute or two.
        output: The visit's folder.
        data: Data root with MNIST, or None for the library's own.
        cifar10: Folder of CIFAR-10's images, or None to leave that out.

    Returns:
        The steps: correctness, speed, Figure 1, and the grid of Figure 5.
    """
    on = f"device={device}"
    runs = f"outputs={output / 'runs'}"
    root = () if data is None else (f"data.root={data}",)
    digits = ("data=digits", "data.image_size=28", "model=lenet")

    def step(model: str, columns: int, rounds: int, seconds: float) -> VisitStep:
        """One table: called and replayed steps beside the plain loop."""
        command = (
            *(*BENCHMARKS, "step", "--replay", "--device", device, "--models", model),
            *("--columns", str(columns), "--rounds", str(rounds), "--limit", str(seconds / 2)),
            *("--output", str(output / "bench" / f"step_{model}_{columns}")),
        )
        return VisitStep(f"step_{model}_{columns}", command, seconds)

    def loop(model: str, rounds: int) -> VisitStep:
        command = (
            *(*BENCHMARKS, "loop", "--device", device, "--models", model),
            *("--rounds", str(rounds), "--output", str(output / "bench" / f"loop_{model}")),
        )
        return VisitStep(f"loop_{model}", command, 240)

    def check(name: str, *overrides: str) -> VisitStep:
        return VisitStep(f"check_{name}", (*HYPERGRAD, "check", "fig1", on, *overrides), 120)

    pytest = (PYTHON, "-m", "pytest", "-q", "-rs", "-m", "gpu", "-p", "no:cacheprovider")
    tests = (*pytest, "tests/test_gpu.py", "tests/data/test_batches.py")
    if scale == "smoke":
        grid = ("search.grid={learning_rate: [0.1, 0.2]}", "repeats=1", "search.ensemble=1")
        return [
            VisitStep("gpu_tests", tests, 60),
            check("lenet", *digits)._replace(seconds=60),
            step("mlp", 3, 2, 60),
            VisitStep(
                "fig1",
                (*HYPERGRAD, "run", "fig1", *digits, "scale=smoke", "epochs=10", on, runs),
                5,
                "fig1",
            ),
            VisitStep(
                "grid",
                (*HYPERGRAD, "baselines", "digits", "scale=smoke", *grid, on, runs),
                5,
                "baselines_digits",
            ),
        ]
    found = [
        VisitStep("gpu_tests", tests, 400),
        check("lenet", *digits),
        check("wrn", "data=digits", "data.image_size=32"),
        step("lenet", 7, 50, 120),
        step("wrn_16_1", 7, 30, 240),
        step("wrn_16_4", 7, 10, 300),
        step("lenet", 32, 30, 180),
        step("wrn_16_1", 32, 10, 300),
        loop("lenet", 11),
        loop("wrn_16_1", 11),
        VisitStep(
            "fig1_mnist",
            (*HYPERGRAD, "run", "fig1", "data=mnist", *root, on, runs),
            90,
            "fig1",
        ),
    ]
    if cifar10 is not None:
        folder = (f"data.path={cifar10}", "data=imagefolder")
        found.append(
            VisitStep(
                "grid_cifar10",
                (*HYPERGRAD, "baselines", "cifar10", *folder, "data.augment=true", on, runs),
                90,
                "baselines_cifar10",
            )
        )
    return found
