"""The commands that compute: start, resume, sweep, show what a run would be, check the maths."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hypergrad import config as configs
from hypergrad.overrides import expand_sweep
from hypergrad.runs.directory import RunDirectory
from hypergrad.schema import ConfigError, RunConfig

__all__ = ["check", "resume", "show_config", "show_cost", "start", "sweep"]


def start(experiment: str, overrides: Sequence[str]) -> int:
    """Begin a new run and see it through.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.

    Returns:
        Exit code.

    Raises:
        ValueError: For a configuration or data that cannot be run; nothing is written then.
        RunFailed: For whatever goes wrong once there is a run directory.
    """
    config, text = configs.compose(experiment, overrides)
    from hypergrad.launch import launch, prepare

    setting = prepare(config)
    try:
        run = RunDirectory.create(Path(config.outputs).expanduser(), config.name)
        run.write_config(text, overrides)
    except OSError as error:
        raise ConfigError(
            f"outputs={config.outputs}: {error.strerror}; name a folder that can be written"
        ) from error
    print(f"run: {run.path}", file=sys.stderr)
    return launch(setting, run, sys.argv)


def resume(experiment: str | None, overrides: Sequence[str], path: Path) -> int:
    """Go on with a run.

    Args:
        experiment: Its experiment, or None.
        overrides: Must be empty: a run keeps its configuration.
        path: Its directory.

    Returns:
        Exit code.

    Raises:
        ValueError: If the directory is no run, belongs to another experiment, or is damaged.
    """
    run = RunDirectory.open(path)
    config = configs.load(run.config_text())
    if overrides:
        raise ConfigError(f"{' '.join(overrides)}: a resumed run keeps its configuration; drop it")
    if experiment is not None and experiment != config.name:
        raise ConfigError(f"{path} is a run of {config.name}, not of {experiment}")
    from hypergrad.launch import launch, prepare, print_standings

    if run.status() == "finished":
        print(f"{path} is finished already", file=sys.stderr)
        print_standings(run.read_summary()["results"])
        return 0
    return launch(prepare(config), run, sys.argv, resume=True)


def sweep(experiment: str, overrides: Sequence[str], *, dry_run: bool) -> int:
    """Run every member of a sweep, one after another.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides, some with several values.
        dry_run: Only show each member's cost.

    Returns:
        0; 3 if members failed, or 2 if none of them could even begin; an interruption ends the
        sweep with its own code.

    Raises:
        ValueError: For a member that cannot be composed; nothing is run then.
    """
    members = expand_sweep(overrides)
    for member in members:  # before any of them starts
        configs.compose(experiment, member)
    failed: dict[str, Exception] = {}
    for number, member in enumerate(members, start=1):
        print(f"[{number}/{len(members)}] {experiment} {' '.join(member)}", file=sys.stderr)
        try:
            if dry_run:
                show_cost(experiment, member)
            elif code := start(experiment, member):
                return code
        except Exception as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            failed[" ".join(member)] = error
            print(f"hypergrad: {' '.join(member)}: {_one_line(error)}", file=sys.stderr)
    if not failed:
        return 0
    print(f"{len(failed)} of {len(members)} failed: {'; '.join(failed)}", file=sys.stderr)
    hopeless = len(failed) == len(members)
    return 2 if hopeless and all(isinstance(e, ValueError) for e in failed.values()) else 3


def show_config(experiment: str, overrides: Sequence[str]) -> None:
    """Print the composed configuration."""
    print(configs.compose(experiment, overrides)[1], end="")


def show_cost(experiment: str, overrides: Sequence[str]) -> None:
    """Print the composed configuration and what the run would cost."""
    config, text = configs.compose(experiment, overrides)
    from hypergrad.launch import prepare

    setting = prepare(config, stand_in=True)
    print(text)
    plan, seeds = setting.plan, len(config.seeds)
    images = setting.data.train.images.nbytes + setting.data.test.images.nbytes
    table = Table("part", "inner runs", "inner steps", "gradients", title="predicted cost")
    for name in dict.fromkeys(part.method for part in plan.parts):
        parts = [part for part in plan.parts if part.method == name]
        table.add_row(
            name,
            str(seeds * len(parts)),
            f"{seeds * sum(part.steps for part in parts):,}",
            f"{seeds * sum(part.cost for part in parts):,.0f}",
        )
    table.add_row("all", "", "", f"{seeds * plan.cost:,.0f}")
    console = Console()
    console.print(table)
    console.print(
        f"{setting.parameters:,} parameters, {plan.columns} tangents: "
        f"{_mib(plan.tangent_bytes)} whatever the horizon; images {_mib(images)}; "
        f"device {setting.device}",
        highlight=False,
    )


def check(experiment: str, overrides: Sequence[str], steps: int) -> int:
    """Compare forward mode with reverse mode for a configured network and data set.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.
        steps: Inner steps.

    Returns:
        0 if they agree, otherwise 1.
    """
    config, _ = configs.compose(experiment, [*overrides, "precision=float64"])
    from hypergrad.check import TOLERANCE, compare
    from hypergrad.launch import make_model, prepare

    setting = prepare(config)
    model = make_model(config, setting.data, config.seed)
    rows = compare(config, model, setting.data, steps)
    table = Table("hyperparameter", "forward mode", "reverse mode", "relative error")
    for row in rows:
        table.add_row(row.name, f"{row.forward:.9e}", f"{row.reverse:.9e}", f"{row.error:.1e}")
    Console().print(table)
    worst = max(row.error for row in rows)
    agree = worst <= TOLERANCE
    verdict = "agree" if agree else "DO NOT AGREE"
    print(
        f"{_subject(config)}, {steps} steps, float64: they {verdict} "
        f"(worst {worst:.1e}, allowed {TOLERANCE:.0e})"
    )
    return 0 if agree else 1


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _subject(config: RunConfig) -> str:
    return f"{config.model.name} on {config.data.name}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
