"""SVHN and CIFAR-10 from small files in the originals' layouts."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
import torchvision

from hypergrad.data import DataError, check, download, load


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {}
    for split, n in (("train", 20), ("test", 10)):
        file = tmp_path / f"{split}_32x32.mat"
        pixels = np.zeros((32, 32, 3, n), dtype=np.uint8)
        pixels[0, 1, 2] = np.arange(n)  # row 0, column 1, blue
        labels = np.arange(n, dtype=np.uint8)[:, None] % 10 + 1  # 10 stands for the digit 0
        scipy.io.savemat(file, {"X": pixels, "y": labels})
        files[split] = ["http://127.0.0.1:9/" + file.name, file.name, md5(file)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", files)
    return tmp_path


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kind = torchvision.datasets.CIFAR10
    folder = tmp_path / kind.base_folder
    folder.mkdir()
    lists = {}
    for split, names in (("train_list", ["data_batch_1", "data_batch_2"]), ("test_list", ["test"])):
        lists[split] = []
        for name in names:
            pixels = np.zeros((10, 3072), dtype=np.uint8)
            pixels[:, 2 * 1024 + 1] = np.arange(10)  # channels, then rows: blue, row 0, column 1
            entry = {"data": pixels, "labels": list(range(10))}
            (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
            lists[split].append([name, md5(folder / name)])
        monkeypatch.setattr(kind, split, lists[split])
    meta = folder / "batches.meta"
    meta.write_bytes(pickle.dumps({"label_names": ["x"] * 10}, protocol=2))
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(meta)})
    return tmp_path


def undone(images: torch.Tensor, mean: float, std: float) -> list[int]:
    """The blue pixels of row 0, column 1 as they were stored."""
    return ((images[:, 2, 0, 1] * std + mean) * 255).round().int().tolist()


def test_svhn(svhn: Path) -> None:
    data = load("svhn", root=svhn)
    assert (len(data.train), len(data.test), data.shape) == (20, 10, (3, 32, 32))
    assert data.test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert undone(data.train.images, 0.47280442, 0.19703614) == list(range(20))


def test_cifar10(cifar: Path) -> None:
    data = load("cifar10", root=cifar)
    assert (len(data.train), len(data.test), data.shape) == (20, 10, (3, 32, 32))
    assert data.test.labels.tolist() == list(range(10))
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert undone(data.test.images, 0.44653091, 0.26158784) == list(range(10))


@pytest.mark.parametrize("name", ["svhn", "cifar10"])
def test_whole_files_pass_checksums_but_not_counts(
    name: str, request: pytest.FixtureRequest
) -> None:
    root = request.getfixturevalue("svhn" if name == "svhn" else "cifar")
    assert download(name, root) == root  # already whole: nothing is fetched
    with pytest.raises(DataError, match=rf"{name} in .* has 20 training images"):
        check(name, root)


def test_a_cut_svhn_is_named(svhn: Path) -> None:
    file = svhn / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="test_32x32.mat does not have the checksum"):
        check("svhn", svhn)
    with pytest.raises(DataError, match="svhn in .* is broken .*hypergrad data download svhn"):
        load("svhn", root=svhn)


def test_an_altered_cifar10_is_never_unpickled(
    cifar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = cifar / "cifar-10-batches-py" / "data_batch_2"
    batch.write_bytes(batch.read_bytes() + b"x")

    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", never)
    with pytest.raises(DataError, match=r"cifar10 in .* is broken \(Dataset not found or corr"):
        load("cifar10", root=cifar)
    with pytest.raises(DataError, match="data_batch_2 does not have the checksum"):
        check("cifar10", cifar)


def test_a_broken_pair_of_packages_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    genuine = builtins.__import__

    def broken(name: str, *args: object, **options: object) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return genuine(name, *args, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(builtins, "__import__", broken)
    with pytest.raises(DataError, match=r"torchvision::nms.*pip install .*torch torchvision"):
        load("mnist", root=tmp_path)
    assert len(load("digits").test) == 360
