"""Which trials are left, within the budget, and which of them this process takes next."""

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence

import filelock

from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.drivers.search.candidates import candidates
from hypergrad.drivers.search.trial import Known, Trial, TrialResult, scores_of
from hypergrad.drivers.search.trial_store import TrialStore, name_of

__all__ = ["TrialQueue", "open_trials"]


def open_trials(config: RunConfig, seed: int, planned: Spent, known: Known) -> Iterator[Trial]:
    """Yield the trials of one seed that its budget pays for, finished or not, in order.

    Trial `k` is in the budget if all before it leave room for it. Those not finished yet count with
    their planned cost, which is never less than the true one (of seconds: with the mean of the
    finished ones). So with a budget of trials or gradients the same trials are run whatever number
    of processes shares them.

    Args:
        config: The run's configuration.
        seed: Of the repeat.
        planned: Cost of one trial that runs to its end; its seconds do not matter.
        known: What a trial came to, or None.

    Yields:
        At least one trial; without an end while no budget ends them.
    """
    allowance, total = config.allowance, Spent()
    seconds: list[float] = []
    if allowance is not None and allowance.unit == "seconds":
        seconds = _seconds_of(config, seed, known)
    typical = planned._replace(seconds=statistics.fmean(seconds) if seconds else 0.0)
    for candidate in candidates(config, seed, scores_of(known, seed)):
        cost = typical.over(candidate.share(config.epochs))
        if allowance is not None and total.trials and not allowance.allows(total, cost):
            return
        trial = Trial(candidate, seed)
        yield trial
        result = known(trial)
        total = total.plus(cost if result is None else result.spent)


def _seconds_of(config: RunConfig, seed: int, known: Known) -> list[float]:
    """Seconds of the trials finished at the front of a search, each as of a whole training."""
    found = []
    for candidate in candidates(config, seed, scores_of(known, seed)):
        result = known(Trial(candidate, seed))
        if result is None:
            break
        found.append(result.spent.seconds / candidate.share(config.epochs))
    return found


class TrialQueue:
    """Hands out trials that nobody has finished or is at, and holds the claims on them.

    Args:
        records: Finished trials, and claims.
        size: How many trials to train together at most.
    """

    def __init__(self, records: TrialStore, size: int) -> None:
        self._store = records
        self._size = size
        self._held: dict[str, filelock.BaseFileLock] = {}
        self._lock = threading.Lock()  # joblib takes groups in a thread of its own

    def groups(self, wanted: Callable[[], Iterator[Trial]]) -> Iterator[list[Trial]]:
        """Yield claimed trials, alone or several of one start together, until none is to be had.

        Args:
            wanted: All trials that are wanted as things stand, finished or not.

        Yields:
            Trials that this process has claimed; `settle` or `drop` them.
        """
        while group := self._next(wanted()):
            yield group

    def settle(self, trials: Sequence[Trial], results: Sequence[TrialResult]) -> None:
        """Keep what claimed trials came to, and release them."""
        with self._lock:
            for trial, result in zip(trials, results, strict=True):
                self._store.write(trial, result)
                self._held.pop(name_of(trial)).release()

    def drop(self) -> None:
        """Release everything: the trials under way are given up."""
        with self._lock:
            for lock in self._held.values():
                lock.release()
            self._held.clear()

    def _next(self, wanted: Iterator[Trial]) -> list[Trial]:
        group: list[Trial] = []
        with self._lock:
            self._store.refresh()
            for trial in wanted:
                if self._store.get(trial) is not None or name_of(trial) in self._held:
                    continue
                if group and trial.start != group[0].start:
                    break
                lock = self._store.claim(trial)
                if lock is None:
                    continue
                self._held[name_of(trial)] = lock
                group.append(trial)
                if trial.final or len(group) == self._size:
                    break
        return group
