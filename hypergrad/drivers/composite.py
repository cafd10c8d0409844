"""Runs that are made of runs: one part a data set and method, each a run directory of its own."""

import sys
from collections.abc import Iterator, Sequence
from itertools import product

from rich.console import Console

from hypergrad.config import composition as configs
from hypergrad.config.schema import RunConfig
from hypergrad.data import DataError
from hypergrad.drivers.context import check_ranks, prepare
from hypergrad.drivers.execute import again, execute, new_run
from hypergrad.drivers.table1 import Member, cells_of
from hypergrad.parallel.ranks import join_ranks
from hypergrad.parallel.subprocesses import side_by_side
from hypergrad.reporting.multirun_report import NOT_ASKED, parts_headline, report_parts
from hypergrad.reporting.task_progress import TaskProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.errors import RunFailed
from hypergrad.runs.interrupt import Interrupted, catch_signals

__all__ = ["members_of", "resume_parts", "start_parts", "subject_of"]

SOME_FAILED = 3


def members_of(experiment: str, overrides: Sequence[str]) -> list[Member]:
    """Return the parts of an experiment; what is typed for a group restricts it to that choice.

    Args:
        experiment: A name in `conf/experiment` whose `parts` name choices of config groups, or a
            table.
        overrides: Hydra overrides.

    Returns:
        The parts in order, the last group fastest.
    """
    config, _ = configs.compose(experiment, overrides)
    if config.driver == "table":
        return cells_of(config, overrides)
    typed = dict(text.split("=", 1) for text in overrides)
    ways = [[typed[key]] if key in typed else names for key, names in config.parts.items()]
    members = []
    for names in product(*ways):
        chosen = [f"{key}={name}" for key, name in zip(config.parts, names, strict=True)]
        own = [text for text in overrides if text.split("=", 1)[0] not in config.parts] + chosen
        members.append(Member("_".join(names), *configs.compose(experiment, own), own))
    return members


def start_parts(experiment: str, overrides: Sequence[str]) -> int:
    """Begin a run made of parts and see it through.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides.

    Returns:
        Exit code: 3 if some parts failed or their data is missing.

    Raises:
        ValueError: If no part can be run; nothing is written then.
    """
    members = members_of(experiment, overrides)
    config, text = configs.compose(experiment, overrides)
    for one in (config, *(member.config for member in members)):
        check_ranks(one, join_ranks())
    absent = _absent([member.config for member in members])
    asked = {subject_of(member.config) for member in members}
    if asked <= absent.keys():
        raise absent[subject_of(members[0].config)]
    run = new_run(config, text, overrides)
    for member in members:
        run.part(member.name).write_config(member.text, member.overrides)
    missing = {name: NOT_ASKED for name in config.parts.get("data", []) if name not in asked}
    run.update_summary({"parts": [member.name for member in members], "missing": missing})
    return _see_through(run, config, absent)


def resume_parts(run: RunDirectory, config: RunConfig) -> int:
    """Go on with a run made of parts; data that was missing is looked for again.

    Args:
        run: Its directory.
        config: Its configuration.

    Returns:
        Exit code, as for `start_parts`.
    """
    left = [part for name in run.read_summary()["parts"] if not _is_done(part := run.part(name))]
    members = [_config_of(part) for part in left]
    for one in (config, *members):
        check_ranks(one, join_ranks())
    return _see_through(run, config, _absent(members))


def subject_of(config: RunConfig) -> str:
    """Return what a part is about: its data set, or its column of a table."""
    return config.table_column or config.data.name


def _absent(members: Sequence[RunConfig]) -> dict[str, DataError]:
    """Try every subject's data, and every way to use it, once; return what is not there."""
    absent: dict[str, DataError] = {}
    tried: set[tuple[str, str]] = set()
    for config in members:
        subject = subject_of(config)
        if subject in absent or (subject, config.driver) in tried:
            continue
        tried.add((subject, config.driver))
        try:
            prepare(config)
        except DataError as error:
            absent[subject] = error
    return absent


def _see_through(run: RunDirectory, config: RunConfig, absent: dict[str, DataError]) -> int:
    """Take all parts that are left to their end, then report; return the exit code."""
    with run.hold():
        summary = run.read_summary()
        names = summary["parts"]
        missing = {name: why for name, why in summary["missing"].items() if why == NOT_ASKED}
        missing |= {name: " ".join(str(error).split()) for name, error in absent.items()}
        state = {"experiment": config.experiment, "status": "running", "message": ""}
        about = {"figures": config.figures, "settings": _settings(config)}
        run.update_summary({**state, **about, "missing": missing})
        parts = [run.part(name) for name in names]
        left = [
            part
            for part in parts
            if not _is_done(part) and subject_of(_config_of(part)) not in absent
        ]
        failed: dict[str, str] = {}
        go = _together if config.jobs > 1 else _one_by_one
        try:
            for part, trouble in go(run, config, parts, left):
                if trouble:
                    failed[part.path.name] = trouble
                    print(f"hypergrad: {part.path.name}: {trouble}", file=sys.stderr)
        except _Stopped as stopped:
            run.update_summary({"status": "interrupted", "message": f"in {stopped.where}"})
            print(f"interrupted; go on with: {again(run)}", file=sys.stderr)
            return stopped.code
        run.update_summary(
            {
                "progress": {"phase": "finished", "fraction": 1.0},
                "status": "failed" if failed else "finished",
                "message": "; ".join(failed.values()),
            }
        )
        if len(failed) == len(names):
            raise RunFailed(f"every part failed: {'; '.join(failed.values())}")
        run.update_summary({"headline": parts_headline(run, config)})
        report_parts(run, config)
    for name, why in missing.items():
        print(f"{config.experiment}: without {name}: {why}", file=sys.stderr)
    return SOME_FAILED if failed or absent else 0


class _Stopped(Exception):  # noqa: N818 (a request, not an error)
    """The run was asked to stop, with this exit code, at some part."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(where)
        self.code, self.where = code, where


def _one_by_one(
    run: RunDirectory,
    config: RunConfig,
    parts: Sequence[RunDirectory],
    left: Sequence[RunDirectory],
) -> Iterator[tuple[RunDirectory, str]]:
    """Take parts to their end here, one after another; yield each with what went wrong."""
    for part in left:
        number, name = parts.index(part), part.path.name
        run.update_summary({"progress": {"phase": name, "fraction": _share(parts)}})
        print(f"[{number + 1}/{len(parts)}] {name}", file=sys.stderr)
        try:
            code = execute(prepare(_config_of(part)), part, sys.argv, resume=True, part=True)
        except RunFailed as error:
            yield part, str(error)
            continue
        if code:
            raise _Stopped(code, name)
        yield part, "" if _is_done(part) else "another process is at it"


def _together(
    run: RunDirectory,
    config: RunConfig,
    parts: Sequence[RunDirectory],
    left: Sequence[RunDirectory],
) -> Iterator[tuple[RunDirectory, str]]:
    """Take parts to their end in processes, several at once; yield each with what went wrong."""
    with catch_signals() as interrupt, TaskProgress(Console(stderr=True)) as display:
        display.begin(len(parts), len(parts) - len(left), _share(parts))
        where = ""

        def watch(running: list[RunDirectory]) -> None:
            nonlocal where
            where, share = ", ".join(part.path.name for part in running), _share(parts)
            run.update_summary({"progress": {"phase": where, "fraction": share}})
            display.done(where, 0, share)

        try:
            for part, trouble in side_by_side(left, config.jobs, interrupt, watch):
                display.done(where, 1, _share(parts))
                if not trouble:
                    display.say(f"{part.path.name}: {part.read_summary().get('headline', 'done')}")
                yield part, trouble
        except Interrupted:
            raise _Stopped(interrupt.exit_code, where) from None


def _config_of(part: RunDirectory) -> RunConfig:
    return configs.load(part.config_text())


def _is_done(part: RunDirectory) -> bool:
    return part.status() == "finished"


def _share(parts: Sequence[RunDirectory]) -> float:
    """How much of all parts is done, in [0, 1]."""
    done = [part.read_summary().get("progress", {}).get("fraction", 0.0) for part in parts]
    return sum(done) / len(done)


def _settings(config: RunConfig) -> dict[str, object]:
    """What the figures and tables say about the whole run."""
    if config.driver == "table":
        return {
            "scale": config.scale,
            "rows": " ".join(config.table.rows),
            "columns": " ".join(config.table.columns),
            "seeds": " ".join(map(str, config.seeds)),
            "budget": config.budget,
            "budgets": config.table.budgets,
        }
    return {
        "model": config.model.name,
        "scale": config.scale,
        "epochs": config.epochs,
        "outer_steps": config.outer.steps,
    }
