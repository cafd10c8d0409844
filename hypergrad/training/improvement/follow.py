"""Carry out a plan: recorded outcomes first, then trainings."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypergrad.training.improvement.trainings import Asking, Outcome, Training

__all__ = ["Done", "follow"]

T = TypeVar("T")
Done = tuple[Training, Outcome]


def follow(
    plan: Asking[T],
    train: Callable[[Training], Outcome],
    recorded: Sequence[Done] = (),
    note: Callable[[Training, Outcome], None] = lambda training, outcome: None,
) -> T:
    """Carry out a plan, and return what it comes to.

    A plan is deterministic: replaying what an interrupted one recorded, and then going on, comes to
    the same as going through in one go.

    Args:
        plan: Fresh.
        train: Does one training.
        recorded: Trainings done before, in any order.
        note: Is told of every training that is done now.

    Raises:
        ValueError: If trainings were recorded that this plan does not ask for.
    """
    known = dict(recorded)
    try:
        asked = next(plan)
        while True:
            outcomes = []
            for training in asked:
                outcome = known.pop(training, None)
                if outcome is None:
                    outcome = train(training)
                    note(training, outcome)
                outcomes.append(outcome)
            asked = plan.send(outcomes)
    except StopIteration as end:
        if known:
            training = next(iter(known))
            raise ValueError(
                f"{len(known)} recorded trainings are of another plan, the first of stage "
                f"{training.key.stage} with key {training.key.number}: start anew"
            ) from None
        return end.value
