"""The plan on losses that are known in closed form: what it asks for, and what it concludes."""

import math
from collections.abc import Callable

import pytest

from hypergrad.core.budget import Budget, Spent
from hypergrad.core.rules.base_schedules import HELD, STEP_SIZE, sgd_base
from hypergrad.core.seeding import generator
from hypergrad.training.improvement.comparison import clearly_worse, difference
from hypergrad.training.improvement.direction import Memory
from hypergrad.training.improvement.moves import Moves
from hypergrad.training.improvement.planner import Improvement, ImprovementOptions
from hypergrad.training.improvement.run import ImprovementRun, Taken
from hypergrad.training.improvement.training import Outcome, Training

MOVES = Moves(sgd_base().learned(), STEP_SIZE, HELD)
UNTRAINED = 2.3


def noise(key: int, name: str) -> float:
    import torch

    return float(torch.randn((), generator=generator(name, key)))


class Bowl:
    """A loss that is a bowl in the logarithms of the rates, with a cliff; noise of each key.

    Its gradient is exact, times what every trajectory adds: noise of its own.
    """

    def __init__(
        self, best: float, cliff: float = math.inf, spread: float = 0.0, noisy: float = 0.0
    ) -> None:
        self.best, self.cliff, self.spread, self.noisy = best, cliff, spread, noisy
        self.asked: list[Training] = []

    def __call__(self, training: Training) -> Outcome:
        self.asked.append(training)
        rates = training.values[:5]
        places = [math.log(rate / self.best) for rate in rates]
        spent = Spent(1.0, 100, 300 if training.differentiated else 0, 1)
        if max(rates) > self.cliff:
            return Outcome(math.inf, math.nan, UNTRAINED, None, spent)
        loss = 0.2 + 0.05 * sum(x * x for x in places)
        loss += self.spread * noise(training.key, "level")
        derivatives = None
        if training.differentiated:
            derivatives = tuple(
                0.1 * x / rate + self.noisy * noise(7 * training.key + i, "slope") / rate
                for i, (x, rate) in enumerate(zip(places, rates, strict=True))
            ) + (0.0, 0.0)
        return Outcome(loss, 1 - loss, UNTRAINED, derivatives, spent)


def improved(trainer: Callable[[Training], Outcome], **options: object) -> ImprovementRun:
    run = ImprovementRun(MOVES, ImprovementOptions(**options), trainer)  # type: ignore[arg-type]
    for _ in run:
        pass
    return run


def result(run: ImprovementRun) -> Improvement:
    assert run.result is not None
    return run.result


def test_the_bottom_of_a_bowl_is_found() -> None:
    bowl = Bowl(best=0.3, spread=0.01)
    run = improved(bowl)
    found = result(run)
    assert found.improved
    assert found.comparison is not None
    assert found.comparison.loss.high < 0
    assert all(0.2 < rate < 0.45 for rate in found.values[:5])
    assert found.values == found.end
    assert found.base == MOVES.base
    assert found.spent == Spent(
        len(run.taken), 100 * len(run.taken), sum(t.outcome.spent.products for t in run.taken),
        len(run.taken),
    )  # fmt: skip


def test_stages_never_share_a_key_and_candidates_always_do() -> None:
    run = improved(Bowl(best=0.3, spread=0.01))
    keys: dict[str, set[int]] = {}
    for training, _ in run.taken:
        keys.setdefault(training.stage, set()).add(training.key)
    stages = list(keys)
    assert stages == ["ladder", "trajectory", "line", "confirmation"]
    for a in stages:
        for b in stages:
            assert a == b or not keys[a] & keys[b]
    confirmation = [t for t, _ in run.taken if t.stage == "confirmation"]
    base, end = confirmation[0::2], confirmation[1::2]
    assert [t.key for t in base] == [t.key for t in end]
    assert [t.margin for t in base] == [1.0] * 5 + [1.3] * 2
    line = [t for t, _ in run.taken if t.stage == "line" and t.iteration == 0]
    present, moved = ({t.key for t in line if t.candidate == i} for i in (0, 1))
    assert present > moved or present == moved  # unless it left the race


def test_every_length_of_record_leads_to_the_same_end() -> None:
    whole = improved(Bowl(best=0.3, spread=0.05, noisy=0.1))
    outcomes = [taken.outcome for taken in whole.taken]
    for length in range(len(outcomes) + 1):
        bowl = Bowl(best=0.3, spread=0.05, noisy=0.1)
        run = ImprovementRun(MOVES, ImprovementOptions(), bowl, outcomes[:length])
        assert [*run] == whole.taken[length:]
        assert run.result == whole.result
        assert len(bowl.asked) == len(outcomes) - length
    with pytest.raises(ValueError, match="more outcomes"):
        ImprovementRun(MOVES, ImprovementOptions(), Bowl(0.3), [*outcomes, outcomes[0]])


def test_the_ladder_stays_a_step_from_the_cliff() -> None:
    # The best rate that trains is 0.19; twice that collapses.
    found = result(improved(Bowl(best=0.3, cliff=0.21), iterations=0))
    assert found.factor == 1.0
    assert dict(found.ladder)[4.0] == 1.25 * UNTRAINED
    high = result(improved(Bowl(best=0.3), iterations=0))
    assert high.factor == 2.0


def test_the_ladder_grows_at_either_end() -> None:
    low = result(improved(Bowl(best=0.002), iterations=0))
    assert low.factor == 1 / 64
    high = result(improved(Bowl(best=1.0), iterations=0))
    assert high.factor == 8.0
    assert len(low.ladder) <= 8


def test_without_anything_to_gain_the_base_stays() -> None:
    found = result(improved(Bowl(best=0.1, spread=0.02)))
    assert found.values == found.base or found.improved


def test_what_is_worse_at_the_end_is_not_taken() -> None:
    class Deceiving(Bowl):
        """Better on every key that chooses, worse on those that confirm."""

        def __call__(self, training: Training) -> Outcome:
            outcome = super().__call__(training)
            moved = max(training.values[:5]) != min(training.values[:5])
            worse = 0.5 if training.stage == "confirmation" and (moved or True) else 0.0
            sign = 1.0 if training.candidate else 0.0
            return outcome._replace(loss=outcome.loss + sign * worse)

    found = result(improved(Deceiving(best=0.3)))
    assert not found.improved
    assert found.values == found.base != found.end


def test_trajectories_that_disagree_move_nothing() -> None:
    noisy = Bowl(best=0.1, noisy=5.0)
    run = improved(noisy, gate=(1e6, 1e7))
    found = result(run)
    assert found.iterations == ()
    assert not any(training.stage == "line" for training, _ in run.taken)


def test_collapsed_trajectories_make_steps_smaller() -> None:
    # The ladder's keys train everywhere, the others collapse above 0.15.
    class Trap(Bowl):
        def __call__(self, training: Training) -> Outcome:
            self.cliff = math.inf if training.stage == "ladder" else 0.15
            return super().__call__(training)

    found = result(improved(Trap(best=0.3), iterations=2))
    assert found.factor == 2.0
    first = found.iterations[0]
    assert first.collapsed == 3
    assert first.direction == MOVES.smaller_steps()
    assert first.values[0] < 0.2


def test_random_directions_ask_for_no_trajectory() -> None:
    run = improved(Bowl(best=0.3), direction="random", iterations=5, seed=3)
    assert not any(training.differentiated for training, _ in run.taken)
    directions = [each.direction for each in result(run).iterations]
    assert all(set(map(abs, each)) == {1.0} for each in directions)
    assert len(set(directions)) > 1


def test_a_budget_is_kept() -> None:
    free = improved(Bowl(best=0.5, spread=0.02, noisy=0.05))
    bound = improved(Bowl(best=0.5, spread=0.02, noisy=0.05), budget=Budget.parse("45trials"))
    assert len(bound.taken) <= 45 < len(free.taken)
    assert result(bound).comparison is not None


def test_a_clear_loser_leaves_the_race() -> None:
    bowl = Bowl(best=0.1, cliff=0.17)

    class Wrong(Bowl):
        """Derivatives that point over the cliff."""

        def __call__(self, training: Training) -> Outcome:
            outcome = bowl(training)
            if training.differentiated:
                outcome = outcome._replace(derivatives=(-1.0, -1.01, -1.0, -1.0, -1.0, 0.0, 0.0))
            return outcome

    run = improved(Wrong(0.1), ladder=(), iterations=1)
    line = [t for t, _ in run.taken if t.stage == "line"]
    assert [t.candidate for t in line].count(0) == 3
    assert [t.candidate for t in line].count(1) == 1  # one collapse was enough


# The pieces


def outcomes(*losses: float) -> list[Outcome]:
    return [Outcome(loss, 0.5, UNTRAINED, None, Spent()) for loss in losses]


def test_who_is_clearly_worse() -> None:
    assert clearly_worse(outcomes(math.inf), outcomes(1.0))
    assert not clearly_worse(outcomes(math.inf), outcomes(math.nan))
    assert not clearly_worse(outcomes(1.5), outcomes(1.0))
    assert clearly_worse(outcomes(1.5, 1.6), outcomes(1.0, 1.0))
    assert not clearly_worse(outcomes(1.5, 1.01), outcomes(1.0, 1.0))
    assert not clearly_worse(outcomes(1.5, 0.9), outcomes(1.0, 1.0))


def test_a_collapse_counts_as_one_number() -> None:
    (lost,), (bad,) = outcomes(math.inf), outcomes(40.0)
    assert lost.capped == bad.capped == pytest.approx(1.25 * UNTRAINED)
    assert lost.collapsed
    assert bad.collapsed
    assert not outcomes(2.29)[0].collapsed


def test_the_interval_of_a_difference() -> None:
    found = difference([2.0, 3.0, 5.0, 4.0], [1.0] * 4)
    # scipy.stats.ttest_rel([2, 3, 5, 4], [1, 1, 1, 1]).confidence_interval()
    assert found.mean == 2.5
    assert (found.low, found.high) == pytest.approx((0.44574, 4.55426), abs=1e-5)


def test_t_statistics_of_a_plain_sample() -> None:
    memory = Memory()
    for value in (1.0, 2.0, 4.0):
        memory.add((value, -value, 0.0, 3.0))
    # mean 7/3, sd 1.527525, n 3
    t = memory.t_statistics()
    assert t[0] == pytest.approx(2.6457513)
    assert t[1] == -t[0]
    assert t[2] == 0.0
    assert t[3] == math.inf
    assert memory.descent() == (-1.0, 1.0, -0.0, -1.0)


def test_older_trajectories_count_for_less() -> None:
    memory = Memory(decay=0.5)
    memory.add((1.0,))
    memory.add((2.0,))
    memory.age()
    memory.add((5.0,))
    # Weights 1/2, 1/2, 1: mean 3.25, effective number 4 / 1.5.
    spread = (0.5 * 2.25**2 + 0.5 * 1.25**2 + 1.75**2) / 2 * (8 / 3) / (8 / 3 - 1)
    assert memory.t_statistics()[0] == pytest.approx(3.25 / math.sqrt(spread / (8 / 3)))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"direction": "up"}, "use hypergradients or random"),
        ({"ladder": (0.5, 1.0, 3.0)}, "twice the one before"),
        ({"ladder": (2.0, 4.0)}, "give 1"),
        ({"trajectories": (1,)}, "at least two"),
        ({"confirmations": 1}, "at least 2"),
        ({"margins": ()}, "factors above zero"),
        ({"gate": (2.0, 1.0)}, "the larger one last"),
    ],
)
def test_bad_options_are_named(given: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ImprovementOptions(**given)


def test_what_was_taken_is_told() -> None:
    run = improved(Bowl(best=0.3), iterations=0)
    assert isinstance(run.taken[0], Taken)
    assert run.due is None
