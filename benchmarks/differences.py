"""The alternative without derivatives: two whole trainings a value, and half their difference."""

from collections.abc import Callable

import torch
from torch import Tensor

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.schedule import StepValues
from hypergrad.core.training_step import InnerState, train_step

__all__ = ["difference_step"]


def difference_step(
    model: FlatModel,
    state: InnerState,
    Z: Tensor,
    C: Tensor,
    batch: tuple[Tensor, Tensor],
    values: StepValues,
    counts: tuple[int, int, int],
    limit: float,
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
        values: In use.
        counts: How many of the `N` values are learning rates, momenta and weight decays.
        limit: Elementwise limit on the gradient.
        size: By how much a value is made larger and smaller.

    Returns:
        What takes the step, as often as it is called; it returns the next `Z` and `C`, as far as
        differences tell. What the trainings start from is made beforehand.
    """
    in_use = {sum(counts[: kind + 1]) - 1: kind for kind in range(3) if counts[kind]}
    ends: list[tuple[InnerState, StepValues]] = []
    for row in range(len(Z)):
        for way in (size, -size):
            there = InnerState(state.theta + way * Z[row], state.v + way * C[row], state.buffers)
            used = list(values[:3])
            if row in in_use:
                used[in_use[row]] += way
            ends.append((there.copied(), StepValues(*used, values.indices)))

    def take() -> tuple[Tensor, Tensor]:
        after = [train_step(model, there, batch, used, limit)[0] for there, used in ends]
        Z_next, C_next = (
            torch.stack(
                [(up - down) / (2 * size) for up, down in zip(x[::2], x[1::2], strict=True)]
            )
            for x in ([end.theta for end in after], [end.v for end in after])
        )
        return Z_next, C_next

    return take
