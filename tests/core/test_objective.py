"""The metric of a network is inferred from shapes, or there is none."""

import pytest
import torch
from torch import Tensor, nn

from hypergrad.core.functional_model import FlatModel
from hypergrad.core.objective import accuracy, as_objective, supervised

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])


def score(predictions: Tensor, labels: Tensor) -> Tensor:
    metric = supervised().metric
    assert metric is not None
    return metric(predictions, (None, labels))


def test_the_accuracy_of_a_classifier() -> None:
    assert score(LOGITS, torch.tensor([0, 2, 0])).tolist() == [1.0, 1.0, 0.0]


def test_positions_of_a_sequence_count_within_their_example() -> None:
    predictions = torch.stack([LOGITS, LOGITS.flip(1)], dim=2)  # (B, C, T): classes are second
    labels = torch.tensor([[0, 2], [2, 1], [-100, 1]])
    assert score(predictions, labels).tolist() == [1.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("predictions", "labels"),
    [
        (torch.randn(4, 1), torch.randint(0, 2, (4,))),  # one logit: the largest is always the 0th
        (torch.randn(4, 1), torch.rand(4, 1)),  # regression
        (torch.randn(4), torch.rand(4)),
        (torch.randn(4, 3), torch.randint(0, 2, (4, 3)).float()),  # several labels an example
        (torch.randn(4, 3), torch.randint(0, 2, (4, 3))),
        (torch.randn(4, 5, 3), torch.randint(0, 3, (4, 5))),  # (B, T, C): which are the classes?
        (torch.randn(4, 3), torch.rand(4, 3).softmax(1)),  # probabilities as labels
    ],
)
def test_what_is_no_classifier_has_no_accuracy(predictions: Tensor, labels: Tensor) -> None:
    assert torch.isnan(score(predictions, labels))
    with pytest.raises(ValueError, match=r"no accuracy of predictions \(4.*give Objective\(metric"):
        accuracy(predictions, (None, labels))


def test_the_loss_decides_where_there_is_no_metric() -> None:
    model = FlatModel(nn.Linear(3, 1), nn.functional.mse_loss)
    batches = [(torch.randn(4, 3), torch.randn(4, 1)), (torch.randn(2, 3), torch.randn(2, 1))]
    loss, metric = model.evaluate(model.theta(), {}, batches)
    assert loss > 0
    assert metric != metric


def test_positions_that_the_criterion_ignores_do_not_count() -> None:
    metric = supervised(nn.CrossEntropyLoss(ignore_index=0)).metric
    assert metric is not None
    predictions = torch.stack([LOGITS, LOGITS.flip(1)], dim=2)
    labels = torch.tensor([[0, 2], [2, 0], [1, 1]])
    assert metric(predictions, (None, labels)).tolist() == [1.0, 1.0, 1.0]


def test_a_loss_may_have_no_values_unless_told() -> None:
    """A plain loop calls it without: that must not make it a criterion of (predictions, labels)."""

    def loss(module: nn.Module, batch: Tensor, values: object = None) -> Tensor:
        return module(batch).mean()

    assert as_objective(loss).loss is loss
