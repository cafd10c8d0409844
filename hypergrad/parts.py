"""Runs that are made of runs: one part a data set and method, each a run directory of its own."""

import sys
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from hypergrad import config as configs
from hypergrad.commands import new_run
from hypergrad.data import DataError
from hypergrad.launch import again, launch
from hypergrad.outcome import RunFailed
from hypergrad.report import NOT_ASKED, parts_headline, report_parts
from hypergrad.runs.directory import RunDirectory
from hypergrad.schema import RunConfig
from hypergrad.setting import prepare

__all__ = ["Member", "members_of", "resume_parts", "start_parts"]

SOME_FAILED = 3


class Member(NamedTuple):
    """One part of a run, before it has a directory.

    Attributes:
        name: Of its directory, such as `mnist_shared`.
        config: Its configuration.
        text: The same as YAML.
        overrides: What would have to be typed for it.
    """

    name: str
    config: RunConfig
    text: str
    overrides: list[str]


def members_of(experiment: str, overrides: Sequence[str]) -> list[Member]:
    """Return the parts of an experiment; what is typed for a group restricts it to that choice.

    Args:
        experiment: A name in `conf/experiment` whose `parts` name choices of config groups.
        overrides: Hydra overrides.

    Returns:
        The parts in order, the last group fastest.
    """
    config, _ = configs.compose(experiment, overrides)
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
    asked = {member.config.data.name for member in members}
    missing = {name: NOT_ASKED for name in config.parts.get("data", []) if name not in asked}
    unread: dict[str, DataError] = {}
    for member in members:
        if member.config.data.name not in unread:
            try:
                prepare(member.config)
            except DataError as error:
                unread[member.config.data.name] = error
    if asked <= unread.keys():
        raise next(iter(unread.values()))
    run = new_run(config, text, overrides)
    for member in members:
        run.part(member.name).write_config(member.text, member.overrides)
    run.update_summary({"parts": [member.name for member in members], "missing": missing})
    return _go(run, config)


def resume_parts(run: RunDirectory, config: RunConfig) -> int:
    """Go on with a run made of parts; data that was missing is looked for again.

    Args:
        run: Its directory.
        config: Its configuration.

    Returns:
        Exit code, as for `start_parts`.
    """
    return _go(run, config)


def _go(run: RunDirectory, config: RunConfig) -> int:
    """Take every part that is not finished to its end."""
    with run.hold():
        summary = run.read_summary()
        names = summary["parts"]
        missing = {data: why for data, why in summary["missing"].items() if why == NOT_ASKED}
        settings = {
            "model": config.model.name,
            "scale": config.scale_name,
            "epochs": config.epochs,
            "outer_steps": config.outer.steps,
        }
        state = {"experiment": config.name, "status": "running", "message": ""}
        run.update_summary({**state, "settings": settings})
        failed: dict[str, str] = {}
        for number, name in enumerate(names):
            run.update_summary({"progress": {"phase": name, "fraction": number / len(names)}})
            print(f"[{number + 1}/{len(names)}] {name}", file=sys.stderr)
            part = run.part(name)
            own = configs.load(part.config_text())
            if part.status() == "finished" or own.data.name in missing:
                continue
            try:
                code = launch(prepare(own), part, sys.argv, resume=True, part=True)
            except DataError as error:
                missing[own.data.name] = " ".join(str(error).split())
                run.update_summary({"missing": missing})
                print(f"hypergrad: {own.data.name} is missing: {error}", file=sys.stderr)
            except RunFailed as error:
                failed[name] = str(error)
                print(f"hypergrad: {name}: {error}", file=sys.stderr)
            else:
                if code:
                    run.update_summary({"status": "interrupted", "message": f"in {name}"})
                    print(f"interrupted; go on with: {again(run)}", file=sys.stderr)
                    return code
        run.update_summary(
            {
                "missing": missing,
                "progress": {"phase": "finished", "fraction": 1.0},
                "status": "failed" if failed else "finished",
                "message": "; ".join(failed.values()),
            }
        )
        if len(failed) == len(names):
            raise RunFailed(f"every part failed: {'; '.join(failed.values())}")
        run.update_summary({"headline": parts_headline(run.path)})
        report_parts(run, config)
    lost = [data for data, why in missing.items() if why != NOT_ASKED]
    for data, why in missing.items():
        print(f"{config.name}: without {data}: {why}", file=sys.stderr)
    return SOME_FAILED if failed or lost else 0
