"""The commands that compute: start, resume, sweep, show what a run would be, check the maths."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.fingerprint import GROWING, settings_without
from hypergrad.config.recorded import check_overrides_recorded
from hypergrad.config.schema import RunConfig
from hypergrad.runs.directory import RunDirectory, is_run
from hypergrad.runs.tables import Table

if TYPE_CHECKING:
    from hypergrad.drivers.gradcheck import GradientCheck

__all__ = ["Mode", "check", "start"]

# Drivers are imported where they are called: they bring PyTorch, and a configuration can be shown
# without it.


class Mode(NamedTuple):
    """What `run` and `baselines` are to do other than begin a run: options of the command line."""

    resume: Path | None
    dry_run: bool
    cfg: str | None
    multirun: bool
    place: Path | None = None
    accept_changes: bool = False
    fork: bool = False
    trust: bool = False


def start(
    experiment: str | None,
    overrides: Sequence[str],
    mode: Mode,
    command: Sequence[str],
    example: str,
) -> int:
    """Do what `run` and `baselines` do: begin a run and see it through, unless a mode is given.

    Args:
        experiment: A name in `conf/experiment`, or what stands in its place.
        overrides: Hydra overrides.
        mode: What else to do.
        command: The command line, for the record.
        example: What to say to a user who has named none.

    Returns:
        Exit code.

    Raises:
        ValueError: For a configuration or data that cannot be run; nothing is written then.
        RunFailed: For whatever goes wrong once there is a run directory.
    """
    if mode.cfg not in (None, "job"):
        raise ValueError(f"--cfg {mode.cfg}: only --cfg job can be shown")
    if mode.resume is not None:
        if mode.multirun or mode.dry_run or mode.cfg:
            raise ValueError("--resume goes on with one run as it was: drop -m, --dry-run, --cfg")
        if mode.place is not None:
            raise ValueError("--resume names the run's directory already: drop --run-dir")
        if experiment is not None and "=" in experiment:
            experiment, overrides = None, [experiment, *overrides]
        if mode.fork:
            return _fork(overrides, mode.resume, command, trust=mode.trust)
        accept, trust = mode.accept_changes, mode.trust
        return _resume(experiment, overrides, mode.resume, command, accept=accept, trust=trust)
    if mode.fork or (mode.accept_changes and mode.place is None):
        raise ValueError("--fork and --accept-changes are of a run that goes on: --resume RUN")
    if experiment is None or "=" in experiment:
        raise ValueError(f"name {example}")
    if mode.cfg == "job":
        if mode.multirun or mode.dry_run:
            raise ValueError("--cfg job shows one configuration: drop -m and --dry-run")
        print(configs.compose(experiment, overrides)[1], end="")
        return 0
    if mode.place is not None and not mode.dry_run and is_run(mode.place):
        _check_same(mode.place, experiment, overrides, sweep=mode.multirun)
        trust = mode.trust or _names_network(mode.place, overrides)
        accept = mode.accept_changes
        return _resume(None, [], mode.place, command, accept=accept, trust=trust)
    if mode.multirun:
        return _sweep(experiment, overrides, command, mode)
    if mode.dry_run:
        from hypergrad.cli.cost_command import show_cost

        return show_cost(experiment, overrides)
    config, text = configs.compose(experiment, overrides)
    if config.is_multirun:
        from hypergrad.drivers.member_pool import Pool
        from hypergrad.drivers.members import compose_member
        from hypergrad.drivers.multirun import start_multirun

        whole = compose_member("", experiment, overrides)
        pool = Pool(config.jobs, config.executor, config.gpus)
        return start_multirun(whole, command, pool, place=mode.place)
    from hypergrad.drivers.context import prepare
    from hypergrad.drivers.execute import execute, new_run

    context = prepare(config)
    return execute(context, new_run(config, text, overrides, mode.place), command)


def _check_same(path: Path, experiment: str, overrides: Sequence[str], *, sweep: bool) -> None:
    """Refuse to go on with a run that another command has begun.

    Raises:
        ConfigError: For other overrides, another experiment, or a sweep where there is none.
    """
    run = RunDirectory.open(path)
    begun = configs.load_run(run).experiment
    typed = run.overrides()
    is_sweep = bool(run.read_json("members.json").get("sweep"))
    if (begun, sorted(typed), is_sweep) != (experiment, sorted(overrides), sweep):
        was = " ".join([begun, *(["-m"] if is_sweep else []), *typed])
        raise ConfigError(
            f"--run-dir {path} holds a run of another command ({was}): name another directory, or "
            f"go on with that run by --resume {path}"
        )


def _names_network(path: Path, overrides: Sequence[str]) -> bool:
    """Whether the network of a run is one that was typed just now."""
    name = configs.load(RunDirectory.open(path).config_text()).model.name
    return f"model.name={name}" in overrides


def _sweep(experiment: str, overrides: Sequence[str], command: Sequence[str], mode: Mode) -> int:
    """Run every member of a sweep, `jobs=N` of them at once, or only show what each costs."""
    from hypergrad.drivers.member_pool import Pool
    from hypergrad.drivers.members import compose_sweep, split_pool

    typed, own = split_pool(overrides)
    pool = Pool().having(typed)
    whole = compose_sweep(experiment, own)
    pool.check(member.config.threads for member in whole.members)
    if mode.dry_run:
        from hypergrad.cli.cost_command import show_sweep

        leaves = [(m.name, m.config) for m in whole.members if not m.members]
        leaves += [(f"{m.name}/{own.name}", own.config) for m in whole.members for own in m.members]
        return show_sweep(leaves, pool.jobs)
    from hypergrad.drivers.multirun import start_multirun

    whole = whole._replace(overrides=list(overrides))
    return start_multirun(whole, command, pool, sweep=True, place=mode.place)


def _resume(
    experiment: str | None,
    overrides: Sequence[str],
    path: Path,
    command: Sequence[str],
    *,
    accept: bool,
    trust: bool,
) -> int:
    """Go on with a run.

    It keeps its configuration; only a search may grow (see `GROWING`), and a multi-run may go on
    with other `jobs`, `executor` and `gpus`.
    """
    run = RunDirectory.open(path)
    config = configs.load_run(run)
    if experiment not in (None, config.experiment):
        raise ConfigError(f"{path} is a run of {config.experiment}, not of {experiment}")
    from hypergrad.drivers.context import prepare
    from hypergrad.drivers.execute import execute
    from hypergrad.drivers.members import split_pool
    from hypergrad.drivers.multirun import MultiRun, is_multirun
    from hypergrad.drivers.recorded import check_members, check_run

    multirun = is_multirun(run)
    pool, others = split_pool(overrides) if multirun else ({}, list(overrides))
    if others and (multirun or config.driver != "search"):
        raise ConfigError(f"{' '.join(others)}: a resumed run keeps its configuration; drop it")
    if multirun:
        whole = MultiRun(run, command, pool, accept=accept)
        check_members(run, whole.members, trust=trust)
        return whole.drive()
    if config.is_multirun:
        raise ConfigError(f"{path} lacks members.json, which says what it is made of: restore it")
    check_run(run, config, trust=trust)
    if others:
        return _grow(run, config, others, command, accept=accept)
    whole = config.driver != "search" or (run.path / "trials.csv").is_file()
    if run.status() == "finished" and whole:
        from hypergrad.reporting.run_report import report

        print(f"{path} is finished already", file=sys.stderr)
        report(run, config)
        return 0
    return execute(prepare(config), run, command, resume=True, accept=accept)


def _grow(
    run: RunDirectory,
    config: RunConfig,
    overrides: Sequence[str],
    command: Sequence[str],
    *,
    accept: bool,
) -> int:
    """Go on with a search that has got more seeds, candidates, budget or processes."""
    typed = [*check_overrides_recorded(run.overrides()), *overrides]
    grown, text = configs.compose(config.experiment, typed)
    became = {"threads": config.threads, "method.mode": config.method.mode}
    was = {"threads": grown.threads, "method.mode": grown.method.mode}
    settled = {key: value for key, value in became.items() if was[key] == "auto"}
    if settled:  # what `auto` became when the search began
        text = configs.with_settings(text, settled)
        grown = configs.load(text)
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
    return execute(context, run, command, resume=True, accept=accept)


def _fork(overrides: Sequence[str], path: Path, command: Sequence[str], *, trust: bool) -> int:
    """Begin a new run from the checkpoint of another, with what its file now says."""
    run = RunDirectory.open(path)
    config, text, typed = configs.load_run(run), run.config_text(), run.overrides()
    from hypergrad.drivers.recorded import check_run

    check_run(run, config, trust=trust)
    if overrides:
        typed = [*check_overrides_recorded(typed), *overrides]
        config, text = configs.compose(config.experiment, typed)
    from hypergrad.drivers.execute import execute
    from hypergrad.drivers.fork import fork

    context, new = fork(run, config, text, typed)
    return execute(context, new, command, resume=True)


def check(experiment: str, overrides: Sequence[str], steps: int) -> int:
    """Compare the configured mode with differences of ordinary trainings, and say what was found.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.
        steps: Inner steps.

    Returns:
        0 if they agree, otherwise 1.
    """
    config, _ = configs.compose(experiment, overrides)
    from hypergrad.core.double_precision import has_float64
    from hypergrad.drivers.context import make_model, prepare
    from hypergrad.drivers.gradcheck import compare

    context = prepare(config)
    if not has_float64(context.device):
        print(f"on the CPU: {context.device} has no float64", file=sys.stderr)
        config = replace(config, device="cpu")
        context = prepare(config)
    model = make_model(config, context.data, config.seed)
    found = compare(config, model, context.data, steps)
    single = config.precision != "float64"
    mode = config.method.mode
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)  # 80 columns are enough
    table.add_column("value", overflow="fold")
    for name in (mode, "trainings", "error"):
        table.add_column(name, no_wrap=True)
    table.add_column("verdict", max_width=14)
    if single:
        table.add_column(config.precision)
    for row in found.values:
        verdict = f"{row.verdict} ({row.reason})" if row.reason else row.verdict
        numbers = "", ""
        if not row.reason:
            numbers = f"{row.difference:.4e}", f"{row.error:.1e}"
        cells = row.name, f"{row.ours:.4e}", *numbers, verdict
        own = f"{row.own_error:.1e}" if row.keeps_sign else f"{row.own_error:.1e} ±"
        table.add_row(*cells, *([own] if single else []))
    Console().print(table)
    print(f"{_subject(config)}, {steps} steps: {_verdict(found)}")
    if single:
        print(f"{config.precision} against float64: {_precision_verdict(found)}")
    return 0 if found.passes else 1


def _verdict(found: "GradientCheck") -> str:
    """One line on the derivatives."""
    from hypergrad.drivers.scalar_differences import AGREE, DISAGREE

    if not found.same_training:
        return (
            "they DO NOT AGREE: what is differentiated is not the plain training (its weights end "
            f"{found.weights_error:.1e} apart)"
        )
    every = len(found.values)
    told = [row for row in found.values if row.verdict == AGREE]
    wrong = [row.name for row in found.values if row.verdict == DISAGREE]
    if wrong:
        return f"they DO NOT AGREE in {', '.join(wrong)}"
    reasons = ", ".join(sorted({row.reason for row in found.values if row.reason}))
    if not told:
        return f"whether they agree cannot be told ({reasons}): try fewer steps"
    worst = max(row.error for row in told)
    rest = f"; {every - len(told)} cannot be told ({reasons})" if len(told) < every else ""
    return f"they agree ({len(told)} of {every} values, worst {worst:.1e}{rest})"


def _precision_verdict(found: "GradientCheck") -> str:
    """One line on rounding, which is no fault of the derivatives."""
    other = [row.name for row in found.values if not row.keeps_sign]
    if other:
        return (
            f"another sign of {', '.join(other)}: rounding grows along this training (chaos), so "
            "trust no such sign"
        )
    return f"the same signs, worst error {max(row.own_error for row in found.values):.1e}"


def _subject(config: RunConfig) -> str:
    return f"{config.model.name} on {config.data.name}"
