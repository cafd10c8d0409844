"""Data as people give it: taken, or refused with what to give instead."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hypergrad import Hyperparameter, InnerOptimizer, Search, SearchLog, improve, sgd
from hypergrad.data.sources import TensorBatches

X, Y = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3


def loader(seed: int = 0) -> DataLoader:
    draws = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(X, Y), 16, shuffle=True, generator=draws)


def search(**changed: object) -> Search:
    torch.manual_seed(0)
    given = {
        "batches": TensorBatches((X, Y), 16, (0,)),
        "validation": [(X, Y)],
        "optimizer": InnerOptimizer(sgd(), (Hyperparameter("learning_rate", 1, 0.1),)),
        **changed,
    }
    return Search(nn.Linear(5, 3), F.cross_entropy, epochs=1, outer_steps=1, **given)  # type: ignore[arg-type]


def loss(**changed: object) -> float:
    return next(search(**changed)).validation_loss


def test_loaders_are_taken_everywhere() -> None:
    ordered = DataLoader(TensorDataset(X, Y), 16)
    assert loss(validation=ordered) == pytest.approx(loss(), rel=1e-6)
    assert loss(validation=lambda number: ordered) == loss(validation=ordered)
    assert loss(batches=lambda number: loader()) == loss(batches=loader())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"validation": (X, Y)}, "validation is one batch, a tuple of 2 tensors: give a list"),
        ({"validation": {"inputs": X}}, "validation is a dict: give a list of batches"),
        ({"validation": X}, "validation is a Tensor: give a list"),
        ({"validation": lambda number: X}, "validation is a Tensor: give a list"),
        ({"validation": TensorBatches((X, Y), 16, (0,))}, "validation is a TensorBatches"),
        ({"validation": []}, "no validation data"),
        ({"batches": (X, Y)}, "batches is a tuple: give hypergrad.data.as_batches"),
        ({"batches": TensorDataset(X, Y)}, "batches is a TensorDataset: give hypergrad"),
        ({"batches": lambda number: [(X, Y)]}, "batches is a list: give hypergrad"),
        ({"batches": 3}, "batches is a int, and has no at"),
        ({"optimizer": sgd()}, "give InnerOptimizer"),
        ({"log": "mine"}, "give RunFolder"),
    ],
)
def test_what_is_none_is_named(changed: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        next(search(**changed))


def test_improve_wants_functions_of_a_seed() -> None:
    with pytest.raises(ValueError, match="functions of a seed"):
        improve(nn.Linear(5, 3), F.cross_entropy, loader(), [(X, Y)], epochs=1)  # type: ignore[arg-type]


def test_nothing_to_resume_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to go on from"):
        search().resume()
    with pytest.raises(ValueError, match="no outer step was taken yet"):
        _ = search().best
    assert search(log=type("Own", (SearchLog,), {})()).resume().history == []
