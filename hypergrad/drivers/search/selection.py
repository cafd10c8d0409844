"""Which setting a search chooses: by validation alone."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypergrad.core.outer_optimizer import selection_key
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.drivers.search.trial import Trial, TrialResult

__all__ = ["Chosen", "choose"]


class Chosen(NamedTuple):
    """A setting that a search has chosen, for one seed's final training.

    Attributes:
        candidate: The setting.
        validation_accuracy: What it was chosen by, in [0, 1].
        result: Of the trial with this seed.
    """

    candidate: Candidate
    validation_accuracy: float
    result: TrialResult


def choose(
    kind: str, finished: Mapping[int, Sequence[tuple[Trial, TrialResult]]]
) -> dict[int, Chosen]:
    """Choose the setting of each seed's final training.

    A grid tries every setting with every seed, and one setting is chosen by the mean over the
    seeds. The other searches are one search a seed. The lower validation loss decides a draw, then
    the earlier setting; a loss that is not finite never wins. A longer training stands before a
    shorter one, whatever it came to: it is the one that tells of the final training.

    Args:
        kind: As `search.kind`.
        finished: The trials of each seed, in the order of the search.

    Returns:
        The choice of each seed.

    Raises:
        ValueError: If a seed has no trial, or no setting of a grid has all seeds.
    """
    if kind == "grid":
        return _choose_together(finished)
    chosen = {}
    for seed, trials in finished.items():
        if not trials:
            raise ValueError(f"seed {seed} has no finished trial to choose from")
        trial, result = max(trials, key=_whole_first)
        assert result.validation_accuracy is not None
        chosen[seed] = Chosen(trial.candidate, result.validation_accuracy, result)
    return chosen


def _whole_first(pair: tuple[Trial, TrialResult]) -> tuple[float, tuple[float, float]]:
    trial, result = pair
    epochs = trial.candidate.epochs
    return math.inf if epochs is None else epochs, result.selection_key


def _choose_together(
    finished: Mapping[int, Sequence[tuple[Trial, TrialResult]]],
) -> dict[int, Chosen]:
    by_candidate: dict[Candidate, dict[int, TrialResult]] = {}
    for seed, trials in finished.items():
        for trial, result in trials:
            by_candidate.setdefault(trial.candidate, {})[seed] = result
    whole = {c: found for c, found in by_candidate.items() if len(found) == len(finished)}
    if not whole:
        raise ValueError("no setting has been tried with every seed yet")
    candidate = max(whole, key=lambda c: _mean_key(list(whole[c].values())))
    mean = _mean_key(list(whole[candidate].values()))[0]
    accuracy = max(mean, 0.0)
    return {seed: Chosen(candidate, accuracy, whole[candidate][seed]) for seed in finished}


def _mean_key(results: Sequence[TrialResult]) -> tuple[float, float]:
    accuracies = [o.validation_accuracy for o in results if o.validation_accuracy is not None]
    losses = [o.validation_loss for o in results if o.validation_loss is not None]
    return selection_key(statistics.fmean(accuracies), statistics.fmean(losses))
