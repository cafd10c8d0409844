"""The batch of any step: shuffled, fetched, cached, accumulated, with noise."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from hypergrad.core.batches import MicroBatches, Nest
from hypergrad.core.seeding import generator
from hypergrad.data import (
    Batches,
    CachedBatches,
    DatasetBatches,
    Images,
    Minibatches,
    TensorBatches,
    accumulated,
    as_batches,
    with_noise,
)

KEY = (3, "train", 0)
N = 10
X, Y = torch.randn(N, 2, generator=generator("x")), torch.arange(N)
WANTED = (7, 0, 2, 7, 4, 1)


class Augmented(Dataset[tuple[Tensor, int]]):
    """Appends a number of each of three global generators to each example."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        drawn = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return torch.cat([X[i], drawn]), i


class Stream(IterableDataset[Tensor]):
    """`N` examples and no length."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(X)


class Counted:
    """Four batches of 12 bytes, 10, 11, 12, 13 in the first pass, from 20 in the second."""

    def __init__(self) -> None:
        self.passes, self.read = 0, 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Tensor]:
        self.passes += 1
        for i in range(4):
            self.read += 1
            yield torch.full((3,), 10.0 * self.passes + i)


class Grows(Counted):
    """Batches of 1, 2, 3 and 4 numbers: more than the first one promises."""

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.full((i + 1,), float(i)) for i in range(4))


def gb(count: int) -> float:
    """Memory for so many batches of `Counted`."""
    return count * 12 / 1e9


def test_tensor_batches_are_those_of_minibatches() -> None:
    ours, theirs = TensorBatches((X, Y), 4, KEY), Minibatches(Images(X, Y), 4, KEY)
    assert ours.steps_per_epoch == theirs.steps_per_epoch == 2
    for step in WANTED:
        x, y = ours.at(step)
        assert x.equal(theirs.at(step)[0])
        assert y.equal(theirs.at(step)[1])
        assert x.equal(X[y])
    epoch = torch.cat([ours.at(step)[1] for step in (2, 3)])
    assert len(epoch.unique()) == 8
    assert not epoch.equal(torch.cat([ours.at(step)[1] for step in (0, 1)]))
    assert not epoch.equal(torch.cat([TensorBatches(Y, 4, (4,)).at(step) for step in (2, 3)]))


def test_any_nest_is_batched() -> None:
    tree = {"a": X, "b": [Y, (X[:, 0],)]}
    batch = TensorBatches(tree, 3, KEY).at(1)
    index = batch["b"][0]
    assert batch["a"].equal(X[index])
    assert batch["b"][1][0].equal(X[index, 0])
    assert TensorBatches(tree, N, KEY, shuffle=False).at(5)["a"].equal(X)


@pytest.mark.parametrize("tree", [(X, 10 * Y), {"inputs": X, "labels": 10 * Y}])
def test_an_index_comes_along(tree: Nest) -> None:
    batch = TensorBatches(tree, 4, KEY, with_index=True).at(3)
    assert list(batch) == ["inputs", "labels", "index"]
    assert batch["labels"].equal(10 * batch["index"])
    assert batch["inputs"].equal(X[batch["index"]])


@pytest.mark.parametrize(
    ("tree", "with_index", "message"),
    [
        ((X, Y[:9]), False, r"shapes \(10, 2\), \(9,\)"),
        ((), False, "shapes none"),
        (torch.tensor(1.0), False, r"shapes \(\)"),
        ((X, X.numpy()), False, r"a ndarray among the tensors: .* torch.as_tensor"),
        (X, True, "entries of a Tensor"),
        ((X, Y, X), True, "entries of a tuple"),
        ({"index": X}, True, "a dict with index"),
    ],
)
def test_trees_that_are_refused(tree: Nest, with_index: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorBatches(tree, 2, KEY, with_index=with_index)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_batch_sizes_that_are_refused(batch_size: int) -> None:
    message = f"batch size {batch_size} does not fit 10 examples: choose one from 1 to 10"
    with pytest.raises(ValueError, match=message):
        TensorBatches(X, batch_size, KEY)
    with pytest.raises(ValueError, match=message):
        DatasetBatches(Augmented(), batch_size, KEY)
    with pytest.raises(ValueError, match="no examples"):
        TensorBatches(X[:0], 1, KEY)


@pytest.mark.parametrize(
    "batches", [TensorBatches(X, 2, KEY), CachedBatches(DataLoader(X, batch_size=2))]
)
def test_negative_steps_are_refused(batches: Batches) -> None:
    with pytest.raises(ValueError, match="step -1 is negative"):
        batches.at(-1)


@pytest.mark.parametrize("dataset", [TensorDataset(X, Y), Subset(TensorDataset(X, Y), range(N))])
def test_a_map_style_data_set_gives_the_same_batches(dataset: TensorDataset) -> None:
    ours, theirs = DatasetBatches(dataset, 4, KEY), TensorBatches((X, Y), 4, KEY)
    assert ours.steps_per_epoch == 2
    for step in WANTED:
        assert all(a.equal(b) for a, b in zip(ours.at(step), theirs.at(step), strict=True))
    labels = DatasetBatches(dataset, 4, KEY, collate=lambda examples: examples[0][1]).at(2)
    assert labels.equal(theirs.at(2)[1][0])
    assert DatasetBatches(dataset, 4, KEY, device="meta").at(0)[0].device.type == "meta"


def test_random_augmentation_is_drawn_again_alike() -> None:
    batches = DatasetBatches(Augmented(), 4, KEY)
    first = {step: batches.at(step) for step in (0, 1, 2, 4, 7)}
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    before = torch.rand(1), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    for step in WANTED:
        x, y = batches.at(step)
        assert x.equal(first[step][0])
        assert y.equal(first[step][1])
    # What the user's own code draws is left alone.
    assert before == (torch.rand(1), random.random(), np.random.rand())
    drawn = torch.cat([first[step][0][:, 2:] for step in (0, 1, 2)])
    assert drawn.shape == (3 * 4, 3)
    assert len(drawn.unique()) == drawn.numel()


def test_a_fetch_that_fails_puts_the_random_state_back() -> None:
    def broken(examples: list[object]) -> Nest:
        raise OSError("unreadable")

    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(OSError, match="unreadable"):
        DatasetBatches(Augmented(), 4, KEY, collate=broken).at(0)
    assert torch.get_rng_state().equal(states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]


def test_a_shuffling_loader_is_read_once() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=generator(1))
    batches = CachedBatches(loader)
    assert (batches.steps_per_epoch, batches.random_access) == (3, True)
    shuffled = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=generator(1))
    expected = list(shuffled)
    assert len(expected[2][1]) == 2  # a loader that drops nothing: the last batch is short
    for step in WANTED:
        x, y = batches.at(step)
        assert x.equal(expected[step % 3][0])
        assert y.equal(expected[step % 3][1])


def test_a_pass_is_read_as_it_is_asked_for() -> None:
    source = Counted()
    batches = CachedBatches(source, gb(4))
    assert batches.at(1).tolist() == [11, 11, 11]
    assert source.read == 2
    assert batches.at(6) is batches.at(2)
    assert [batches.at(step)[0].item() for step in (3, 0, 9)] == [13, 10, 11]
    assert source.read == 4
    assert batches.random_access


def test_beyond_its_memory_it_goes_on_in_order() -> None:
    source = Counted()
    batches = CachedBatches(source, gb(3))
    assert not batches.random_access
    seen = [batches.at(step)[0].item() for step in (0, 0, 1, 3, 4, 9)]
    assert seen == [10, 10, 11, 13, 20, 31]  # each epoch is read anew
    assert source.read == 10
    message = (
        r"step 8 was asked for after step 9, .* takes about 4.8e-08 GB, above memory_gb=3.6e-08: "
        "give a map-style data set or tensors, or a larger memory_gb"
    )
    with pytest.raises(ValueError, match=message):
        batches.at(8)
    assert batches.at(9)[0].item() == 31


def test_batches_that_grow_are_let_go_when_they_no_longer_fit() -> None:
    batches = CachedBatches(Grows(), 32 / 1e9)
    assert batches.random_access
    assert [len(batches.at(step)) for step in (1, 0, 2)] == [2, 1, 3]
    assert batches.random_access  # 24 bytes, and 32 expected
    assert len(batches.at(3)) == 4
    assert not batches.random_access
    with pytest.raises(ValueError, match="step 0 was asked for after step 3"):
        batches.at(0)
    assert len(batches.at(5)) == 2
    batches = CachedBatches(Grows(), 32 / 1e9)
    assert len(batches.at(5)) == 2  # a later epoch: the whole first pass was read, and let go
    assert not batches.random_access


def test_an_iterable_without_a_length_is_counted() -> None:
    for memory, random_access in ((1.0, True), (3e-8, False)):
        batches = CachedBatches(DataLoader(Stream(), batch_size=4), memory)
        assert (batches.steps_per_epoch, batches.random_access) == (3, random_access)
        assert [len(batches.at(step)) for step in (0, 2, 3, 5)] == [4, 2, 4, 2]
        assert batches.at(6).equal(X[:4])
    batches = CachedBatches(x for x in X.split(5))
    assert batches.steps_per_epoch == 2
    assert batches.at(3).equal(X[5:])


def test_the_cache_lies_on_the_device() -> None:
    assert CachedBatches(Counted(), device="meta").at(5).device.type == "meta"


def test_what_cannot_be_cached_is_refused() -> None:
    with pytest.raises(ValueError, match="a list gives no batches"):
        CachedBatches([])
    with pytest.raises(ValueError, match="a generator gives no batches"):
        CachedBatches(x for x in ())
    with pytest.raises(ValueError, match="generator can be read only once, .* above memory_gb=0"):
        CachedBatches((x for x in X.split(5)), 0)
    with pytest.raises(ValueError, match="memory_gb -1 is negative"):
        CachedBatches([X], -1)

    class Short(Counted):
        def __len__(self) -> int:
            return 5

    with pytest.raises(ValueError, match="Short of length 5 gave 4 batches in epoch 0"):
        CachedBatches(Short()).at(4)


def test_accumulated_steps_are_of_one_epoch() -> None:
    batches = accumulated(TensorBatches(Y, 2, KEY, shuffle=False), 2)
    assert batches.steps_per_epoch == 2
    assert type(batches.at(0)) is MicroBatches
    assert [[x.tolist() for x in batches.at(step)] for step in (1, 2)] == [
        [[4, 5], [6, 7]],
        [[0, 1], [2, 3]],
    ]
    assert batches.random_access
    assert not accumulated(CachedBatches(Counted(), 0), 2).random_access
    for count in (0, 6):
        with pytest.raises(ValueError, match=f"{count} batches cannot .* from 1 to 5"):
            accumulated(TensorBatches(Y, 2, KEY), count)


def test_noise_is_a_function_of_key_and_step() -> None:
    plain = TensorBatches((X, Y), 5, KEY)
    noisy = with_noise(plain, KEY)
    assert noisy.steps_per_epoch == 2
    x, y, noise = noisy.at(3)
    assert (x.shape, x.dtype) == (noise.shape, noise.dtype)
    assert x.equal(plain.at(3)[0])
    assert y.equal(plain.at(3)[1])
    assert noise.equal(noisy.at(3)[2])
    assert not noise.equal(noisy.at(1)[2])
    assert not noise.equal(with_noise(plain, (4,)).at(3)[2])
    double = with_noise(TensorBatches((X.double(), Y), 5, KEY), KEY).at(3)[2]
    assert double.equal(noise.double())
    named = with_noise(TensorBatches((X, Y), 5, KEY, with_index=True), KEY).at(3)
    assert list(named) == ["inputs", "labels", "index", "noise"]
    assert named["noise"].equal(noise)
    many = with_noise(TensorBatches((torch.zeros(400, 50), torch.zeros(400)), 400, KEY), KEY)
    drawn = many.at(0)[2]
    # 20,000 draws: 5 standard deviations of the mean and of the variance.
    assert abs(drawn.mean()) < 5 / 20000**0.5
    assert abs(drawn.var() - 1) < 5 * (2 / 20000) ** 0.5


def test_noise_needs_floating_inputs() -> None:
    for tree in (X, (Y, Y), {"images": X}):
        with pytest.raises(ValueError, match="whose inputs are a floating tensor"):
            with_noise(TensorBatches(tree, 5, KEY), KEY).at(0)
    pairs = TensorBatches((X, Y), 2, KEY)
    with pytest.raises(ValueError, match=r"accumulated\(with_noise\("):
        with_noise(accumulated(pairs, 2), KEY).at(0)
    assert len(accumulated(with_noise(pairs, KEY), 2).at(0)[1]) == 3


@pytest.mark.parametrize(
    ("data", "batch_size", "kind"),
    [
        (Images(X, Y), 4, Minibatches),
        ((X, Y), 4, TensorBatches),
        ({"inputs": X, "labels": Y}, 4, TensorBatches),
        (X, 4, TensorBatches),
        (TensorDataset(X, Y), 4, TensorBatches),
        (Augmented(), 4, DatasetBatches),
        (DataLoader(TensorDataset(X, Y), batch_size=4), None, CachedBatches),
        (DataLoader(TensorDataset(X, Y), batch_size=4), 4, CachedBatches),
        ((x for x in X.split(4)), None, CachedBatches),
    ],
)
def test_the_type_chooses(data: Nest, batch_size: int | None, kind: type) -> None:
    batches = as_batches(data, batch_size, KEY)
    assert type(batches) is kind
    assert isinstance(batches, Batches)
    assert batches.steps_per_epoch == (3 if kind is CachedBatches else 2)
    assert as_batches(batches, None, KEY) is batches


@pytest.mark.parametrize(
    ("data", "batch_size", "message"),
    [
        ([X, Y], 4, r"a list may be a data set or its batches: give TensorBatches\(data"),
        (Stream(), 4, r"a Stream gives examples in its own order: give DataLoader"),
        (3, 4, "a int gives no batches"),
        ((X, Y), None, "no batch size for a tuple"),
        (DataLoader(X, batch_size=5), 4, "batch size 4 for a DataLoader, .* of 5: give None"),
        (Counted(), 4, "batch size 4 for a Counted, whose batches are already made: give None"),
    ],
)
def test_data_that_is_refused(data: Nest, batch_size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_batches(data, batch_size, KEY)
