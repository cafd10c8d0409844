"""Where the members of a multi-run are run: here, in processes, or over a Ray cluster."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hypergrad.config.checks import ConfigError
from hypergrad.config.machine import check_machine
from hypergrad.parallel.worker import Executor

__all__ = ["Pool"]

GRACE = 30.0  # seconds that members in processes have for their checkpoints


class Pool(NamedTuple):
    """Where members are run.

    Attributes:
        jobs: Members at once; with Ray and 1: as many as there is room for.
        executor: `local`, processes of this machine if `jobs` is above 1; or `ray`.
        gpus: Of a machine of Ray's, for each member.
    """

    jobs: int = 1
    executor: str = "local"
    gpus: float = 0.0

    @property
    def is_used(self) -> bool:
        """Whether members get processes of their own."""
        return self.jobs > 1 or self.executor == "ray"

    def having(self, typed: Mapping[str, str]) -> "Pool":
        """Return the same but for what was typed.

        Raises:
            ConfigError: For a value that cannot be.
        """
        if not re.fullmatch(r"[1-9]\d*", jobs := typed.get("jobs", str(self.jobs))):
            raise ConfigError(f"jobs={jobs}: say how many members run at once, as in jobs=2")
        if not re.fullmatch(r"\d*\.?\d+", gpus := typed.get("gpus", str(self.gpus))):
            raise ConfigError(f"gpus={gpus}: give a share of one GPU, or whole ones")
        pool = Pool(int(jobs), typed.get("executor", self.executor), float(gpus))
        pool.of(threads=None)  # checks the rest
        return pool

    def check(self, threads: Iterable[str]) -> None:
        """Refuse more processes, or threads in all of them, than this machine could make use of.

        Args:
            threads: Of each member, as configured.

        Raises:
            ConfigError: Naming the setting, or both.
        """
        for each in dict.fromkeys(threads):
            check_machine(each, self.jobs, self.executor)

    def of(self, threads: int | None, members: int | None = None) -> Executor:
        """Return the executor of processes that compute with so many threads.

        Args:
            threads: Of each.
            members: How many there are to run, if that is known: no more processes start here.
        """
        jobs = self.jobs
        if members is not None and self.executor == "local":
            jobs = max(1, min(jobs, members))
        return Executor(self.executor, jobs, self.gpus, threads, GRACE)
