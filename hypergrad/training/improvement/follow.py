"""Carry out a plan: recorded outcomes first, then trainings."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from hypergrad.training.improvement.trainings import Asking, Outcome, Training

__all__ = ["Done", "follow", "one_by_one"]

T = TypeVar("T")
Done = tuple[Training, Outcome]


def follow(
    plan: Asking[T],
    train: Callable[[Sequence[Training]], Iterator[Done]],
    recorded: Sequence[Done] = (),
    note: Callable[[Training, Outcome], None] = lambda training, outcome: None,
) -> T:
    """Carry out a plan, and return what it comes to.

    A plan is deterministic: replaying what an interrupted one recorded, and then going on, comes to
    the same as going through in one go.

    Args:
        plan: Fresh.
        train: Does trainings that do not depend on each other, and yields each with its outcome
            when it ends, in any order.
        recorded: Trainings done before, in any order.
        note: Is told of every training that is done now.

    Raises:
        ValueError: If trainings were recorded that this plan does not ask for.
    """
    known = dict(recorded)
    try:
        asked = next(plan)
        while True:
            if left := [training for training in asked if training not in known]:
                for training, outcome in train(left):
                    note(training, outcome)
                    known[training] = outcome
            asked = plan.send([known.pop(training) for training in asked])
    except StopIteration as end:
        if known:
            training = next(iter(known))
            raise ValueError(
                f"{len(known)} recorded trainings are of another plan, the first of stage "
                f"{training.key.stage} with key {training.key.number}: start anew"
            ) from None
        return end.value


def one_by_one(
    train: Callable[[Training], Outcome],
) -> Callable[[Sequence[Training]], Iterator[Done]]:
    """Return what does trainings one after another, for `follow`.

    Args:
        train: Does one training.
    """

    def each(asked: Sequence[Training]) -> Iterator[Done]:
        for training in asked:
            yield training, train(training)

    return each
