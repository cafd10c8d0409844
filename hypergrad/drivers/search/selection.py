"""Which setting a search chooses: by validation alone."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypergrad.core.outer_optimizer import rank
from hypergrad.drivers.search.candidates import Candidate
from hypergrad.drivers.search.trial import Outcome, Trial

__all__ = ["Chosen", "choose"]


class Chosen(NamedTuple):
    """A setting that a search has chosen, for one seed's final training.

    Attributes:
        candidate: The setting.
        validation_accuracy: What it was chosen by, in [0, 1].
        outcome: Of the trial with this seed.
    """

    candidate: Candidate
    validation_accuracy: float
    outcome: Outcome


def choose(kind: str, finished: Mapping[int, Sequence[tuple[Trial, Outcome]]]) -> dict[int, Chosen]:
    """Choose the setting of each seed's final training.

    A grid tries every setting with every seed, and one setting is chosen by the mean over the
    seeds. The other searches are one search a seed. The lower validation loss decides a draw, then
    the earlier setting; a loss that is not finite never wins.

    Args:
        kind: `grid`, `random` or `hd`.
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
        trial, outcome = max(trials, key=lambda pair: pair[1].rank)
        assert outcome.validation_accuracy is not None
        chosen[seed] = Chosen(trial.candidate, outcome.validation_accuracy, outcome)
    return chosen


def _choose_together(
    finished: Mapping[int, Sequence[tuple[Trial, Outcome]]],
) -> dict[int, Chosen]:
    by_candidate: dict[Candidate, dict[int, Outcome]] = {}
    for seed, trials in finished.items():
        for trial, outcome in trials:
            by_candidate.setdefault(trial.candidate, {})[seed] = outcome
    whole = {c: found for c, found in by_candidate.items() if len(found) == len(finished)}
    if not whole:
        raise ValueError("no setting has been tried with every seed yet")
    candidate = max(whole, key=lambda c: _mean_rank(list(whole[c].values())))
    mean = _mean_rank(list(whole[candidate].values()))[0]
    accuracy = max(mean, 0.0)
    return {seed: Chosen(candidate, accuracy, whole[candidate][seed]) for seed in finished}


def _mean_rank(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    accuracies = [o.validation_accuracy for o in outcomes if o.validation_accuracy is not None]
    losses = [o.validation_loss for o in outcomes if o.validation_loss is not None]
    return rank(statistics.fmean(accuracies), statistics.fmean(losses))
