"""From a run's context to a finished run directory: a driver, its record, figures and tables."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from hypergrad.config.checks import ConfigError
from hypergrad.config.fingerprint import digest
from hypergrad.config.schema import RunConfig
from hypergrad.config.wording import in_settings
from hypergrad.drivers.context import RunContext, computing, make_model
from hypergrad.drivers.ground import check_ground, ground_of, take_up
from hypergrad.drivers.hypervariance.driver import HypervarianceDriver
from hypergrad.drivers.identity import check_unchanged, identity_of
from hypergrad.drivers.improve.driver import ImproveDriver
from hypergrad.drivers.inner_optimizer import columns_at, inner_optimizer, logged_names
from hypergrad.drivers.learn.driver import LearnDriver
from hypergrad.drivers.learn.inner_loop import RecordedInnerLoop
from hypergrad.drivers.own_network import origin_of
from hypergrad.drivers.search.driver import SearchDriver
from hypergrad.drivers.settle import settle
from hypergrad.drivers.summary import run_settings
from hypergrad.reporting.improve_report import improve_headline
from hypergrad.reporting.progress import RunProgress, TaskProgress
from hypergrad.reporting.results import DIVERGED, all_diverged, headline
from hypergrad.reporting.run_report import hypervariance_headline, report
from hypergrad.reporting.search_report import search_headline
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.errors import RunFailed, in_one_line
from hypergrad.runs.ground import kept_ground
from hypergrad.runs.interrupt import Interrupt, Interrupted, catch_signals
from hypergrad.runs.provenance import finish_session, provenance, record_session
from hypergrad.runs.run_log import RunLog
from hypergrad.training.out_of_memory import MemoryNeed, explain

__all__ = ["again", "execute", "new_run"]


def execute(
    context: RunContext,
    run: RunDirectory,
    command: Sequence[str],
    *,
    resume: bool = False,
    member: bool = False,
    accept: bool = False,
) -> int:
    """Run to the end, or until interrupted; then draw the figures and print the tables.

    Args:
        context: What to run.
        run: Its directory, with the configuration written.
        command: The command line, for the record.
        resume: Go on from where it was.
        member: This is a member of a multi-run, which draws and says how to resume.
        accept: Go on with other threads, or versions of libraries, than the run began with.

    Returns:
        Exit code: 0, or that of a signal: see `Interrupt.exit_code`.

    Raises:
        ConfigError: If settings, data or network are not those that the run began with; its results
            are left as they were.
        RunFailed: For whatever goes wrong on the way.
    """
    began = time.monotonic()
    content = identity_of(context.config, context.data)
    check_unchanged(run, content)
    context = settle(context, run)
    config, ground = context.config, ground_of(context)
    accepted = check_ground(run, ground, accept=accept)
    if config.driver == "search" and run.is_held():
        with computing(config):
            code = _assist(context, run)
        if code or run.is_held() or run.status() == "finished":
            return code
    with computing(config), run.hold(), catch_signals() as interrupt:
        take_up(run, ground, accepted)
        torch.manual_seed(config.seed)
        seeds = [config.seed] if config.driver == "hypervariance" else config.seeds
        about = provenance(_device_text(context.device), seeds, command)
        changes = {"accepted_changes": accepted} if accepted else {}
        origin = origin_of(config)._asdict()
        record_session(run, {**about, **content._asdict(), **origin, **changes})
        state = {"experiment": config.experiment, "status": "running", "message": ""}
        settings = run_settings(config)
        if "setup" in settings:  # ties the seeds of a table's cell together
            settings["setup"] = digest(config, **content._asdict())
        run.update_summary({**state, "figures": config.figures, "settings": settings})
        try:
            with DRIVERS[config.driver](context, run, interrupt, resume) as drive:
                drive()
        except (Interrupted, KeyboardInterrupt):  # the second is Ctrl-C, pressed again
            message = str(interrupt.requested or "SIGINT")
            run.update_summary({"status": "interrupted", "message": message})
            if not member:
                print(f"interrupted; go on with: {again(run)}", file=sys.stderr)
            return interrupt.exit_code or 130
        except Exception as error:
            explain(error, partial(_memory_need, context))
            text = in_settings(in_one_line(error))
            run.update_summary({"status": "failed", "message": text})
            raise RunFailed(f"the run failed: {text} (run: {run.path})") from error
        finally:
            finish_session(run, time.monotonic() - began)
        lost = all_diverged(run.read_summary().get("results", []))
        run.update_summary({"status": "finished", "message": DIVERGED if lost else ""})
        if lost:
            print(f"{run.path}: {DIVERGED}", file=sys.stderr)
    if not member:
        report(run, config)
    return 0


def _memory_need(context: RunContext) -> MemoryNeed | None:
    """What a run's hypergradients keep; None if it has none of a whole inner run."""
    config, method = context.config, context.config.method
    longest = max((run.steps for run in context.plan.runs if run.method == "ours"), default=0)
    if config.driver != "learn" or not longest:
        return None
    weights = context.parameters * context.data.train.images.element_size()
    slots = len(inner_optimizer(config).rule.slots)
    count = sum(columns_at(config, longest))
    state = (1 + slots) * weights  # buffers are small beside them
    reverse = method.mode == "reverse"
    return MemoryNeed(context.device, count, slots, weights, state, longest, reverse)


# Each yields a driver, ready to go, and then says in a line what came of it.


@contextlib.contextmanager
def _learning(
    context: RunContext, run: RunDirectory, interrupt: Interrupt, resume: bool
) -> Iterator[Callable[[], None]]:
    config = context.config
    smaller = "scale=smoke is smaller. " if config.scale == "full" else ""
    hint = f"{smaller}Ctrl-C stops with a checkpoint."
    total = None if config.budget is not None else context.plan.cost * len(config.seeds)
    console = Console(stderr=True)
    stands_on = kept_ground(run)
    log = RunLog(run, logged_names(config), None if stands_on is None else stands_on.digests)
    try:
        with RunProgress(total, config.outer.steps, config.epochs, hint, console) as display:
            loop = RecordedInnerLoop(config, context.data, context.plan, log, display, interrupt)
            learner = LearnDriver(
                config,
                context.data,
                lambda seed: make_model(config, context.data, seed),
                context.plan,
                loop,
            )
            if resume:
                loop.resume()
            yield learner.run
        run.update_summary({"headline": headline(loop.progress.results)})
    finally:
        log.close()


@contextlib.contextmanager
def _hypervariance(
    context: RunContext, run: RunDirectory, interrupt: Interrupt, resume: bool
) -> Iterator[Callable[[], None]]:
    with TaskProgress(Console(stderr=True)) as display:
        yield HypervarianceDriver(context, run, display, interrupt).run
    run.update_summary({"headline": hypervariance_headline(run.path)})


@contextlib.contextmanager
def _searching(
    context: RunContext, run: RunDirectory, interrupt: Interrupt, resume: bool
) -> Iterator[Callable[[], None]]:
    with TaskProgress(Console(stderr=True)) as display:
        yield SearchDriver(context, run, display, interrupt).lead
    run.update_summary({"headline": search_headline(run.path)})


@contextlib.contextmanager
def _improving(
    context: RunContext, run: RunDirectory, interrupt: Interrupt, resume: bool
) -> Iterator[Callable[[], None]]:
    with TaskProgress(Console(stderr=True)) as display:
        yield ImproveDriver(context, run, display, interrupt).run
    run.update_summary({"headline": improve_headline(run.path)})


def _assist(context: RunContext, run: RunDirectory) -> int:
    """Take trials from a search that another process leads; return the exit code."""
    print(f"{run.path} is being searched by another process: helping it", file=sys.stderr)
    with catch_signals() as interrupt, TaskProgress(Console(stderr=True)) as display:
        try:
            SearchDriver(context, run, display, interrupt).assist()
        except Interrupted:
            return interrupt.exit_code
    print("no trial is left to take: the other process finishes the search", file=sys.stderr)
    return 0


DRIVERS = {
    "learn": _learning,
    "improve": _improving,
    "hypervariance": _hypervariance,
    "search": _searching,
}


def again(run: RunDirectory) -> str:
    """Return the command that goes on with a run."""
    return f"hypergrad run --resume {run.path}"


def _device_text(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


def new_run(
    config: RunConfig,
    text: str,
    overrides: Sequence[str],
    place: Path | None = None,
    **files: Mapping[str, object],
) -> RunDirectory:
    """Make a run directory with its configuration in it, and say where it is.

    Args:
        config: The configuration.
        text: The same as YAML.
        overrides: What was typed.
        place: The directory, if one was named; else a new one under `outputs`.
        files: JSON files that it is to have from the first: `members` is `members.json`.

    Returns:
        The directory.

    Raises:
        ValueError: If it cannot be written, or something else lies there.
    """
    try:
        if place is not None:
            run = RunDirectory.create_at(place)
        else:
            run = RunDirectory.create(Path(config.outputs).expanduser(), config.name)
        for name, content in files.items():
            run.write_json(f"{name}.json", content)
        run.write_config(text, overrides)
    except OSError as error:
        where = f"outputs={config.outputs}" if place is None else f"--run-dir {place}"
        raise ConfigError(
            f"{where}: {error.strerror}; name a folder that can be written"
        ) from error
    print(f"run: {run.path}", file=sys.stderr)
    return run
