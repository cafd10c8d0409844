"""Nests of tensors: counted, cut, cast."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hypergrad.core.batches import (
    MicroBatches,
    Nest,
    cast_floating,
    example_count,
    first_examples,
    map_tensors,
    tensors_in,
    to_device,
)


class Pair(NamedTuple):
    inputs: Tensor
    labels: Tensor


def nest() -> Nest:
    pair = Pair(torch.arange(6.0).view(3, 2), torch.arange(3))
    return {"scale": torch.tensor(2.0), "pair": pair, "rest": [torch.zeros(5), "words", None]}


def test_map_keeps_every_type_and_what_is_no_tensor() -> None:
    mapped = map_tensors(lambda x: x + 1, nest())
    assert isinstance(mapped, dict)
    assert list(mapped) == ["scale", "pair", "rest"]
    assert mapped["scale"].item() == 3
    assert type(mapped["pair"]) is Pair
    assert mapped["pair"].labels.tolist() == [1, 2, 3]
    assert type(mapped["rest"]) is list
    assert mapped["rest"][1:] == ["words", None]
    micro = map_tensors(lambda x: -x, MicroBatches([torch.ones(1), torch.zeros(1)]))
    assert type(micro) is MicroBatches
    assert micro[0].tolist() == [-1]


def test_tensors_come_in_order() -> None:
    assert [tuple(x.shape) for x in tensors_in(nest())] == [(), (3, 2), (3,), (5,)]


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (torch.zeros(4, 2), 4),
        ((torch.zeros(4, 2), torch.zeros(4)), 4),
        (nest(), 3),
        (MicroBatches([(torch.zeros(4), torch.zeros(4)), (torch.zeros(3), torch.zeros(3))]), 7),
    ],
)
def test_examples_are_counted(batch: Nest, count: int) -> None:
    assert example_count(batch) == count


@pytest.mark.parametrize("batch", [torch.tensor(1.0), {}, {"name": "words"}])
def test_what_has_no_examples_is_refused(batch: Nest) -> None:
    with pytest.raises(ValueError, match=r"no tensor with a first dimension.*\(examples, \.\.\.\)"):
        example_count(batch)


def test_first_examples_cut_what_has_the_batches_dimension() -> None:
    cut = first_examples(nest(), 2)
    assert cut["pair"].inputs.tolist() == [[0, 1], [2, 3]]
    assert cut["pair"].labels.tolist() == [0, 1]
    assert cut["scale"].item() == 2
    assert cut["rest"][0].shape == (5,)
    assert first_examples(torch.arange(3), 9).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="first 0 examples"):
        first_examples(nest(), 0)


@pytest.mark.parametrize(
    ("n", "expected"),
    [(1, [[0]]), (2, [[0, 1]]), (3, [[0, 1], [2]]), (9, [[0, 1], [2, 3], [4, 5]])],
)
def test_first_examples_of_micro_batches(n: int, expected: list[list[int]]) -> None:
    taken = first_examples(MicroBatches(torch.arange(6).split(2)), n)
    assert type(taken) is MicroBatches
    assert [one.tolist() for one in taken] == expected


def test_casting_leaves_integers_and_moving_nothing_leaves_all() -> None:
    cast = cast_floating(nest(), torch.float64)
    assert [x.dtype for x in tensors_in(cast)] == [
        torch.float64,
        torch.float64,
        torch.int64,
        torch.float64,
    ]
    batch = nest()
    assert to_device(batch, None) is batch
    assert [x.device.type for x in tensors_in(to_device(batch, "meta"))] == ["meta"] * 4
