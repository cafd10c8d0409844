"""Which members a multi-run has: those of an experiment, of a table, of a sweep."""

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.machine import check_machine
from hypergrad.config.overrides import expand_sweep
from hypergrad.config.schema import RunConfig
from hypergrad.drivers.member_pool import Pool
from hypergrad.drivers.table1 import table_members
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.plain_files import check_member_name
from hypergrad.runs.provenance import made_by
from hypergrad.runs.records import checksum

__all__ = [
    "Member",
    "as_entry",
    "compose_member",
    "compose_sweep",
    "from_entry",
    "listed_in_file",
    "members_of",
    "split_pool",
]

POOL = ("jobs", "executor", "gpus")  # how members are run, not what they are
LONGEST = 100  # characters in the name of a sweep's member: it names a folder


class Member(NamedTuple):
    """A run inside a multi-run; also a multi-run itself, by its own members.

    Attributes:
        name: Of its directory, such as `mnist_shared`.
        overrides: What would have to be typed for it.
        config: Its configuration; of a sweep, that of its first member.
        text: The same as YAML.
        members: Its own, if it is made of runs.
    """

    name: str
    overrides: Sequence[str]
    config: RunConfig
    text: str
    members: "tuple[Member, ...]" = ()


def compose_member(name: str, experiment: str, overrides: Sequence[str]) -> Member:
    """Compose a run, and its members if it is made of runs.

    Args:
        name: Of its directory in the multi-run that it is a member of, if any.
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides; what is typed for a group restricts the members to that choice.

    Returns:
        The run, its members in order: the last group fastest.
    """
    config, text = configs.compose(experiment, overrides)
    listed: list[tuple[str, str, list[str]]] = []
    if config.driver == "table":
        listed = table_members(config, overrides)
    elif config.members:
        typed = dict(override.split("=", 1) for override in overrides)
        ways = [[typed[key]] if key in typed else names for key, names in config.members.items()]
        others = (*config.members, *POOL)
        kept = [text for text in overrides if text.split("=", 1)[0] not in others]
        for names in product(*ways):
            chosen = [f"{key}={name}" for key, name in zip(config.members, names, strict=True)]
            listed.append(("_".join(names), experiment, kept + chosen))
    members = tuple(
        Member(own, typed, *configs.compose(experiment, typed)) for own, experiment, typed in listed
    )
    for own in members:
        if own.config.driver == "table":
            raise ConfigError("driver=table: `hypergrad run table1` is the table; drop it")
        check_machine(own.config.threads, config.jobs, config.executor)
    return Member(name, list(overrides), config, text, members)


def compose_sweep(experiment: str, overrides: Sequence[str]) -> Member:
    """Compose every member of a sweep.

    Args:
        experiment: A name in `conf/experiment`.
        overrides: Hydra overrides, some with several values.

    Returns:
        The sweep; its members are called by number and by what was swept: `0_seed=0`.
    """
    expanded = expand_sweep(overrides)
    swept = [len(set(values)) > 1 for values in zip(*expanded, strict=True)]
    digits = len(str(len(expanded) - 1))
    members = []
    for number, own in enumerate(expanded):
        varied = ",".join(text for text, varies in zip(own, swept, strict=True) if varies)
        name = re.sub(r"[^\w.,=+-]", "_", f"{number:0{digits}d}_{varied}".rstrip("_"))[:LONGEST]
        members.append(compose_member(name, experiment, own))
    first = members[0]
    return Member("", list(overrides), first.config, first.text, tuple(members))


def split_pool(overrides: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split off what was typed for a multi-run and is not its members': where they are run.

    Args:
        overrides: Hydra overrides.

    Returns:
        `jobs`, `executor` and `gpus`, as far as they were typed; and the other overrides.

    >>> split_pool(["seed=0,1", "jobs=2"])
    ({'jobs': '2'}, ['seed=0,1'])
    """
    own = [text for text in overrides if text.partition("=")[0] in POOL]
    return dict(text.split("=", 1) for text in own), [t for t in overrides if t not in own]


def as_entry(member: Member) -> dict[str, object]:
    """Return a member as it is written to `members.json`."""
    return {
        "name": member.name,
        "overrides": list(member.overrides),
        "config": member.text,
        "members": [as_entry(own) for own in member.members],
    }


def from_entry(entry: dict) -> Member:
    """Return the member that `as_entry` wrote.

    Raises:
        ValueError: For an entry that it did not write, such as the name `../victim`.
    """
    try:
        name, text, typed = check_member_name(entry["name"]), entry["config"], entry["overrides"]
        if not (isinstance(text, str) and all(isinstance(own, str) for own in typed)):
            raise TypeError
        members = tuple(from_entry(own) for own in entry["members"])
    except (KeyError, TypeError, RecursionError):
        raise ConfigError("members.json is damaged: restore it, or start a new run") from None
    return Member(name, list(typed), configs.load(text), text, members)


def listed_in_file(members: Sequence[Member], pool: Pool, sweep: bool) -> dict[str, object]:
    """What `members.json` says."""
    entries = [as_entry(member) for member in members]
    listed = {"sweep": sweep, "pool": pool._asdict(), "members": entries}
    return {**listed, "sha256": checksum(listed)}


def members_of(run: RunDirectory) -> dict:
    """Return what `members.json` says.

    Raises:
        ConfigError: If it is not what was written when the run began.
    """
    found = run.read_json("members.json")
    kept = found.pop("sha256", None)
    if kept is None:
        raise ConfigError(f"{run.path} was made by {made_by(run)}: go on with that version")
    if kept != checksum(found):
        raise ConfigError(
            f"{run.path / 'members.json'} has changed since the run began: restore it, or start a "
            "new run"
        )
    return found
