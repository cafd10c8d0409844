"""The alternative without derivatives: two whole trainings a value, and half their difference."""

from collections.abc import Callable, Mapping
from itertools import accumulate

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer, StepValues
from hypergrad.core.training_step import InnerState, train_step

__all__ = ["difference_step"]


def difference_step(
    model: FlatModel,
    state: InnerState,
    Z: Tensor,
    C: Tensor,
    batch: tuple[Tensor, Tensor],
    optimizer: BoundOptimizer,
    values: Mapping[str, float],
    counts: Mapping[str, int],
    size: float,
) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return one step of the `2 N` trainings that central differences over `N` values need.

    The trainings stand where those would that began with values a little larger and smaller: on
    both sides of `state`, along the tangents.

    Args:
        model: The network and its loss.
        state: Of the training between them.
        Z: `(N, D)` derivatives of its parameters, kind after kind; of each kind the last value is
            in use.
        C: `(N, D)` derivatives of its velocity.
        batch: The minibatch.
        optimizer: The inner optimiser, SGD.
        values: In use, by name.
        counts: How many of the `N` values are learning rates, momenta and weight decays.
        size: By how much a value is made larger and smaller.

    Returns:
        What takes the step, as often as it is called; it returns the next `Z` and `C`, as far as
        differences tell. What the trainings start from is made beforehand.
    """
    ends_of_kinds = zip(counts, accumulate(counts.values()), strict=True)
    in_use = {end - 1: name for name, end in ends_of_kinds if counts[name]}
    ends: list[tuple[InnerState, StepValues]] = []
    for row in range(len(Z)):
        for way in (size, -size):
            v = state.slots[0] + way * C[row]
            there = InnerState(state.theta + way * Z[row], (v,), state.buffers)
            used = dict(values)
            if row in in_use:
                used[in_use[row]] += way
            ends.append((there.copied(), optimizer.step_values(used, state.theta)))

    def take() -> tuple[Tensor, Tensor]:
        # Which step it is does not matter to SGD.
        after = [train_step(model, there, batch, optimizer, used, 0)[0] for there, used in ends]
        Z_next, C_next = (
            torch.stack(
                [(up - down) / (2 * size) for up, down in zip(x[::2], x[1::2], strict=True)]
            )
            for x in ([end.theta for end in after], [end.slots[0] for end in after])
        )
        return Z_next, C_next

    return take
