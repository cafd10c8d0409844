"""The plan of an improvement: what is trained next, given what came of everything before.

    ladder         the base schedule's step size at factors of two, each judged at itself and at
                   twice itself: the largest that still trains well is one step from the cliff
    trajectories   K trainings of the present values with hypergradients; new weights, split, order
    line           the present values against moves along the direction in which the trajectories
                   agree, on fresh keys that all share, at margins of the step size
    confirmation   the base schedule against where the lines ended, on keys that chose nothing

A plan is a generator: it yields trainings and is sent their outcomes. Nothing in it is random and
it looks at nothing else, so that the outcomes that were recorded, sent again, lead to the same bit.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch

from hypergrad.core.budget import Budget, Spent
from hypergrad.core.seeding import generator
from hypergrad.training.improvement.comparison import Comparison, clearly_worse, mean_loss
from hypergrad.training.improvement.direction import Memory
from hypergrad.training.improvement.moves import Moves
from hypergrad.training.improvement.training import Outcome, Training

__all__ = ["Improvement", "ImprovementOptions", "Iteration", "plan"]

Values = tuple[float, ...]
Asked = Generator[Sequence[Training], Sequence[Outcome], "Improvement"]
STAGES = ("ladder", "trajectory", "line", "confirmation")
KEYS = 1_000_000  # of one stage; those of two stages are never the same
RUNGS = 8  # of the ladder at most
GROW, SHRINK = 1.3, 0.5


@dataclass(frozen=True)
class ImprovementOptions:
    """How much an improvement trains, and how it judges.

    Attributes:
        ladder: Factors of the base schedule's step size that are tried first, each twice the last;
            more are tried where the best is at an end. Empty: no ladder.
        rungs: Trainings of each.
        iterations: Of trajectories and line search.
        trajectories: Of each iteration; the last number holds for all that follow.
        line: Trainings of each candidate of a line search, at `margins` in turn.
        margins: Factors of the step size that candidates are judged at.
        memory: Weight of an iteration's trajectories in the next one's direction.
        gate: |t| across trajectories up to which a value stays, and from which on it moves in full.
        confirmations: Trainings of the base schedule, and of where the search ended, that decide.
        margin_confirmations: More of them, at the largest of the margins.
        direction: `hypergradients`; or `random`, a control: signs by coin, no trajectories.
        seed: Of the control's coins.
        budget: Iterations end where another one would overshoot it; None: no budget.
    """

    ladder: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    rungs: int = 2
    iterations: int = 3
    trajectories: tuple[int, ...] = (3, 2)
    line: int = 3
    margins: tuple[float, ...] = (1.0, 1.0, 1.3)
    memory: float = 0.5
    gate: tuple[float, float] = (1.0, 2.5)
    confirmations: int = 5
    margin_confirmations: int = 2
    direction: str = "hypergradients"
    seed: int = 0
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if self.direction not in ("hypergradients", "random"):
            raise ValueError(f"direction={self.direction!r}: use hypergradients or random")
        if any(abs(high / low - 2) > 1e-9 for low, high in pairwise(self.ladder)):
            raise ValueError(f"ladder={self.ladder}: each factor is twice the one before")
        if len(self.ladder) == 1 or (self.ladder and 1.0 not in self.ladder):
            raise ValueError(f"ladder={self.ladder}: give 1, the base itself, and another factor")
        for name, low in (("rungs", 1), ("iterations", 0), ("line", 1), ("confirmations", 2)):
            if getattr(self, name) < low:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {low}")
        if not self.trajectories or min(self.trajectories) < 2:
            raise ValueError(f"trajectories={self.trajectories}: a t statistic takes at least two")
        if not self.margins or min(self.margins) <= 0:
            raise ValueError(f"margins={self.margins}: give factors above zero")
        low, high = self.gate
        if not 0 <= low < high:
            raise ValueError(f"gate={self.gate}: give two numbers, the larger one last")

    def trajectories_of(self, iteration: int) -> int:
        """Return how many trajectories an iteration has."""
        return self.trajectories[min(iteration, len(self.trajectories) - 1)]


class Iteration(NamedTuple):
    """One iteration.

    Attributes:
        direction: In which the values were tried, of each in [-1, 1].
        t: Across trajectories, of each; empty without trajectories to speak of.
        collapsed: Trajectories that ended no better than untrained.
        radius: How far the full move went, in first moves.
        losses: Mean of each candidate of the line: the present values, the full move, half of it.
        taken: Which was the best of them.
        values: Coefficients from here on.
    """

    direction: Values
    t: Values
    collapsed: int
    radius: float
    losses: tuple[float, ...]
    taken: int
    values: Values


class Improvement(NamedTuple):
    """What came of it.

    Attributes:
        values: Coefficients to train with: where the search ended, or the base's.
        base: Coefficients of the base schedule.
        end: Coefficients where the search ended.
        improved: Whether the end was confirmed as the better one.
        comparison: Of the end with the base, on keys that chose nothing; None if they are the same.
        ladder: Factor and mean capped loss of each rung.
        factor: That was taken.
        iterations: In order.
        spent: On all of it.
    """

    values: Values
    base: Values
    end: Values
    improved: bool
    comparison: Comparison | None
    ladder: tuple[tuple[float, float], ...]
    factor: float
    iterations: tuple[Iteration, ...]
    spent: Spent


def plan(moves: Moves, options: ImprovementOptions) -> Asked:
    """Ask for trainings, be sent their outcomes, and return what came of them.

    Args:
        moves: Where the schedule may move, and its base.
        options: How much to train.

    Yields:
        Trainings that may go on beside each other.
    """
    return (yield from _Plan(moves, options).go())


class _Plan:
    """What a plan remembers."""

    def __init__(self, moves: Moves, options: ImprovementOptions) -> None:
        self.moves, self.options = moves, options
        self.spent = Spent()
        self._keys: dict[str, int] = dict.fromkeys(STAGES, 0)
        self._plain, self._differentiated = Spent(), Spent()  # the last of each kind

    def go(self) -> Asked:
        """The whole plan."""
        base, rungs, factor = self.moves.base, (), 1.0
        if self.options.ladder:
            rungs, factor = yield from self._ladder()
        values, radius = self.moves.scaled(base, factor), 1.0
        iterations: list[Iteration] = []
        memory = Memory(self.options.memory, self.options.gate)
        for number in range(self.options.iterations):
            if not self._affords(number):
                break
            found = yield from self._iteration(number, values, radius, memory)
            if found is None:
                break
            iterations.append(found)
            values = found.values
            radius *= (SHRINK, GROW, 1.0)[found.taken]
        comparison = None
        if values != base:
            comparison = yield from self._confirmation(values)
        improved = comparison is not None and comparison.end_is_better
        chosen = values if improved else base
        done = tuple(rungs), factor, tuple(iterations), self.spent
        return Improvement(chosen, base, values, improved, comparison, *done)

    # Stages

    def _ladder(
        self,
    ) -> Generator[Sequence[Training], Sequence[Outcome], tuple[list[tuple[float, float]], float]]:
        """Find the factor that is best at itself and at the next one together."""
        keys = self._fresh("ladder", self.options.rungs)
        factors, losses = list(self.options.ladder), list[float]()
        for number, factor in enumerate(factors):
            losses.append((yield from self._rung(number, factor, keys)))
        while True:
            pairs = [(low + high) / 2 for low, high in pairwise(losses)]
            best = min(range(len(pairs)), key=pairs.__getitem__)
            if len(factors) >= RUNGS or 0 < best < len(pairs) - 1:
                break
            if best == 0:
                new, place = factors[0] / 2, 0
            else:
                new, place = factors[-1] * 2, len(factors)
            loss = yield from self._rung(len(factors), new, keys)
            factors.insert(place, new)
            losses.insert(place, loss)
        return list(zip(factors, losses, strict=True)), factors[best]

    def _rung(
        self, number: int, factor: float, keys: Sequence[int]
    ) -> Generator[Sequence[Training], Sequence[Outcome], float]:
        values = self.moves.scaled(self.moves.base, factor)
        asked = [Training("ladder", 0, number, key, 1.0, values) for key in keys]
        return mean_loss((yield from self._train(asked)))

    def _iteration(
        self, number: int, values: Values, radius: float, memory: Memory
    ) -> Generator[Sequence[Training], Sequence[Outcome], Iteration | None]:
        """Trajectories, and a search along the line that they point; None: they point nowhere."""
        options = self.options
        t: Values = ()
        collapsed = 0
        if options.direction == "random":
            coins = generator("random direction", options.seed, number)
            flips = torch.randint(0, 2, (len(values),), generator=coins)
            direction = tuple(2.0 * flip - 1.0 for flip in flips.tolist())
        else:
            memory.age()
            keys = self._fresh("trajectory", options.trajectories_of(number))
            asked = [Training("trajectory", number, 0, key, 1.0, values, True) for key in keys]
            outcomes = yield from self._train(asked)
            collapsed = sum(outcome.collapsed for outcome in outcomes)
            for outcome in outcomes:
                if outcome.derivatives is not None and not outcome.collapsed:
                    memory.add(self.moves.gradient(values, outcome.derivatives))
            if 2 * collapsed > len(outcomes) or len(memory) < 2:
                direction = self.moves.smaller_steps()
            else:
                t, direction = memory.t_statistics(), memory.descent()
        if not any(direction):
            return None
        losses, taken, values = yield from self._line(number, values, radius, direction)
        return Iteration(direction, t, collapsed, radius, losses, taken, values)

    def _line(
        self, number: int, values: Values, radius: float, direction: Values
    ) -> Generator[Sequence[Training], Sequence[Outcome], tuple[tuple[float, ...], int, Values]]:
        """The present values against the whole move; if that is no better, against half of it."""
        keys = self._fresh("line", self.options.line)

        def moved(share: float) -> Values:
            sizes = zip(direction, self.moves.sizes, strict=True)
            return self.moves.moved(values, [share * radius * d * size for d, size in sizes])

        candidates = [values, moved(1.0)]
        seen = yield from self._race(number, candidates, keys, {})
        if mean_loss(seen[1]) >= mean_loss(seen[0]) or len(seen[1]) < len(seen[0]):
            candidates.append(moved(0.5))
            seen = yield from self._race(number, candidates, keys, seen)
        # Those that left the race are no candidates any more.
        whole = [i for i in seen if len(seen[i]) == len(keys)]
        taken = min(whole, key=lambda i: (mean_loss(seen[i]), i))
        losses = tuple(mean_loss(seen[i]) for i in sorted(seen))
        return losses, taken, candidates[taken]

    def _race(
        self,
        number: int,
        candidates: Sequence[Values],
        keys: Sequence[int],
        seen: dict[int, list[Outcome]],
    ) -> Generator[Sequence[Training], Sequence[Outcome], dict[int, list[Outcome]]]:
        """Train candidates on one key after another; whoever is clearly worse leaves.

        Args:
            number: Of the iteration.
            candidates: Coefficients; the first is never sent away.
            keys: That they share.
            seen: What is known already, by candidate.
        """
        seen = {i: list(seen.get(i, ())) for i in range(len(candidates))}
        running = {i for i in seen if len(seen[i]) in (0, len(keys))}
        for n, key in enumerate(keys):
            margin = self.options.margins[n % len(self.options.margins)]
            due = [i for i in sorted(running) if len(seen[i]) == n]
            asked = [
                Training("line", number, i, key, margin, self.moves.scaled(candidates[i], margin))
                for i in due
            ]
            for i, outcome in zip(due, (yield from self._train(asked)), strict=True):
                seen[i].append(outcome)
            for i in due:
                if i and clearly_worse(seen[i], seen[0][: n + 1]):
                    running.discard(i)
        return seen

    def _confirmation(
        self, values: Values
    ) -> Generator[Sequence[Training], Sequence[Outcome], Comparison]:
        """The base against the end, on keys that nothing has seen."""
        options = self.options
        margins = [1.0] * options.confirmations
        margins += [max(options.margins)] * options.margin_confirmations
        keys = self._fresh("confirmation", len(margins))
        both = self.moves.base, values
        asked = [
            Training("confirmation", 0, i, key, margin, self.moves.scaled(own, margin))
            for key, margin in zip(keys, margins, strict=True)
            for i, own in enumerate(both)
        ]
        outcomes = yield from self._train(asked)
        return Comparison(tuple(margins), tuple(outcomes[0::2]), tuple(outcomes[1::2]))

    # Small things

    def _train(
        self, asked: Sequence[Training]
    ) -> Generator[Sequence[Training], Sequence[Outcome], list[Outcome]]:
        if not asked:
            return []
        outcomes = yield asked
        for training, outcome in zip(asked, outcomes, strict=True):
            self.spent = self.spent.plus(outcome.spent)
            if training.differentiated:
                self._differentiated = outcome.spent
            else:
                self._plain = outcome.spent
        return list(outcomes)

    def _fresh(self, stage: str, count: int) -> list[int]:
        """Keys that no training has had."""
        first = STAGES.index(stage) * KEYS + self._keys[stage]
        self._keys[stage] += count
        return list(range(first, first + count))

    def _affords(self, number: int) -> bool:
        """Whether another iteration, and the confirmation, stay within the budget."""
        budget, options = self.options.budget, self.options
        if budget is None:
            return True
        last = options.confirmations + options.margin_confirmations
        plain = 3 * options.line + 2 * last
        trajectories = 0 if options.direction == "random" else options.trajectories_of(number)
        # Before the first one it is not known what derivatives cost: four gradients a step.
        guess = self._plain.times(4) if self._differentiated == Spent() else self._differentiated
        cost = self._plain.times(plain).plus(guess.times(trajectories))
        return budget.of(self.spent.plus(cost)) <= budget.amount
