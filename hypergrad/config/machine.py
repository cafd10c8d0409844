"""What this machine can make use of: its processors, and how many threads are absurd."""

import os

from hypergrad.config.checks import ConfigError

__all__ = ["check_absurd", "check_machine", "cores"]

MOST = 1024  # threads or processes of the largest machine that a run may come from
SPARE = 8  # threads or processes a core that somebody may have a reason for


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_absurd(threads: str, jobs: int) -> None:
    """Refuse what no machine had that a run comes from; it keeps its numbers elsewhere.

    Raises:
        ConfigError: For a number of more than 1,024.
    """
    count = 1 if threads == "auto" else _number(threads)
    for key, number in (("threads", count), ("jobs", jobs)):
        if number > MOST:
            raise ConfigError(f"the run's configuration: {key}={str(number)[:20]}: {MOST} at most")


def _number(threads: str) -> int:
    """The number that is written; one that nobody can mean has too many digits for `int`."""
    return int(threads[:20])


def check_machine(threads: str, jobs: int, executor: str = "local") -> None:
    """Refuse more threads or processes, or threads of all processes, than could ever be of use.

    For what is typed: a run that is resumed elsewhere keeps its own.

    Args:
        threads: A number, or `auto`, which is a share of the cores.
        jobs: Worker processes.
        executor: Those of Ray are on other machines.

    Raises:
        ConfigError: For a number, or a product, of more than eight a core.
    """
    count = 1 if threads == "auto" else _number(threads)
    jobs = jobs if executor == "local" else 1
    most = SPARE * cores()
    limit = f"this machine has {cores()} cores; {most} at most"
    for key, number in (("threads", count), ("jobs", jobs)):
        if number > most:
            raise ConfigError(f"{key}={number}: {limit}")
    if count * jobs > most:
        raise ConfigError(f"threads={count} with jobs={jobs}: {count * jobs} threads; {limit}")
