"""The plan alone, on trainings that are a formula: values, collapse, resuming at every length."""

import math
import random
from collections.abc import Iterator, Sequence

import pytest
import torch

from hypergrad.core.base_schedules import base_schedule
from hypergrad.core.budget import Budget, Spent
from hypergrad.core.move_space import MoveSpace
from hypergrad.core.rules.move_sets import movable
from hypergrad.core.seeding import generator
from hypergrad.training.improvement.follow import Done, follow, one_by_one
from hypergrad.training.improvement.options import ImproveOptions
from hypergrad.training.improvement.plan import Found, improvement
from hypergrad.training.improvement.trainings import Outcome, Training

CAP = 3.0
TARGET = (0.5, 0.3, 0.0, -0.4, -0.8, -0.3, 1.0)


def space() -> MoveSpace:
    optimizer = movable("sgd")
    return MoveSpace(optimizer, base_schedule(optimizer))


class Bowl:
    """A quadratic bowl in the coordinates, noisy by key, with a cliff where rates are large."""

    def __init__(self, noise: float = 0.01, cliff: float = 4.0, slope: float = 1.0) -> None:
        self.noise, self.cliff, self.slope = noise, cliff, slope
        self.done: list[Done] = []

    def __call__(self, training: Training) -> Outcome:
        moves, factor = training.trained
        rates = [math.log(factor) + p for p in moves[:5]]
        x = [*rates, *moves[5:]]
        drawn = torch.randn(len(x) + 1, generator=generator("bowl", *training.key)).tolist()
        cost = Spent(1.0, 100, 100 if training.differentiate else 0, 1)
        if math.exp(max(rates)) > self.cliff:
            return Outcome(math.inf, 0.1, True, cost)
        away = [a - b for a, b in zip(x, TARGET, strict=True)]
        loss = 0.1 + 0.05 * sum(d * d for d in away) + self.noise * drawn[-1]
        hypergradients = None
        if training.differentiate:
            hypergradients = tuple(
                self.slope * 0.1 * d + self.noise * e for d, e in zip(away, drawn, strict=False)
            )
        return Outcome(loss, 1 - loss, False, cost, hypergradients)

    def note(self, training: Training, outcome: Outcome) -> None:
        self.done.append((training, outcome))


def go(train: Bowl, options: ImproveOptions, recorded: list[Done] | None = None) -> Found:
    return follow(improvement(space(), options, CAP), one_by_one(train), recorded or [], train.note)


def test_it_finds_better_values_than_base_and_ladder() -> None:
    train = Bowl()
    found = go(train, ImproveOptions(iterations=4))
    assert found.name == "end"
    assert [rung.scale for rung in found.rungs] == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert found.loss is not None
    # 0.1 is the least loss; the base's is 0.05 |target|^2 above that.
    worst = 0.05 * sum(t * t for t in TARGET)
    assert found.loss.mean < -0.6 * worst
    assert found.loss.mean + found.loss.half < 0
    assert found.spent.trials == len(train.done)
    x = found.chosen.moves
    rates = [math.log(found.chosen.factor) + p for p in x[:5]]
    assert rates == pytest.approx(TARGET[:5], abs=0.6)
    assert x[6] == pytest.approx(TARGET[6], abs=0.9)


def test_random_directions_take_no_differentiated_training() -> None:
    train = Bowl()
    go(train, ImproveOptions(direction="random", iterations=3))
    assert not any(training.differentiate for training, _ in train.done)
    assert {t.key.stage for t, _ in train.done} == {"ladder", "search", "confirm", "judge"}


@pytest.mark.parametrize("direction", ["hypergradients", "random"])
def test_it_goes_on_from_wherever_it_was(direction: str) -> None:
    options = ImproveOptions(direction=direction, budget=Budget.parse("9000gradients"))
    whole = Bowl()
    found = go(whole, options)
    for length in range(len(whole.done) + 1):
        rest = Bowl()
        records = whole.done[:length]
        random.Random(length).shuffle(records)  # whoever trained, in whatever order
        assert go(rest, options, records) == found
        assert rest.done == whole.done[length:]


def test_who_ends_first_does_not_matter() -> None:
    options = ImproveOptions(budget=Budget.parse("9000gradients"))
    found = go(Bowl(), options)

    def backwards(asked: Sequence[Training]) -> Iterator[Done]:
        train = Bowl()
        yield from ((training, train(training)) for training in reversed(asked))

    assert follow(improvement(space(), options, CAP), backwards) == found


def test_the_judgement_is_asked_for_at_once() -> None:
    asked: list[int] = []

    def each(given: Sequence[Training]) -> Iterator[Done]:
        train = Bowl()
        asked.extend([len(given)] if given[0].key.stage == "judge" else [])
        yield from ((training, train(training)) for training in given)

    follow(improvement(space(), ImproveOptions(judged=5), CAP), each)
    assert asked == [10]


def test_records_of_another_plan_are_refused() -> None:
    whole = Bowl()
    go(whole, ImproveOptions())
    training, outcome = whole.done[0]
    strange = [(training._replace(margin=7.0), outcome)]
    with pytest.raises(ValueError, match="1 recorded trainings are of another plan"):
        go(Bowl(), ImproveOptions(), strange)


def test_no_key_is_used_by_two_stages_and_none_that_chose_judges() -> None:
    train = Bowl()
    go(train, ImproveOptions(iterations=3))
    for stage in ("search", "direction"):
        numbers: dict[int, set[int]] = {}
        for training, _ in train.done:
            if training.key.stage == stage:
                numbers.setdefault(training.iteration, set()).add(training.key.number)
        every = [number for own in numbers.values() for number in own]
        assert len(every) == len(set(every))  # of an iteration's own


def test_a_ladder_ends_where_it_blows_up_and_keeps_clear_of_the_cliff() -> None:
    train = Bowl(cliff=0.5)
    found = go(train, ImproveOptions(iterations=0))
    assert [rung.scale for rung in found.rungs] == [0.1, 0.2, 0.4, 0.8]
    assert found.rungs[3].loss == CAP
    assert found.chosen.factor == 0.2
    assert found.name == "ladder"  # the base itself is beyond the cliff


def test_a_ladder_goes_on_upwards_while_the_highest_scale_is_the_best() -> None:
    train = Bowl(noise=0.0)
    found = go(train, ImproveOptions(iterations=0, scales=(0.01, 0.02)))
    # exp(-0.08), the mean of the target's five, is the best factor: 1.28 is nearest on the scale.
    assert [round(rung.scale, 2) for rung in found.rungs] == [
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
    ]
    assert found.confirmation[0] == ("base", "ladder")
    assert found.rungs[-1].loss > found.rungs[-2].loss


def test_rates_come_down_where_trajectories_collapse() -> None:
    """Without a ladder the base is dead: all trajectories collapse, and the search halves rates."""
    train = Bowl(cliff=0.6)
    found = go(train, ImproveOptions(scales=(), iterations=2))
    assert found.iterations[0].collapsed == 3
    assert found.iterations[0].direction == (0.0,) * 7
    assert found.name == "end"
    assert found.chosen.factor <= 0.5
    assert found.loss is not None
    assert found.loss.mean < -2


def test_a_base_that_nothing_beats_is_kept_and_not_judged() -> None:
    class Flat(Bowl):
        def __call__(self, training: Training) -> Outcome:
            return Outcome(1.0, 0.5, False, Spent(1.0, 100, 0, 1), (0.0,) * 7)

    found = go(Flat(), ImproveOptions(scales=()))
    assert (found.name, found.loss, found.judged) == ("base", None, None)
    assert found.ended == "at last no direction stood out from the scatter"
    assert found.spent.trials == 6  # two times three trajectories


def test_a_collapsing_candidate_stops_at_its_first_key() -> None:
    # The step of a full radius goes over the cliff at the harshest margin.
    train = Bowl(noise=0.0001, cliff=1.1)
    go(train, ImproveOptions(scales=(0.5, 1.0), iterations=1))
    counts: dict[str, int] = {}
    for training, _ in train.done:
        if training.key.stage == "search":
            counts[training.name] = counts.get(training.name, 0) + 1
    assert counts["step 1"] == 1


def test_a_budget_leaves_room_for_the_confirmation() -> None:
    train = Bowl()
    found = go(train, ImproveOptions(iterations=50, budget=Budget.parse("60trials")))
    assert "budget of 60trials" in found.ended
    assert found.spent.trials <= 60
    assert {t.key.stage for t, _ in train.done} >= {"confirm", "judge"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"direction": "up"}, "direction='up': use one of hypergradients, random"),
        ({"trajectories": 1}, "trajectories=1: 2 at least"),
        ({"judged": 1}, "judged=1: 2 at least"),
        ({"scales": (0.2, 0.1)}, "scales=.*rising"),
        ({"margins": ()}, "margins is empty"),
        ({"gate": (2.0, 1.0)}, "gate="),
        ({"radius": 0.0}, "radius=0.0"),
    ],
)
def test_bad_options_are_named(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImproveOptions(**given)
