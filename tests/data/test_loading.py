"""Loading by name: the embedded digits, the real MNIST, and what is said when data is missing."""

import shutil
from pathlib import Path

import pytest
import torch

from hypergrad.data import DataError, available, check, data_root, download, load
from hypergrad.data.digits import read_digits


def test_digits_are_split_once_and_balanced() -> None:
    data = load("digits")
    again = load("digits", seed=7)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert data.test.labels.bincount().tolist() == [36] * 10
    assert data.train.labels.bincount().min() >= 138
    assert data.train.images.equal(again.train.images)
    assert data.train.images.dtype == torch.float32
    # Standardised exactly; what is left is float32 rounding.
    assert abs(float(data.train.images.double().mean())) < 1e-6
    assert float(data.train.images.double().std(correction=0)) == pytest.approx(1, abs=1e-6)


def test_digits_hold_each_of_the_originals_once() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    ours = torch.cat([data.train.images, data.test.images]).flatten(1)
    original = torch.as_tensor(load_digits(return_X_y=True)[0])
    # Standardising is linear, and the pixels run from 0 to 16.
    low, high = ours.double().min(), ours.double().max()
    pixels = ((ours.double() - low) * 16 / (high - low)).round().int()
    assert sorted(pixels.tolist()) == sorted(original.int().tolist())


def test_digits_are_the_same_without_scikit_learns_file(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_digits()
    monkeypatch.setattr("hypergrad.data.digits.find_spec", lambda name: None)
    for raw, again in zip(found, read_digits(), strict=True):
        assert torch.equal(raw.pixels, again.pixels)
        assert torch.equal(raw.labels, again.labels)


def test_digits_resize_bilinearly() -> None:
    small, large = load("digits", test_size=10), load("digits", test_size=10, image_size=16)
    assert large.shape == (1, 16, 16)
    # Doubling by bilinear interpolation puts a pixel at a quarter between two old ones.
    row = small.test.images[0, 0]
    between = 0.75 * row + 0.25 * row.roll(-1, 1)
    vertically = 0.75 * between + 0.25 * between.roll(-1, 0)
    assert torch.allclose(large.test.images[0, 0, 1:-1:2, 1:-1:2], vertically[:-1, :-1], atol=1e-5)


def test_subsets_of_a_source_agree_with_the_whole() -> None:
    whole, subset = load("digits"), load("digits", train_size=50, test_size=20, seed=1)
    assert subset.train.labels.bincount().tolist() == [5] * 10
    assert (len(subset.train), len(subset.test)) == (50, 20)
    rows = whole.train.images.flatten(1)
    for image in subset.train.images[:5].flatten(1):
        assert (rows == image).all(1).any()
    other = load("digits", train_size=50, seed=2)
    assert not other.train.images.equal(subset.train.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 1438}, r"train_size=1438: .* at most 1437"),
        ({"test_size": 9}, r"test_size=9: .* at least 10"),
        ({"image_size": 0}, r"image_size=0"),
        ({"path": Path("x")}, r"path=x is for imagefolder: use root=FOLDER"),
    ],
)
def test_load_refuses(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("digits", **options)  # pyright: ignore[reportArgumentType]


def test_unknown_names_are_refused() -> None:
    for use in (load, check, download):
        with pytest.raises(ValueError, match=r"'minst': choose one of .*mnist"):
            use("minst")


def test_real_mnist(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The data may lie where nothing can be written, so not even a lock may be tried.
    monkeypatch.setattr("hypergrad.data.downloading.FileLock", None)
    before = sorted(shared_data.rglob("*"))
    data = load("mnist", root=shared_data, download=True)
    assert (len(data.train), len(data.test), data.shape) == (60_000, 10_000, (1, 28, 28))
    assert data.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    # The catalogue's constants are those of the whole training set, to the digits given.
    assert abs(float(data.train.images.double().mean())) < 1e-6
    assert float(data.train.images.double().std(correction=0)) == pytest.approx(1, abs=1e-6)
    subset = load("mnist", root=shared_data, train_size=100, test_size=100, image_size=32)
    assert subset.shape == (1, 32, 32)
    assert subset.train.labels.bincount().tolist() == [10] * 10
    assert sorted(shared_data.rglob("*")) == before


def test_check_real_mnist(shared_data: Path) -> None:
    line = check("mnist", shared_data)
    assert "60,000 + 10,000 images of 1x28x28" in line
    assert "4 files" in line
    assert "\n" not in line


def test_check_finds_a_flipped_bit_and_a_cut_file(shared_data: Path, tmp_path: Path) -> None:
    shutil.copytree(shared_data / "MNIST", tmp_path / "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.parent.chmod(0o755)
    labels.chmod(0o644)
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-1] + b"\x03")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte does not have the checksum"):
        check("mnist", tmp_path)
    labels.write_bytes(whole[:-1] + b"\x63")
    with pytest.raises(DataError, match=r"broken \(labels outside 0 to 9\)"):
        load("mnist", root=tmp_path)
    labels.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is cut short"):
        check("mnist", tmp_path)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte is cut short"):
        load("mnist", root=tmp_path)


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10"])
def test_absent_data_is_one_line_with_the_remedies(name: str, tmp_path: Path) -> None:
    for use in (lambda: load(name, root=tmp_path), lambda: check(name, tmp_path)):
        with pytest.raises(DataError) as caught:
            use()
        message = str(caught.value)
        assert "\n" not in message
        for words in (name, str(tmp_path), f"hypergrad data download {name}", "use digits"):
            assert words in message
        assert "root=FOLDER" in message


def test_available_lists_what_is_there(shared_data: Path) -> None:
    states = {source.name: source.state for source in available(shared_data)}
    assert states["digits"] == "embedded"
    assert states["mnist"] == "present"
    assert set(states) == {"digits", "mnist", "svhn", "cifar10"}


def test_available_in_an_empty_root(tmp_path: Path) -> None:
    states = {source.name: source.state for source in available(tmp_path)}
    assert states == {
        "digits": "embedded", "mnist": "absent", "svhn": "absent", "cifar10": "absent",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_check_digits() -> None:
    assert check("digits").startswith("digits in scikit-learn: 1,437 + 360 images of 1x8x8")


def test_data_root_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_root().name == "data"
    monkeypatch.setenv("HYPERGRAD_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert data_root(tmp_path / "mine") == tmp_path / "mine"
