"""The images of a configuration, and what is said of them before a run begins."""

import os
import sys
import warnings
from pathlib import Path

import torch

from hypergrad import data as datasets
from hypergrad.config.checks import ConfigError
from hypergrad.config.schema import RunConfig
from hypergrad.data import Dataset, Images
from hypergrad.data.catalogue import CATALOGUE

__all__ = ["check_batch", "load_data"]

FEW = 100  # test images: fewer tell an accuracy to more than 10 points


def load_data(config: RunConfig, *, stand_in: bool) -> tuple[Dataset, tuple[str, ...]]:
    """Return the images, and remarks on them, a line each.

    Args:
        config: The run's configuration.
        stand_in: As for `prepare`.

    Raises:
        ConfigError: For a folder of data that is not there.
        DataError: If the data is missing or broken.
    """
    _check_folders(config)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        data = _loaded(config, stand_in)
    said = [str(warning.message) for warning in caught]
    if config.data.name == "imagefolder" and len(data.test) < FEW:
        points = 98 / len(data.test) ** 0.5  # half of a 95 % interval around a half
        said.append(
            f"{len(data.test)} test images tell an accuracy to ±{points:.0f} points at best"
        )
    return data, tuple(said)


def check_batch(config: RunConfig, images: int) -> None:
    """Refuse minibatches larger than what is left beside the validation images.

    Args:
        config: The run's configuration.
        images: Training images, before the validation split.

    Raises:
        ConfigError: If there is no inner step; the text names a batch size with some.
    """
    improves = config.driver == "improve"
    fraction = (config.improve if improves else config.method).validation_fraction
    kept, size = images - max(1, round(images * fraction)), config.method.batch_size
    if size <= kept:
        return
    fits = 1 << max(0, (kept // 8).bit_length() - 1)  # some steps an epoch
    raise ConfigError(
        f"method.batch_size={size}: of {images} training images {kept} are left beside the "
        f"validation images, less than one minibatch: method.batch_size={fits}, or more images"
    )


def _check_folders(config: RunConfig) -> None:
    """Refuse folders of data that are not there: a name mistyped, not a place to download to."""
    named = {"data.root": config.data.root}
    if config.data.root is None and config.data.name not in ("digits", "imagefolder"):
        named["HYPERGRAD_DATA"] = os.environ.get("HYPERGRAD_DATA")
    for key, folder in named.items():
        if folder and not Path(folder).expanduser().is_dir():
            raise ConfigError(
                f"{key}={folder}: no such folder; make it if data is to be downloaded there"
            )


def _loaded(config: RunConfig, stand_in: bool) -> Dataset:
    settings = config.data
    try:
        return datasets.load(
            settings.name,
            root=None if settings.root is None else Path(settings.root).expanduser(),
            path=None if settings.path is None else Path(settings.path).expanduser(),
            train_size=settings.train_size,
            test_size=settings.test_size,
            image_size=settings.image_size,
            download=not stand_in,
            seed=0,
        )
    except datasets.DataError:
        if not stand_in or settings.name not in CATALOGUE:
            raise
    entry = CATALOGUE[settings.name]
    channels, *sides = entry.shape
    if settings.image_size is not None:
        sides = [settings.image_size] * 2

    def blank(count: int) -> Images:
        # One image, seen `count` times: no memory.
        images = torch.zeros(1, channels, *sides).expand(count, channels, *sides)
        return Images(images, torch.zeros(count, dtype=torch.int64))

    print(f"{entry.name} is not here yet: sizes from the catalogue", file=sys.stderr)
    train, test = settings.train_size or entry.n_train, settings.test_size or entry.n_test
    return Dataset(entry.name, blank(train), blank(test), entry.classes)
