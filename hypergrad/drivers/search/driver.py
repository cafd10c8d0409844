"""Driver of Figure 5 and of three rows of Table 1: run the trials that are left, choose, test.

Any number of processes may work on one run directory. The one that holds the run leads: it writes
`trials.csv` and the summary, and does the final trainings. The others only take trials.
"""

import time
from collections.abc import Callable, Iterator
from itertools import chain, islice, takewhile

from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.core.schedule import Schedule
from hypergrad.drivers.context import RunContext, computing, prepare
from hypergrad.drivers.search.progress import SearchProgress
from hypergrad.drivers.search.selection import Chosen, choose
from hypergrad.drivers.search.trial import Trainer, Trial, TrialResult
from hypergrad.drivers.search.trial_queue import TrialQueue, open_trials
from hypergrad.drivers.search.trial_store import TrialStore, name_of
from hypergrad.drivers.threads import worker_count, worker_threads
from hypergrad.parallel.pool import spread
from hypergrad.parallel.worker import Executor, WorkerLost
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.training.ensemble import joint_obstacle

__all__ = ["SearchDriver"]

LOOK = 1.0  # seconds between two looks at what other processes have finished
LOSSES = 3  # workers lost in a row, without a trial finished in between, that end a search
LARGEST = 64  # trials trained together, where that is measured

_ready: tuple[RunConfig, Trainer] | None = None  # of a worker process


class SearchDriver:
    """One search, from wherever its files say it is.

    Args:
        context: What to run.
        run: Its directory.
        display: Is told what happens.
        interrupt: Asks it to stop.
    """

    def __init__(
        self, context: RunContext, run: RunDirectory, display: TaskProgress, interrupt: Interrupt
    ) -> None:
        self._config = context.config
        self._data = context.data
        self._run = run
        self._display = display
        self._interrupt = interrupt
        self._store = TrialStore(run.path)
        self._trainer = Trainer(context.config, context.data)
        trial = context.plan.runs[0]
        self._planned = Spent(gradients=round(trial.steps * trial.gradients), trials=1)
        self._final_horizon = context.plan.runs[-1].steps
        self._workers = worker_count(context.config, context.plan)
        self._progress = SearchProgress(self._config, run, self._store, display)
        self._leads = False

    def lead(self) -> None:
        """Do everything that is left, and write down what came of it; the run must be held.

        Raises:
            Interrupted: When asked to stop; the trials under way are given up.
        """
        self._leads = True
        self._store.remove_leftovers()
        # What was chosen before a search grew is not what it will choose.
        self._run.update_summary({"best": None, "results": []})
        self._progress.open()
        try:
            self._complete(self._wanted)
        finally:
            self._progress.gather()
        self._progress.say_what_ended_it(self._planned)
        chosen = choose(self._config.search.kind, self._progress.finished())
        finals = {seed: _final(seed, choice) for seed, choice in chosen.items()}
        trials = [trial for trial in finals.values() if not trial.hd]
        self._complete(lambda: iter(trials))
        self._conclude(chosen, finals)
        self._progress.write("finals.csv", [(t, r) for t in trials if (r := self._store.get(t))])
        self._run.update_summary({"progress": {"phase": "finished", "fraction": 1.0}})
        self._store.tidy()

    def assist(self) -> None:
        """Take trials from a search that another process leads, until none is to be had.

        Raises:
            Interrupted: When asked to stop.
        """
        self._progress.open()
        self._complete(self._wanted, wait=False)

    # Trials

    def _wanted(self) -> Iterator[Trial]:
        return chain.from_iterable(
            open_trials(self._config, seed, self._planned, self._store.get)
            for seed in self._config.seeds
        )

    def _complete(self, wanted: Callable[[], Iterator[Trial]], *, wait: bool = True) -> None:
        """Finish all trials that are wanted, with whoever else is at it."""
        queue, lost = TrialQueue(self._store, self._ensemble()), 0
        while True:
            finished = False
            try:
                for trials, results in self._trained(queue.groups(wanted)):
                    queue.settle(trials, results)
                    lost, finished = 0, True
                    self._progress.note(trials, results, write=self._leads)
            except WorkerLost as error:
                lost += 1
                if lost == LOSSES:
                    raise
                self._display.note(f"{error}: its trials are begun again")
                continue
            finally:
                queue.drop()
            self._store.refresh()
            if not wait or all(self._store.get(trial) for trial in wanted()):
                return
            if finished:
                continue  # what came of these may be what the next ones waited for
            self._pause()  # others are at the rest; if they die, their claims are to be had

    def _trained(
        self, groups: Iterator[list[Trial]]
    ) -> Iterator[tuple[list[Trial], list[TrialResult]]]:
        """Train groups of trials here, one after another, or in worker processes."""
        config = self._config
        if self._workers == 1 and config.executor == "local":
            return ((trials, self._trainer.train(trials, self._tick)) for trials in groups)
        executor = Executor(
            name=config.executor,
            jobs=self._workers,
            gpus=config.gpus,
            threads=worker_threads(config.threads, config.executor, self._workers),
        )
        return spread(work, groups, executor, self._interrupt, begin, (config,))

    def _tick(self) -> None:
        if self._interrupt.requested:
            raise Interrupted(self._interrupt.requested)

    def _pause(self) -> None:
        until = time.monotonic() + LOOK
        while time.monotonic() < until:
            self._tick()
            time.sleep(LOOK / 10)

    def _ensemble(self) -> int:
        """How many trials to train together: as configured, or as measured once in a search."""
        config = self._config
        if config.search.ensemble == "1" or config.search.kind == "tpe":
            return 1  # a proposal waits for what came of the one before
        first = next(self._wanted())
        if config.search.ensemble != "auto":
            if obstacle := joint_obstacle(self._trainer.problem(first).inner):
                raise ConfigError(f"{obstacle} (search.ensemble=1)")
            return int(config.search.ensemble)
        kept = self._run.read_summary().get("ensemble")
        if kept is not None:
            return int(kept["size"])
        alike = takewhile(lambda trial: trial.start == first.start, self._wanted())
        largest = sum(1 for _ in islice(alike, LARGEST))
        found = self._trainer.fastest_size(first, largest, self._tick)
        self._display.note(str(found))
        if self._leads:
            self._run.update_summary({"ensemble": found._asdict()})
        return found.size

    def _conclude(self, chosen: dict[int, Chosen], finals: dict[int, Trial]) -> None:
        """Write down what the final training of each seed's choice came to."""
        results, schedules = [], []
        for seed, trial in finals.items():
            choice = chosen[seed]
            result = None if trial.hd else self._store.get(trial)
            results.append(
                {
                    "seed": seed,
                    "method": self._config.search.kind,
                    "test_accuracy": (
                        self._data.test.chance if result is None else result.test_accuracy
                    ),
                    "validation_accuracy": choice.validation_accuracy,
                    "diverged": result is None or result.diverged,
                    "outer_step": None,
                    "setting": choice.candidate.number,
                }
            )
            if result is not None:
                values = trial.schedule or trial.candidate.over(self._final_horizon)
                schedules.append(
                    {
                        "seed": seed,
                        "validation_accuracy": choice.validation_accuracy,
                        **values.as_dict(),
                    }
                )
        best_seed, best = max(chosen.items(), key=lambda item: item[1].result.selection_key)
        self._run.write_json("schedule.json", {"schedules": schedules})
        self._run.update_summary(
            {
                "results": results,
                "best": {
                    "seed": best_seed,
                    "trial": name_of(Trial(best.candidate, best_seed)),
                    "setting": best.candidate.number,
                    "text": str(best.candidate),
                    "validation_accuracy": best.validation_accuracy,
                },
            }
        )


def begin(config: RunConfig) -> None:
    """Get a worker process ready: the data and the network, once."""
    global _ready
    _ready = config, Trainer(config, prepare(config).data)


def work(trials: list[Trial]) -> list[TrialResult]:
    """Do a group of trials in a worker process."""
    assert _ready is not None
    config, trainer = _ready
    with computing(config):
        return trainer.train(trials)


def _final(seed: int, choice: Chosen) -> Trial:
    """The final training of a choice; still `hd` where hypergradient descent found none."""
    values = choice.result.values
    schedule = None if values is None else Schedule(values)
    return Trial(choice.candidate, seed, final=True, schedule=schedule)
