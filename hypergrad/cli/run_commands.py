"""The commands that compute: start, resume, sweep, show what a run would be, check the maths."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.fingerprint import GROWING, settings_without
from hypergrad.config.overrides import expand_sweep
from hypergrad.config.schema import RunConfig
from hypergrad.runs.directory import RunDirectory

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
    if config.has_parts:
        from hypergrad.drivers.composite import start_parts

        return start_parts(experiment, overrides)
    from hypergrad.drivers.context import prepare
    from hypergrad.drivers.execute import execute, new_run

    context = prepare(config)
    run = new_run(config, text, overrides)
    return execute(context, run, sys.argv)


def resume(experiment: str | None, overrides: Sequence[str], path: Path) -> int:
    """Go on with a run.

    Args:
        experiment: Its experiment, or None.
        overrides: A run keeps its configuration; only a search may grow: see `GROWING`.
        path: Its directory.

    Returns:
        Exit code.

    Raises:
        ValueError: If the directory is no run, belongs to another experiment, or is damaged.
    """
    run = RunDirectory.open(path)
    config = configs.load(run.config_text())
    if experiment not in (None, config.experiment):
        raise ConfigError(f"{path} is a run of {config.experiment}, not of {experiment}")
    if overrides:
        if config.driver != "search":
            raise ConfigError(
                f"{' '.join(overrides)}: a resumed run keeps its configuration; drop it"
            )
        return _grow(run, config, overrides)
    if config.has_parts:
        from hypergrad.drivers.composite import resume_parts

        return resume_parts(run, config)
    whole = config.driver != "search" or (run.path / "trials.csv").is_file()
    if run.status() == "finished" and whole:
        from hypergrad.reporting.run_report import report

        print(f"{path} is finished already", file=sys.stderr)
        report(run, config)
        return 0
    from hypergrad.drivers.context import prepare
    from hypergrad.drivers.execute import execute

    return execute(prepare(config), run, sys.argv, resume=True)


def _grow(run: RunDirectory, config: RunConfig, overrides: Sequence[str]) -> int:
    """Go on with a search that has got more seeds, settings, budget or processes."""
    typed = [*run.overrides(), *overrides]
    grown, text = configs.compose(config.experiment, typed)
    if settings_without(grown, GROWING) != settings_without(config, GROWING):
        raise ConfigError(
            f"{' '.join(overrides)}: a search that has begun can change {', '.join(GROWING)} "
            "alone; start a new one"
        )
    from hypergrad.drivers.context import prepare
    from hypergrad.drivers.execute import execute

    context = prepare(grown)
    with run.hold():  # a process that leads the search as it was would finish it as it was
        run.write_config(text, typed)
        run.update_summary({"status": "interrupted"})
    return execute(context, run, sys.argv, resume=True)


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
    print(text)
    members = [("", config)]
    if config.has_parts:
        from hypergrad.drivers.composite import members_of

        members = [(name, part) for name, part, _, _ in members_of(experiment, overrides)]
        if config.driver == "table":  # the other seeds of a cell cost the same
            members = [(name, part) for name, part in members if part.seed == config.seed]
    for name, member in members:
        _show_cost(name, member)


def _show_cost(name: str, config: RunConfig) -> None:
    from hypergrad.drivers.context import prepare

    context = prepare(config, stand_in=True)
    plan = context.plan
    seeds = 1 if config.driver == "hypervariance" else len(config.seeds)
    images = context.data.train.images.nbytes + context.data.test.images.nbytes
    table = Table(
        "part", "inner runs", "inner steps", "gradients", title=f"predicted cost {name}".strip()
    )
    for name in dict.fromkeys(part.method for part in plan.runs):
        parts = [part for part in plan.runs if part.method == name]
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
        f"{context.parameters:,} parameters; {plan.memory_note}: {_mib(plan.memory_bytes)}; "
        f"images {_mib(images)}; device {context.device}",
        highlight=False,
        soft_wrap=True,
    )


def check(experiment: str, overrides: Sequence[str], steps: int) -> int:
    """Compare the configured mode with autograd through the unrolled loop.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.
        steps: Inner steps.

    Returns:
        0 if they agree, otherwise 1.
    """
    config, _ = configs.compose(experiment, [*overrides, "precision=float64"])
    from hypergrad.drivers.context import make_model, prepare
    from hypergrad.drivers.gradcheck import TOLERANCE, compare

    context = prepare(config)
    model = make_model(config, context.data, config.seed)
    rows = compare(config, model, context.data, steps)
    mode = config.method.mode
    table = Table("hyperparameter", f"{mode} mode", "autograd", "relative error")
    for row in rows:
        table.add_row(row.name, f"{row.ours:.9e}", f"{row.autograd:.9e}", f"{row.error:.1e}")
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
