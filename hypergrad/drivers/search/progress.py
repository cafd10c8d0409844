"""How a search stands: what is finished, spent and best so far, in its files and in words."""

import csv
import io
import math
import time
from collections.abc import Sequence

from hypergrad.config.schema import RunConfig
from hypergrad.core.budget import Spent
from hypergrad.drivers.search.candidates import candidates, count_of
from hypergrad.drivers.search.trial import Trial, TrialResult, scores_of
from hypergrad.drivers.search.trial_store import COLUMNS, TrialStore, row_of
from hypergrad.reporting.progress import TaskProgress
from hypergrad.runs.atomic import write_text_atomically
from hypergrad.runs.directory import RunDirectory

__all__ = ["SearchProgress"]

FAR = 1000  # settings without a trial in a row, after which none is looked for


class SearchProgress:
    """The account of one search.

    Args:
        config: The run's configuration.
        run: Its directory.
        records: Its finished trials.
        display: Is told what happens.
    """

    def __init__(
        self, config: RunConfig, run: RunDirectory, records: TrialStore, display: TaskProgress
    ) -> None:
        self._config = config
        self._run = run
        self._store = records
        self._display = display
        self._total = count_of(config)
        self._gathered = time.monotonic()
        self._best, self._diverged = (-math.inf, -math.inf), 0

    def finished(self) -> dict[int, list[tuple[Trial, TrialResult]]]:
        """The finished trials of each seed, in the order of the search."""
        found: dict[int, list[tuple[Trial, TrialResult]]] = {}
        for seed in self._config.seeds:
            left, misses, own = self._store.count(seed), 0, []
            for candidate in candidates(self._config, seed, scores_of(self._store.get, seed)):
                if not left or misses == FAR:
                    break  # what is left then belongs to another search
                trial = Trial(candidate, seed)
                result = self._store.get(trial)
                if result is None:
                    misses += 1
                    continue
                own.append((trial, result))
                left, misses = left - 1, 0
            found[seed] = own
        return found

    def gather(self) -> None:
        """Bring `trials.csv` and the summary up to date."""
        self._gathered = time.monotonic()
        finished = self.finished()
        self.write("trials.csv", [pair for own in finished.values() for pair in own])
        spent = []
        for seed, own in finished.items():
            spent.append({"seed": seed, **_spent(own)._asdict()})
        progress = {"phase": "trials", "fraction": self._fraction(finished)}
        self._run.update_summary({"progress": progress, "spent": spent})

    def write(self, name: str, pairs: Sequence[tuple[Trial, TrialResult]]) -> None:
        """Replace a CSV file of the run by a row for each of these trials."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(row_of(trial, result).values() for trial, result in pairs)
        write_text_atomically(self._run.path / name, text.getvalue())

    def _fraction(self, finished: dict[int, list[tuple[Trial, TrialResult]]]) -> float:
        """How much of the search is done: of its trials, or of its budget."""
        allowance, shares = self._config.allowance, []
        for own in finished.values():
            shares.append(len(own) / self._total if self._total else 0.0)
            if allowance is not None:
                spent = allowance.of(_spent(own)) / allowance.amount
                shares[-1] = max(shares[-1], spent)
        return sum(min(share, 1.0) for share in shares) / len(shares)

    def open(self) -> None:
        """Read what is finished, and begin to show it."""
        self._store.refresh()
        finished = self.finished()
        pairs = [pair for own in finished.values() for pair in own]
        total = None if self._total is None else self._total * len(finished)
        if self._config.budget is not None:
            total = None
        self._display.begin(total, len(pairs), self._fraction(finished))
        for _, result in pairs:
            self._count(result)

    def _count(self, result: TrialResult) -> None:
        self._best = max(self._best, result.selection_key)
        self._diverged += result.diverged

    def note(self, trials: Sequence[Trial], results: Sequence[TrialResult], *, write: bool) -> None:
        """Say how things stand after more trials, and write it down now and then if told to."""
        for result in results:
            if result.validation_accuracy is not None:
                self._count(result)
        if trials[0].final:
            self._display.note(f"final training, seed {trials[0].seed}: {trials[0].candidate}")
            return
        best = f"best {self._best[0]:.2%} of validation" if self._best[0] > -math.inf else ""
        lost = f"{self._diverged} diverged" if self._diverged else ""
        text = " · ".join(text for text in (best, lost) if text)
        self._display.done(text, len(trials), self._fraction(self.finished()))
        if write and time.monotonic() - self._gathered > self._config.checkpoint_seconds:
            self.gather()

    def say_what_ended_it(self, planned: Spent) -> None:
        """Say so if a count ended a search whose budget would have paid for more."""
        allowance = self._config.allowance
        if allowance is None:
            return
        for seed, own in self.finished().items():
            if len(own) == self._total and allowance.allows(_spent(own), planned):
                self._display.note(
                    f"seed {seed}: search.trials={self._total} ended it before its budget of "
                    f"{self._config.budget} was spent (search.trials=null leaves it to the budget)"
                )


def _spent(pairs: Sequence[tuple[Trial, TrialResult]]) -> Spent:
    total = Spent()
    for _, result in pairs:
        total = total.plus(result.spent)
    return total
