"""Images, data sets, subsets and splits."""

import subprocess
import sys

import pytest
import torch

from hypergrad.data import Dataset, Images, balanced_subset, load, train_validation_split
from hypergrad.data.content_hash import content_hash


def test_images_move_and_choose() -> None:
    data = Images(torch.arange(24.0).view(3, 2, 2, 2), torch.tensor([2, 0, 1]))
    taken = data.to("cpu", torch.float64).take(torch.tensor([2, 0]))
    assert taken.images.dtype == torch.float64
    assert taken.labels.tolist() == [1, 2]
    assert taken.labels.dtype == torch.int64
    assert taken.images[:, 0, 0, 0].tolist() == [16.0, 0.0]
    assert len(taken) == 2
    moved = Dataset("x", data, taken, ("a", "b", "c")).to(dtype=torch.float16)
    assert (moved.name, moved.shape, moved.n_classes) == ("x", (2, 2, 2), 3)
    assert {moved.train.images.dtype, moved.test.images.dtype} == {torch.float16}


def test_a_fingerprint_is_of_pixels_labels_and_order() -> None:
    pixels, labels = torch.arange(24.0).view(3, 2, 2, 2), torch.tensor([2, 0, 1])

    def fingerprint(images: torch.Tensor, labels: torch.Tensor, *, test: bool = False) -> str:
        own, other = Images(images, labels), Images(pixels, torch.tensor([2, 0, 1]))
        halves = (other, own) if test else (own, other)
        return Dataset("x", *halves, ("a", "b", "c")).fingerprint

    changed = pixels.clone()
    changed[0, 0, 0, 0] = torch.nextafter(torch.tensor(0.0), torch.tensor(1.0))
    order = torch.tensor([1, 0, 2])
    found = [fingerprint(pixels, labels)]
    for test in (False, True):
        found += [
            fingerprint(changed, labels, test=test),
            fingerprint(pixels, labels.flip(0), test=test),
            fingerprint(pixels[order], labels[order], test=test),
            fingerprint(pixels.view(3, 1, 4, 2), labels, test=test),
        ]
    assert len(set(found)) == 9
    assert fingerprint(pixels.clone(), labels.clone()) == found[0]
    # Neither how it lies in memory nor its length in it matters.
    assert fingerprint(pixels.to(memory_format=torch.channels_last), labels) == found[0]
    many = torch.arange(2500.0)[:, None]
    assert content_hash(many) == content_hash(many.repeat(1, 2)[:, :1])
    assert content_hash(many) != content_hash(many.flip(0))


def test_a_loaded_set_keeps_its_fingerprint_wherever_it_goes() -> None:
    data = load("digits", train_size=50)
    assert data.to(dtype=torch.float64).fingerprint == data.fingerprint
    assert load("digits", train_size=50).fingerprint == data.fingerprint
    assert load("digits", train_size=51).fingerprint != data.fingerprint
    assert load("digits", train_size=50, test_size=50).fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3,), torch.zeros(3, dtype=torch.int64), "do not belong together"),
        ((3, 1, 2, 2), torch.zeros(4, dtype=torch.int64), "do not belong together"),
        ((3, 1, 2, 2), torch.zeros(3, dtype=torch.int32), "int32"),
    ],
)
def test_images_refuse(shape: tuple[int, ...], labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Images(torch.zeros(shape), labels)


@pytest.mark.slow
def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, hypergrad.data; "
        "print([m for m in ('torchvision', 'sklearn', 'scipy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


LABELS = torch.arange(5).repeat_interleave(torch.tensor([40, 30, 20, 20, 20]))


@pytest.mark.parametrize("size", [5, 7, 50, 99, 100])
def test_subset_is_balanced(size: int) -> None:
    index = balanced_subset(LABELS, size, seed=3)
    counts = LABELS[index].bincount()
    assert index.dtype == torch.int64
    assert len(index.unique()) == size
    assert counts.max() - counts.min() <= 1


def test_subset_passes_over_a_class_that_runs_out() -> None:
    assert LABELS[balanced_subset(LABELS, 125, seed=0)].bincount().tolist() == [35, 30, 20, 20, 20]
    assert balanced_subset(LABELS, 130, seed=0).sort().values.equal(torch.arange(130))


def test_subsets_are_nested_and_seeded() -> None:
    large = balanced_subset(LABELS, 100, seed=1)
    for size in (5, 8, 60):
        assert balanced_subset(LABELS, size, seed=1).equal(large[:size])
    assert not balanced_subset(LABELS, 100, seed=2).equal(large)


def test_the_odd_image_is_not_always_of_the_first_class() -> None:
    odd = {int(LABELS[balanced_subset(LABELS, 6, seed)][5]) for seed in range(20)}
    assert len(odd) > 2


@pytest.mark.parametrize(("size", "remedy"), [(131, "at most 130"), (4, "at least 5"), (-1, "5")])
def test_subset_refuses(size: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=f"{size} .*{remedy}"):
        balanced_subset(LABELS, size, seed=0)


@pytest.mark.parametrize(("n", "fraction", "held_out"), [(100, 0.05, 5), (10, 0.5, 5), (9, 0.5, 4)])
def test_split_is_a_partition(n: int, fraction: float, held_out: int) -> None:
    train, validation = train_validation_split(n, fraction, seed=0, outer_step=2)
    assert len(validation) == held_out
    assert torch.cat([train, validation]).sort().values.equal(torch.arange(n))


def test_split_depends_on_seed_and_outer_step_only() -> None:
    first = train_validation_split(100, 0.1, seed=0, outer_step=0)
    torch.manual_seed(1)
    again = train_validation_split(100, 0.1, seed=0, outer_step=0)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    for seed, outer_step in ((1, 0), (0, 1)):
        other = train_validation_split(100, 0.1, seed=seed, outer_step=outer_step)
        assert not other[1].equal(first[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan"), 0.001, 0.999])
def test_split_refuses(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"fraction {fraction} "):
        train_validation_split(20, fraction, seed=0, outer_step=0)
