"""Where the members of a multi-run are run: here, in processes, or over a Ray cluster."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from hypergrad.config.checks import ConfigError
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

    def of(self, threads: int | None) -> Executor:
        """Return the executor of processes that compute with so many threads."""
        return Executor(self.executor, self.jobs, self.gpus, threads, GRACE)
