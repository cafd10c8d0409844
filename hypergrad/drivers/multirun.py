"""Driver of runs that are made of runs: a parent directory with a run directory for each member.

`members.json` is in the parent before anything else and says all that the members are; their
directories are made when their turn comes. Each member writes its own, checkpoints included, so the
whole goes on from wherever it was stopped, in any number of processes.
"""

import contextlib
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from rich.console import Console

from hypergrad.config import composition as configs
from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.data import DataError
from hypergrad.drivers.context import prepare
from hypergrad.drivers.execute import again, execute, new_run
from hypergrad.drivers.first_look import FirstLook, look_at, nothing_to_run, one_line
from hypergrad.drivers.ground import check_ground, settings_of, take_up
from hypergrad.drivers.member_pool import Pool
from hypergrad.drivers.members import Member, from_entry, listed_in_file, members_of
from hypergrad.drivers.summary import multirun_settings
from hypergrad.drivers.threads import worker_threads
from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.reporting.multirun_report import (
    NOT_ASKED,
    multirun_headline,
    report_multirun,
    write_members,
)
from hypergrad.reporting.progress import TaskProgress
from hypergrad.reporting.run_report import report
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.errors import RunFailed
from hypergrad.runs.ground import Ground
from hypergrad.runs.interrupt import Interrupt, Interrupted, catch_signals

__all__ = ["MultiRun", "is_multirun", "start_multirun"]

SOME_FAILED = 3
LOOK = 0.5  # seconds between two looks at how far they are
LOSSES = 3  # times that a member may lose its process before it counts as failed
LOG = "log.txt"  # of a member in a process: what it would have said on the terminal


def start_multirun(
    whole: Member,
    command: Sequence[str],
    pool: Pool,
    *,
    sweep: bool = False,
    place: Path | None = None,
) -> int:
    """Begin a run that is made of runs, and see it through.

    Args:
        whole: What it is, and its members.
        command: The command line, for the record.
        pool: Where they are run.
        sweep: Its members are runs of their own, which draw and report; else it does that.
        place: Its directory, if one was named.

    Returns:
        Exit code: 0; 3 if some members failed or could not begin; that of a signal.

    Raises:
        ValueError: If no member can begin; nothing is written then.
        RunFailed: If every member failed.
    """
    look = look_at(whole.members)
    if len(look.refused) == len(whole.members):
        raise nothing_to_run(look.refused)
    listed = listed_in_file(whole.members, pool, sweep)
    run = new_run(whole.config, whole.text, whole.overrides, place, members=listed)
    return MultiRun(run, command).drive(look)


def is_multirun(run: RunDirectory) -> bool:
    """Say whether a run directory is that of a run made of runs."""
    return (run.path / "members.json").is_file()


class MultiRun:
    """A run made of runs, from wherever its files say it is.

    Args:
        run: Its directory.
        command: The command line, for the record.
        pool: What was typed of where members are run; the rest is as it was begun.
        member: It is itself a member of another, which says how to resume.
        accept: Its members go on with other threads or versions than they began with.

    Raises:
        ConfigError: If its settings or its members are not those that it began with.
    """

    def __init__(
        self,
        run: RunDirectory,
        command: Sequence[str],
        pool: Mapping[str, str] = MappingProxyType({}),
        *,
        member: bool = False,
        accept: bool = False,
    ) -> None:
        listed = members_of(run)
        self._run = run
        self._config = configs.load_run(run)
        self._accept = accept
        self._ground = Ground(settings_of(self._config), {})
        check_ground(run, self._ground)
        try:
            members = [from_entry(entry) for entry in listed["members"]]
            self._sweep = bool(listed["sweep"])
            self._pool = Pool(**listed["pool"]).having(pool)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{run.path / 'members.json'} is damaged ({error!r})") from error
        self._members = {member.name: member for member in members}
        if pool:
            self._pool.check(member.config.threads for member in self._members.values())
        self._command = list(command)
        self._member = member
        self._costs: dict[str, float] = {}  # of members that can begin

    @property
    def members(self) -> list[Member]:
        """Its members, in order."""
        return list(self._members.values())

    def drive(self, look: FirstLook | None = None) -> int:
        """Take all members that are left to their end, then report.

        Args:
            look: What was seen of them just now; they are looked at if that is not given.

        Returns:
            Exit code, as for `start_multirun`.
        """
        left = [member for name, member in self._members.items() if not self._is_done(name)]
        refused, costs = look_at(left) if look is None else look
        with self._run.hold(), catch_signals() as interrupt:
            take_up(self._run, self._ground)
            self._tidy()
            missing, failed = self._begin(refused, costs)
            going = [member for member in left if member.name not in refused]
            # Members of this process have live lines of their own.
            live = None if self._pool.is_used else False
            try:
                with TaskProgress(Console(stderr=True, force_terminal=live)) as display:
                    done = len(self._members) - len(left)
                    display.begin(len(self._members), done, self._share())
                    go = self._in_processes if self._pool.is_used else self._here
                    for name, trouble in go(going, interrupt, display):
                        if trouble:
                            failed[name] = trouble
                            print(f"hypergrad: {name}: {trouble}", file=sys.stderr)
            except Interrupted:
                self._run.update_summary(
                    {"status": "interrupted", "message": str(interrupt.requested)}
                )
                if not self._member:
                    print(f"interrupted; go on with: {again(self._run)}", file=sys.stderr)
                return interrupt.exit_code
            finally:
                write_members(self._run)
            self._finish(missing, failed)
        return SOME_FAILED if failed or set(missing.values()) - {NOT_ASKED} else 0

    def _tidy(self) -> None:
        """Remove what kills have left in members that have come to their end."""
        for name in self._members:
            if self._is_done(name):
                with contextlib.suppress(ValueError), self._directory(name).hold():
                    pass

    def _begin(
        self, refused: Mapping[str, ValueError], costs: Mapping[str, float]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Bring the summary up to date; return the subjects without data, and who else fails."""
        asked = {_subject(member.config) for member in self._members.values()}
        able = {_subject(m.config) for name, m in self._members.items() if name not in refused}
        listed = [] if self._sweep else self._config.members.get("data", [])
        missing = {name: NOT_ASKED for name in listed if name not in asked}
        failed = {}
        for name, error in refused.items():
            subject = _subject(self._members[name].config)
            if isinstance(error, DataError) and subject not in able:
                missing[subject] = one_line(error)
            else:
                failed[name] = one_line(error)
                print(f"hypergrad: {name}: {failed[name]}", file=sys.stderr)
        known = self._run.read_summary().get("costs", {})
        costs = {**known, **costs}
        self._costs = {n: costs.get(n, 0.0) for n in self._members if n not in refused}
        self._run.update_summary(
            {
                "experiment": self._config.experiment,
                "figures": [] if self._sweep else self._config.figures,
                "status": "running",
                "message": "",
                "members": list(self._members),
                "missing": missing,
                "costs": self._costs,
                "settings": {} if self._sweep else multirun_settings(self._config),
            }
        )
        return missing, failed

    def _finish(self, missing: Mapping[str, str], failed: Mapping[str, str]) -> None:
        """Say what the members came to."""
        self._run.update_summary(
            {
                "progress": {"phase": "finished", "fraction": 1.0},
                "status": "failed" if failed else "finished",
                "message": "; ".join(failed.values()),
            }
        )
        count = len(self._members)
        if len(failed) == count:
            raise RunFailed(f"every member failed: {'; '.join(failed.values())}")
        headline = multirun_headline(self._run, self._config, sweep=self._sweep)
        self._run.update_summary({"headline": headline})
        report_multirun(self._run, self._config, sweep=self._sweep)
        if failed:
            print(f"{len(failed)} of {count} failed: {'; '.join(failed)}", file=sys.stderr)
        for name, why in missing.items():
            print(f"{self._config.experiment}: without {name}: {why}", file=sys.stderr)

    def _here(
        self, members: Sequence[Member], interrupt: Interrupt, display: TaskProgress
    ) -> Iterator[tuple[str, str]]:
        """Take members to their end in this process; yield each with what went wrong."""
        names = list(self._members)
        for member in members:
            self._note(member.name)
            place = names.index(member.name) + 1
            print(f"[{place}/{len(names)}] {member.name}", file=sys.stderr)
            yield member.name, run_member(self._task(member))
            display.done(member.name, 1, self._share())
            if interrupt.requested:
                raise Interrupted(interrupt.requested)

    def _in_processes(
        self, members: Sequence[Member], interrupt: Interrupt, display: TaskProgress
    ) -> Iterator[tuple[str, str]]:
        """Take members to their end in several processes; yield each with what went wrong."""
        executor = self._executor(members)
        left = {member.name: member for member in members}
        losses: Counter[str] = Counter()
        running: list[str] = []

        def tasks() -> Iterator[MemberTask]:
            for name in list(left):
                running.append(name)
                yield self._task(left[name])

        def tick() -> None:
            where = ", ".join(running)
            self._note(where)
            display.done(where, 0, self._share())

        while left:
            running.clear()
            try:
                with _repeating(tick):
                    for task, trouble in spread(
                        run_member_in_worker, tasks(), executor, interrupt, begin
                    ):
                        name = task.member.name
                        running.remove(name)
                        del left[name]
                        display.done(name, 1, self._share())
                        if not trouble:
                            headline = self._directory(name).read_summary().get("headline")
                            display.say(f"{name}: {headline or 'done'}")
                        yield name, trouble
            except WorkerLost as error:
                display.note(f"{error}: its members go on from their checkpoints")
                losses.update(running)
                for name in [name for name in running if losses[name] == LOSSES]:
                    del left[name]
                    yield name, f"{error}, {LOSSES} times"

    def _executor(self, members: Sequence[Member]) -> Executor:
        """Where members are run, each with the threads that it asks for or its share."""
        asked = {member.config.threads for member in members}
        threads = asked.pop() if len(asked) == 1 else "auto"  # one that asks for more gets it
        jobs = self._pool.of(None, len(members)).jobs
        return self._pool.of(worker_threads(threads, self._pool.executor, jobs) or 1, len(members))

    def _task(self, member: Member) -> "MemberTask":
        return MemberTask(self._run.path, member, self._command, self._sweep, self._accept)

    def _note(self, where: str) -> None:
        self._run.update_summary({"progress": {"phase": where, "fraction": self._share()}})

    def _share(self) -> float:
        """How much of all members is done, in [0, 1], by their cost where that is known."""
        known, done, whole = all(self._costs.values()), 0.0, 0.0
        for name, cost in self._costs.items():
            weight = cost if known else 1.0
            try:
                progress = self._directory(name).read_summary().get("progress", {})
            except ValueError:  # damaged; the member itself rebuilds it
                progress = {}
            done += weight * progress.get("fraction", 0.0)
            whole += weight
        return done / whole if whole else 0.0

    def _directory(self, name: str) -> RunDirectory:
        return RunDirectory(self._run.path / name)

    def _is_done(self, name: str) -> bool:
        return self._directory(name).status() == "finished"


class MemberTask(NamedTuple):
    """A member to be taken to its end; `sweep` as for `start_multirun`, `accept` for `MultiRun`."""

    parent: Path
    member: Member
    command: list[str]
    sweep: bool
    accept: bool = False


def run_member(task: MemberTask) -> str:
    """Take a member to its end, from wherever it is; its directory is made if it is missing.

    Args:
        task: Which, and of what.

    Returns:
        What went wrong; empty if nothing did.

    Raises:
        Interrupted: After a checkpoint, when asked to stop.
    """
    member = task.member
    run = RunDirectory(task.parent).member(member.name)
    if not (run.path / ".hydra" / "config.yaml").is_file():
        if member.members:
            run.write_json("members.json", listed_in_file(member.members, Pool(), sweep=False))
        run.write_config(member.text, member.overrides)
    try:
        if member.members:
            code = MultiRun(run, task.command, member=True, accept=task.accept).drive()
        else:
            config = configs.load_run(run)  # with what `auto` became when it began
            how = {"resume": True, "member": True, "accept": task.accept}
            code = execute(prepare(config), run, task.command, **how)
            if code == 0 and task.sweep and run.status() == "finished":
                report(run, config)
    except (RunFailed, ValueError) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        return one_line(error)
    if code == SOME_FAILED:
        return "some of its members failed"
    if code:
        raise Interrupted(member.name)
    return "" if run.status() == "finished" else "another process is at it"


def begin() -> None:
    """Get a worker process ready for members: there is nothing that they share."""


def run_member_in_worker(task: MemberTask) -> str:
    """Take a member to its end in a worker process; what it says goes to its `log.txt`."""
    run = RunDirectory(task.parent).member(task.member.name)
    with _speaking_to(run.path / LOG), catch_signals() as interrupt:
        try:
            return run_member(task)
        except Interrupted:
            return f"was stopped by {interrupt.requested}"


def _subject(config: RunConfig) -> str:
    """What a member is about: its data set, or its column of a table."""
    return config.table_column or config.data.name


@contextlib.contextmanager
def _repeating(act: Callable[[], None]) -> Iterator[None]:
    """Do something now and then, in a thread, until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(LOOK):
            act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _speaking_to(path: Path) -> Iterator[None]:
    """Let everything that this process prints go to the end of a file, until the block ends."""
    streams = sys.stdout, sys.stderr
    kept = [os.dup(stream.fileno()) for stream in streams]
    try:
        with path.open("ab") as file:
            for stream in streams:
                os.dup2(file.fileno(), stream.fileno())
        yield
    finally:
        for stream, number in zip(streams, kept, strict=True):
            stream.flush()
            os.dup2(number, stream.fileno())
            os.close(number)
