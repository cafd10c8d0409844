"""Whether the loss takes its hyperparameters, and is differentiable in them."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hypergrad.core.functional_model import Batch, FlatModel
from hypergrad.core.inner_optimizer import BoundOptimizer
from hypergrad.core.schedule import Schedule
from hypergrad.core.training_step import micro_batches

__all__ = ["check_loss"]


def check_loss(
    model: FlatModel,
    optimizer: BoundOptimizer | None,
    schedule: Schedule | None,
    theta: Tensor,
    batch: Batch,
) -> dict[str, Tensor]:
    """Return the first step's values of the loss's hyperparameters, all of which it asks for.

    Args:
        model: The network and its loss.
        optimizer: The inner optimiser.
        schedule: The values.
        theta: `(D,)` parameters.
        batch: A minibatch of the training.

    Raises:
        ValueError: For one that the loss does not ask for, and that is none of the optimiser's:
            a name that is mistyped, say. If autocast is on around the loss.
    """
    device = theta.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        raise ValueError(
            "autocast is on around the derivatives, which would go through it in part: switch it "
            "on inside the loss, where it is differentiated through"
        )
    if optimizer is None or schedule is None or not optimizer.loss_size:
        return {}
    given = optimizer.given(schedule, 0, len(schedule.flat))
    values = optimizer.named(optimizer.step_values(given, theta).loss)
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    asked = _Asked(leaves)
    with torch.random.fork_rng([theta.device] if theta.is_cuda else []), torch.enable_grad():
        loss = model.loss(theta, micro_batches(batch)[0], None, asked)
    unknown = [name for name in values if name not in asked.names]
    if unknown:
        takes = ", ".join(optimizer.rule.defaults)
        raise ValueError(
            f"neither the loss asks for {', '.join(unknown)} nor does {optimizer.rule.name} take "
            f"it: the optimizer takes {takes}"
        )
    found = (
        torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        if loss.requires_grad
        else ()
    )
    for name, derivative in zip(values, found or [None] * len(leaves), strict=True):
        if derivative is None:
            raise ValueError(
                f"the loss takes {name}, but its derivative is lost: compute with the tensor as it "
                "is, without float(), .item() or no_grad()"
            )
    return values


class _Asked(Mapping[str, Tensor]):
    """Values of a loss that note which of them it asks for."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._values = values
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self.names.add(name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
