"""Data sets by name, as standardised tensors."""

import warnings
from pathlib import Path

import torch

from hypergrad.data.catalogue import CATALOGUE, DataError, data_root
from hypergrad.data.content_hash import content_hash
from hypergrad.data.digits import read_digits
from hypergrad.data.downloading import absent, download, not_mnist
from hypergrad.data.image_folder import read_folder
from hypergrad.data.images import Dataset, Images
from hypergrad.data.splits import balanced_subset
from hypergrad.data.standardise import Moments, Raw, moments, standardised
from hypergrad.data.torchvision_files import find_fault, find_foreign, read_torchvision
from hypergrad.data.verification import Source, available, check

__all__ = ["NAMES", "DataError", "Source", "available", "check", "data_root", "download", "load"]

NAMES = (*CATALOGUE, "imagefolder")


def load(
    name: str,
    *,
    root: Path | None = None,
    path: Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    image_size: int | None = None,
    download: bool = False,
    seed: int = 0,
) -> Dataset:
    """Load a data set onto the CPU, every channel standardised as over the training set.

    Mean and deviation are those of the whole training set before any resizing, so that subsets
    agree; for `imagefolder`, of the training images that were chosen.

    Args:
        name: One of `NAMES`.
        root: The data root; see `data_root`.
        path: The folder of `imagefolder`: it holds `{train,test}/<class>/<image>`.
        train_size: A class-balanced subset of so many training images; `None` takes all.
        test_size: As `train_size`, of the test images.
        image_size: Height and width in pixels to resize to; `None` keeps the size.
        download: Whether to fetch a set that is absent.
        seed: Which subset.

    Returns:
        Images as float32.

    Warns:
        UserWarning: If a folder of images holds what was not read, or not read as it is stored.

    Raises:
        DataError: If the data is absent, broken, or not what its name says.
        ValueError: If an argument is out of range.

    >>> load("digits", image_size=28, train_size=100).train.images.shape
    torch.Size([100, 1, 28, 28])
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(NAMES)}")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}: choose at least 1 pixel")
    if name == "imagefolder":
        if path is None:
            raise DataError("imagefolder needs a folder: path=FOLDER")
        train, test, classes, remarks = read_folder(
            path, train_size=train_size, test_size=test_size, image_size=image_size, seed=seed
        )
        if remarks:
            warnings.warn(f"imagefolder {path}: {remarks}", stacklevel=2)
        scale = moments(train.pixels)
    else:
        if path is not None:
            raise ValueError(f"path={path} is for imagefolder: use root=FOLDER for {name}")
        whole_train, whole_test = _read(name, data_root(root), fetch=download)
        scale = _moments_of(name, whole_train)
        train = _chosen(whole_train, train_size, seed, "train")
        test = _chosen(whole_test, test_size, seed, "test")
        classes = CATALOGUE[name].classes
    return Dataset(
        name,
        Images(standardised(train.pixels, scale, image_size), train.labels),
        Images(standardised(test.pixels, scale, image_size), test.labels),
        classes,
        origin=content_hash(*train, *test),
    )


def _read(name: str, root: Path, *, fetch: bool) -> tuple[Raw, Raw]:
    if name == "digits":
        return read_digits()
    if fetch:
        download(name, root)
    fault = find_fault(name, root, checksums=False)
    if fault is not None:
        raise absent(name, root, fault)
    sets = read_torchvision(name, root)
    if name == "mnist" and (foreign := find_foreign(root)) is not None:
        raise not_mnist(foreign)
    return sets


def _moments_of(name: str, train: Raw) -> Moments:
    entry = CATALOGUE[name]
    if entry.mean is None or entry.std is None:
        return moments(train.pixels)
    mean, std = (torch.tensor(given, dtype=torch.float64) for given in (entry.mean, entry.std))
    return Moments(255 * mean, 255 * std)


def _chosen(raw: Raw, size: int | None, seed: int, split: str) -> Raw:
    if size is None:
        return raw
    try:
        index = balanced_subset(raw.labels, size, seed)
    except ValueError as error:
        raise ValueError(f"{split}_size={size}: {error}") from error
    return Raw(raw.pixels[index], raw.labels[index])
