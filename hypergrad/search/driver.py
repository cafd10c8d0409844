"""Driver of Figure 5 and of three rows of Table 1: run the trials that are left, choose, test.

Any number of processes may work on one run directory. The one that holds the run leads: it writes
`trials.csv` and the summary, and does the final trainings. The others only take trials.
"""

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from hypergrad.budget import Spent
from hypergrad.runs.atomic import write_text_atomically
from hypergrad.runs.directory import RunDirectory
from hypergrad.runs.interrupt import Interrupt, Interrupted
from hypergrad.schedule import Schedule
from hypergrad.schema import RunConfig
from hypergrad.search.candidates import candidates, count_of
from hypergrad.search.ensemble import check_ensemble, fastest_size
from hypergrad.search.queue import Queue, open_trials
from hypergrad.search.records import COLUMNS, Records, name_of, row_of
from hypergrad.search.selection import Chosen, choose
from hypergrad.search.train import Outcome, Trainer, Trial, chance
from hypergrad.setting import Setting, prepare
from hypergrad.tally_display import TallyDisplay
from hypergrad.workers import Executor, WorkerLost, spread

__all__ = ["Search"]

LOOK = 1.0  # seconds between two looks at what other processes have finished
LOSSES = 3  # workers lost in a row, without a trial finished in between, that end a search
FAR = 1000  # settings without a trial in a row, after which none is looked for
LARGEST = 64  # trials trained together, where that is measured

_trainer: Trainer | None = None  # of a worker process


class Search:
    """One search, from wherever its files say it is.

    Args:
        setting: What to run.
        run: Its directory.
        display: Is told what happens.
        interrupt: Asks it to stop.
    """

    def __init__(
        self, setting: Setting, run: RunDirectory, display: TallyDisplay, interrupt: Interrupt
    ) -> None:
        self._config = setting.config
        self._data = setting.data
        self._run = run
        self._display = display
        self._interrupt = interrupt
        self._records = Records(run.path)
        self._trainer = Trainer(setting.config, setting.data)
        part = setting.plan.parts[0]
        self._planned = Spent(gradients=round(part.steps * part.gradients), trials=1)
        self._final_horizon = setting.plan.parts[-1].steps
        self._total = count_of(self._config)
        self._leads = False
        self._gathered = time.monotonic()
        self._best, self._diverged = (-math.inf, -math.inf), 0

    def lead(self) -> None:
        """Do everything that is left, and write down what came of it; the run must be held.

        Raises:
            Interrupted: When asked to stop; the trials under way are given up.
        """
        self._leads = True
        # What was chosen before a search grew is not what it will choose.
        self._run.update_summary({"best": None, "results": []})
        self._begin()
        try:
            self._complete(self._wanted)
        finally:
            self._gather()
        self._say_what_ended_it()
        self._finish(choose(self._config.search.kind, self._finished()))
        self._run.update_summary({"progress": {"phase": "finished", "fraction": 1.0}})
        self._records.tidy()

    def assist(self) -> None:
        """Take trials from a search that another process leads, until none is to be had.

        Raises:
            Interrupted: When asked to stop.
        """
        self._begin()
        self._complete(self._wanted, wait=False)

    # Trials

    def _wanted(self) -> Iterator[Trial]:
        return chain.from_iterable(
            open_trials(self._config, seed, self._planned, self._records.get)
            for seed in self._config.seeds
        )

    def _complete(self, wanted: Callable[[], Iterator[Trial]], *, wait: bool = True) -> None:
        """Finish all trials that are wanted, with whoever else is at it."""
        queue, lost = Queue(self._records, self._ensemble()), 0
        while True:
            try:
                for trials, outcomes in self._results(queue, wanted):
                    queue.settle(trials, outcomes)
                    lost = 0
                    self._tell(trials, outcomes)
            except WorkerLost as error:
                lost += 1
                if lost == LOSSES:
                    raise
                self._display.note(f"{error}: its trials are begun again")
                continue
            finally:
                queue.drop()
            self._records.refresh()
            if not wait or all(self._records.get(trial) for trial in wanted()):
                return
            self._pause()  # others are at the rest; if they die, their claims are to be had

    def _results(
        self, queue: Queue, wanted: Callable[[], Iterator[Trial]]
    ) -> Iterator[tuple[list[Trial], list[Outcome]]]:
        config, groups = self._config, queue.groups(wanted)
        if config.jobs == 1 and config.search.executor == "local":
            for trials in groups:
                yield trials, self._trainer.train(trials, self._tick)
            return
        executor = Executor(
            name=config.search.executor,
            jobs=config.jobs,
            gpus=config.search.gpus,
            threads=config.threads,
        )
        yield from spread(work, groups, executor, self._interrupt, begin, (config,))

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
        if config.search.kind == "hd" or config.search.ensemble == "1":
            return 1
        stage = self._trainer.stage(next(self._wanted()))
        if config.search.ensemble != "auto":
            check_ensemble(stage.model)
            return int(config.search.ensemble)
        kept = self._run.read_summary().get("ensemble")
        if kept is not None:
            return int(kept["size"])
        horizon = config.epochs * stage.minibatches.steps_per_epoch
        size, seconds = fastest_size(
            stage.model,
            stage.theta,
            stage.minibatches,
            next(self._wanted()).candidate.over(horizon),
            config.method.clip_gradient,
            min(LARGEST, sum(1 for _ in zip(range(LARGEST), self._wanted(), strict=False))),
            self._tick,
        )
        times = ", ".join(f"{k} at once {1e3 * s:.2f} ms" for k, s in seconds.items())
        self._display.note(f"trains {size} at once (a step of each: {times})")
        if self._leads:
            self._run.update_summary({"ensemble": {"size": size, "seconds": seconds}})
        return size

    def _say_what_ended_it(self) -> None:
        allowance = self._config.allowance
        if allowance is None:
            return
        for seed, own in self._finished().items():
            if len(own) == self._total and allowance.allows(_spent(own), self._planned):
                self._display.note(
                    f"seed {seed}: search.trials={self._total} ended it before its budget of "
                    f"{self._config.budget} was spent (search.trials=null leaves it to the budget)"
                )

    # Final trainings

    def _finish(self, chosen: dict[int, Chosen]) -> None:
        """Train with each seed's chosen setting on the full training set, and test it, once."""
        finals = {seed: _final(seed, choice) for seed, choice in chosen.items()}
        trials = [trial for trial in finals.values() if not trial.greedy]
        self._complete(lambda: iter(trials))
        results, schedules = [], []
        for seed, trial in finals.items():
            choice = chosen[seed]
            outcome = None if trial.greedy else self._records.get(trial)
            results.append(
                {
                    "seed": seed,
                    "method": self._config.search.kind,
                    "test_accuracy": (
                        chance(self._data.test) if outcome is None else outcome.test_accuracy
                    ),
                    "validation_accuracy": choice.validation_accuracy,
                    "diverged": outcome is None or outcome.diverged,
                    "outer_step": None,
                    "setting": choice.candidate.number,
                }
            )
            if outcome is not None:
                values = trial.schedule or trial.candidate.over(self._final_horizon)
                schedules.append(
                    {
                        "seed": seed,
                        "validation_accuracy": choice.validation_accuracy,
                        **values.as_dict(),
                    }
                )
        best_seed, best = max(chosen.items(), key=lambda item: item[1].outcome.rank)
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
        self._write("finals.csv", [(t, o) for t in trials if (o := self._records.get(t))])

    # Files and words

    def _finished(self) -> dict[int, list[tuple[Trial, Outcome]]]:
        """The finished trials of each seed, in the order of the search."""
        found: dict[int, list[tuple[Trial, Outcome]]] = {}
        for seed in self._config.seeds:
            left, misses, own = self._records.count(seed), 0, []
            for candidate in candidates(self._config, seed):
                if not left or misses == FAR:
                    break  # what is left then belongs to another search
                trial = Trial(candidate, seed)
                outcome = self._records.get(trial)
                if outcome is None:
                    misses += 1
                    continue
                own.append((trial, outcome))
                left, misses = left - 1, 0
            found[seed] = own
        return found

    def _gather(self) -> None:
        """Bring `trials.csv` and the summary up to date."""
        self._gathered = time.monotonic()
        finished = self._finished()
        self._write("trials.csv", [pair for own in finished.values() for pair in own])
        spent = []
        for seed, own in finished.items():
            spent.append({"seed": seed, **_spent(own)._asdict()})
        progress = {"phase": "trials", "fraction": self._fraction(finished)}
        self._run.update_summary({"progress": progress, "spent": spent})

    def _write(self, name: str, pairs: Sequence[tuple[Trial, Outcome]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row_of(trial, outcome).values() for trial, outcome in pairs)
        write_text_atomically(self._run.path / name, text.getvalue())

    def _fraction(self, finished: dict[int, list[tuple[Trial, Outcome]]]) -> float:
        """How much of the search is done: of its trials, or of its budget."""
        allowance, shares = self._config.allowance, []
        for own in finished.values():
            shares.append(len(own) / self._total if self._total else 0.0)
            if allowance is not None:
                spent = allowance.of(_spent(own)) / allowance.amount
                shares[-1] = max(shares[-1], spent)
        return sum(min(share, 1.0) for share in shares) / len(shares)

    def _begin(self) -> None:
        self._records.refresh()
        finished = self._finished()
        pairs = [pair for own in finished.values() for pair in own]
        total = None if self._total is None else self._total * len(finished)
        if self._config.budget is not None:
            total = None
        self._display.begin(total, len(pairs), self._fraction(finished))
        for _, outcome in pairs:
            self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        self._best = max(self._best, outcome.rank)
        self._diverged += outcome.diverged

    def _tell(self, trials: Sequence[Trial], outcomes: Sequence[Outcome]) -> None:
        """Say how things stand, and write it down now and then."""
        for outcome in outcomes:
            if outcome.validation_accuracy is not None:
                self._count(outcome)
        if trials[0].final:
            self._display.note(f"final training, seed {trials[0].seed}: {trials[0].candidate}")
            return
        best = f"best {self._best[0]:.2%} of validation" if self._best[0] > -math.inf else ""
        lost = f"{self._diverged} diverged" if self._diverged else ""
        text = " · ".join(part for part in (best, lost) if part)
        self._display.done(text, len(trials), self._fraction(self._finished()))
        if time.monotonic() - self._gathered > self._config.checkpoint_seconds and self._leads:
            self._gather()


def _spent(pairs: Sequence[tuple[Trial, Outcome]]) -> Spent:
    total = Spent()
    for _, outcome in pairs:
        total = total.plus(outcome.spent)
    return total


def begin(config: RunConfig) -> None:
    """Get a worker process ready: the data and the network, once."""
    global _trainer
    setting = prepare(config)
    _trainer = Trainer(config, setting.data)


def work(trials: list[Trial]) -> list[Outcome]:
    """Do a group of trials in a worker process."""
    assert _trainer is not None
    return _trainer.train(trials)


def _final(seed: int, choice: Chosen) -> Trial:
    """The final training of a choice; still greedy where hypergradient descent found nothing."""
    values = choice.outcome.values
    schedule = None if values is None else Schedule.from_dict(values)
    return Trial(choice.candidate, seed, final=True, schedule=schedule)
