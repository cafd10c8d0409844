"""Batches and augmentation against slow loops over single images."""

import pytest
import torch
from torch import Tensor

from hypergrad.core.seeding import generator
from hypergrad.data import Augmentation, Epoch, Images, in_batches

KEY = (0, "train", 1, 2)


@pytest.fixture
def data() -> Images:
    stream = generator("images")
    return Images(torch.randn(23, 3, 6, 5, generator=stream), torch.arange(23))


def crop_and_flip(image: Tensor, pad: int, top: int, left: int, flip: bool) -> Tensor:
    """Cut one image out of its padded self, pixel by pixel."""
    c, h, w = image.shape
    out = torch.zeros_like(image)
    for y in range(h):
        for x in range(w):
            row = top + y - pad
            column = left + (w - 1 - x if flip else x) - pad
            if 0 <= row < h and 0 <= column < w:
                out[:, y, x] = image[:, row, column]
    return out


@pytest.mark.parametrize(("pad", "flip"), [(4, True), (2, False), (0, True), (0, False)])
def test_augmentation_equals_a_loop_over_images(data: Images, pad: int, flip: bool) -> None:
    augmentation = Augmentation(pad, flip)
    epoch = Epoch(data, 7, key=KEY, augment=augmentation)
    draws = augmentation.draw(len(data), generator(*KEY, "augment"))
    for images, labels in epoch:
        for image, i in zip(images, labels.tolist(), strict=True):
            top, left, mirrored = (int(drawn[i]) for drawn in draws)
            expected = crop_and_flip(data.images[i], pad, top, left, bool(mirrored))
            assert image.equal(expected)


def test_augmentation_draws_every_offset_and_both_flips_evenly() -> None:
    n = 9000
    top, left, flip = Augmentation(pad=1).draw(n, generator("draws"))
    # 5 standard deviations of a binomial count.
    for offset in (top, left):
        assert torch.all((offset.bincount() - n / 3).abs() < 5 * (n * 2 / 9) ** 0.5)
    assert abs(int(flip.sum()) - n / 2) < 5 * (n / 4) ** 0.5
    assert not Augmentation(flip=False).draw(n, generator("draws")).flip.any()


def test_negative_pad_is_refused() -> None:
    with pytest.raises(ValueError, match="pad -1"):
        Augmentation(pad=-1)


def test_epoch_is_a_permutation_without_the_incomplete_batch(data: Images) -> None:
    epoch = Epoch(data, 5, key=KEY)
    labels = torch.cat([y for _, y in epoch])
    assert len(epoch) == 4
    assert len(labels) == len(labels.unique()) == 20
    assert not labels.equal(torch.arange(20))
    x, y = epoch[3]
    assert x.equal(data.images[y])


def test_epoch_without_shuffling_keeps_the_order(data: Images) -> None:
    epoch = Epoch(data, 10, key=KEY, shuffle=False)
    assert [y.tolist() for _, y in epoch] == [list(range(10)), list(range(10, 20))]


@pytest.mark.parametrize("augment", [None, Augmentation()])
def test_a_batch_is_a_pure_function_of_key_and_index(
    data: Images, augment: Augmentation | None
) -> None:
    in_order = list(Epoch(data, 4, key=KEY, augment=augment))
    epoch = Epoch(data, 4, key=KEY, augment=augment)
    torch.manual_seed(5)
    for i in (3, 0, 3, 4, 1):
        x, y = epoch[i]
        assert x.equal(in_order[i][0])
        assert y.equal(in_order[i][1])


def test_another_key_gives_other_batches(data: Images) -> None:
    batches = [Epoch(data, 23, key=(*KEY[:3], epoch))[0][1] for epoch in range(3)]
    assert not batches[0].equal(batches[1])
    assert not batches[1].equal(batches[2])


def test_epoch_keeps_type_and_leaves_its_data_alone(data: Images) -> None:
    double = data.to(dtype=torch.float64)
    before = double.images.clone()
    x, y = Epoch(double, 23, key=KEY, augment=Augmentation())[0]
    assert (x.dtype, y.dtype) == (torch.float64, torch.int64)
    assert double.images.equal(before)


@pytest.mark.parametrize("index", [-1, 4])
def test_epoch_has_no_batch_beyond_its_ends(data: Images, index: int) -> None:
    with pytest.raises(IndexError):
        Epoch(data, 5, key=KEY)[index]


@pytest.mark.parametrize("batch_size", [24, 0, -3])
def test_epoch_refuses_a_batch_size(data: Images, batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"{batch_size} does not fit 23 images: .* 1 to 23"):
        Epoch(data, batch_size, key=KEY)


def test_epoch_refuses_an_empty_set(data: Images) -> None:
    with pytest.raises(ValueError, match="no images"):
        Epoch(data.take(torch.arange(0)), 1, key=KEY)


def test_in_batches_covers_everything_in_order(data: Images) -> None:
    batches = list(in_batches(data, 10))
    assert [len(y) for _, y in batches] == [10, 10, 3]
    assert torch.cat([x for x, _ in batches]).equal(data.images)
    assert torch.cat([y for _, y in batches]).equal(data.labels)
    with pytest.raises(ValueError, match="batch size 0"):
        in_batches(data, 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_equal_those_on_the_cpu(data: Images) -> None:
    on_gpu = Epoch(data.to("cuda"), 5, key=KEY, augment=Augmentation())
    for (x, y), (x_gpu, y_gpu) in zip(
        Epoch(data, 5, key=KEY, augment=Augmentation()), on_gpu, strict=True
    ):
        assert x_gpu.is_cuda
        assert x.equal(x_gpu.cpu())
        assert y.equal(y_gpu.cpu())
