"""What a network is trained for: a loss of the user's, and what is reported beside it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Criterion", "Loss", "Objective", "accuracy", "as_objective", "supervised"]

Batch = Any  # any nest of tensors
Criterion = Callable[[Any, Tensor], Tensor]
Loss = Callable[[nn.Module, Batch, Mapping[str, Tensor]], Tensor | tuple[Tensor, Any]]
Metric = Callable[[Any, Batch], Tensor]


@dataclass(frozen=True)
class Objective:
    """A loss, and how its result is judged.

    Attributes:
        loss: Maps the module, a batch and the values of the loss's hyperparameters, by name, to a
            scalar, the mean over the batch; or to that and an output that the metric judges.
        validation_loss: The same for validation and test data, which takes no values; the loss at
            no values unless given.
        metric: Maps the output and the batch to `(B,)`, a score an example, or to a scalar, their
            mean; the higher the better. None: the validation loss decides.
    """

    loss: Loss
    validation_loss: Loss | None = None
    metric: Metric | None = None


def supervised(criterion: Criterion = F.cross_entropy, metric: Metric | None = None) -> Objective:
    """Return the objective of a network of one input, with labels.

    Args:
        criterion: Maps (predictions, labels) to the mean loss of a batch.
        metric: Of predictions and the batch; accuracy unless given.
    """

    def loss(module: nn.Module, batch: Batch, values: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        x, y = (batch["inputs"], batch["labels"]) if isinstance(batch, Mapping) else batch
        predictions = module(x)
        return criterion(predictions, y), predictions

    return Objective(loss, metric=accuracy if metric is None else metric)


def as_objective(given: Objective | Criterion | Loss) -> Objective:
    """Return an objective; of a loss alone, one without a metric; of a criterion, `supervised`.

    Args:
        given: A criterion takes (predictions, labels), a loss (module, batch, values).
    """
    if isinstance(given, Objective):
        return given
    if isinstance(given, nn.Module):
        return supervised(given)
    parameters = inspect.signature(given).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind in (0, 1)]
    if len(needed) == 3:
        return Objective(cast("Loss", given))
    return supervised(cast("Criterion", given))


def accuracy(predictions: Tensor, batch: Batch) -> Tensor:
    """Return `(B,)`, whether the largest of the predictions `(B, classes)` is the label.

    Args:
        predictions: Of the network.
        batch: (inputs, labels, ...), or a mapping with `labels`.
    """
    labels = batch["labels"] if isinstance(batch, Mapping) else batch[1]
    return predictions.argmax(-1) == labels
