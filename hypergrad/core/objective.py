"""What a network is trained for: a loss of the user's, and what is reported beside it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Criterion", "Loss", "Objective", "accuracy", "as_objective", "supervised"]

Batch = Any  # any nest of tensors
Criterion = Callable[[Any, Tensor], Tensor]
Loss = Callable[[nn.Module, Batch, Mapping[str, Tensor]], Tensor | tuple[Tensor, Any]]
Metric = Callable[[Any, Batch], Tensor]

IGNORED = -100  # the label that `cross_entropy` passes over unless told otherwise


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
        metric: Of predictions and the batch. Unless given it is the accuracy, where shapes and
            types of predictions and labels are those of a classifier; otherwise there is none, and
            the validation loss decides.
    """
    ignored = getattr(criterion, "ignore_index", IGNORED)

    def judge(predictions: Any, batch: Batch) -> Tensor:  # noqa: ANN401
        return inferred_accuracy(predictions, batch, ignored)

    def loss(module: nn.Module, batch: Batch, values: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        x, y = (batch["inputs"], batch["labels"]) if isinstance(batch, Mapping) else batch
        predictions = module(x)
        return criterion(predictions, y), predictions

    return Objective(loss, metric=metric or judge)


def as_objective(given: Objective | Criterion | Loss) -> Objective:
    """Return an objective; of a loss alone, one without a metric; of a criterion, `supervised`.

    Args:
        given: A criterion takes (predictions, labels), a loss (module, batch, values); `values`
            may have a default, for loops that have none.
    """
    if isinstance(given, Objective):
        return given
    if isinstance(given, nn.Module):
        return supervised(given)
    parameters = [p for p in inspect.signature(given).parameters.values() if p.kind in (0, 1)]
    needed = [p for p in parameters if p.default is p.empty]
    if len(needed) == 3 or (len(parameters) == 3 and parameters[2].name == "values"):
        return Objective(cast("Loss", given))
    return supervised(cast("Criterion", given))


def accuracy(predictions: Tensor, batch: Batch, ignored: int = IGNORED) -> Tensor:
    """Return `(B,)`, the share of an example's labels that have the largest prediction.

    The classes are the second dimension, as in `torch.nn.functional.cross_entropy`.

    Args:
        predictions: `(B, C, ...)` logits or probabilities of at least two classes.
        batch: (inputs, labels, ...), or a mapping with `labels`: `(B, ...)` whole numbers.
        ignored: Label of positions that do not count: `ignore_index` of `cross_entropy`.

    Raises:
        ValueError: For shapes that it cannot judge; give an objective with a metric of its own.
    """
    labels = _labels(batch)
    if not _are_classes(predictions, labels):
        raise ValueError(
            f"no accuracy of predictions {_form(predictions)} for labels {_form(labels)}: (B, C, "
            "...) for whole numbers (B, ...) have one, C at least 2; give Objective(metric=...)"
        )
    assert isinstance(labels, Tensor)
    counted = labels != ignored
    counted = counted.flatten(1) if labels.dim() > 1 else counted[:, None]
    right = (predictions.argmax(1) == labels).reshape(counted.shape) & counted
    return right.sum(dim=1) / counted.sum(dim=1).clamp(min=1)


def inferred_accuracy(
    predictions: Any,  # noqa: ANN401
    batch: Batch,
    ignored: int = IGNORED,
) -> Tensor:
    """Return `accuracy` where shapes and types say that there is one, and NaN otherwise."""
    if _are_classes(predictions, _labels(batch)):
        return accuracy(predictions, batch, ignored)
    return torch.tensor(torch.nan)


def _labels(batch: Batch) -> object:
    if isinstance(batch, Mapping):
        return batch.get("labels")
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) > 1 else None


def _are_classes(predictions: object, labels: object) -> bool:
    if not isinstance(predictions, Tensor) or not isinstance(labels, Tensor):
        return False
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if not whole or labels.dim() < 1 or predictions.dim() != labels.dim() + 1:
        return False
    return predictions.shape[1] > 1 and (*predictions.shape[:1], *predictions.shape[2:]) == (
        *labels.shape,
    )


def _form(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"of type {type(value).__name__}"
    return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
