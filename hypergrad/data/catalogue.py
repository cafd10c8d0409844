"""The named data sets: what each holds, where it lies, and what is said when it is missing."""

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["CATALOGUE", "DataError", "Entry", "data_root"]

_DIGITS = tuple("0123456789")


class DataError(ValueError):
    """Data that is missing or broken; the message is one line that names the remedy."""


@dataclass(frozen=True)
class Entry:
    """What is known about a named data set before any of it is read.

    Args:
        name: As in `data=NAME`.
        title: For people.
        classes: The classes' names, in the order of the labels.
        shape: `(c, h, w)` of one image.
        n_train: Training images.
        n_test: Test images.
        mean: Per channel, over the whole training set, on the scale from 0 to 1; `None` where it
            is computed.
        std: As `mean`.
        origin: Where it comes from and on what terms.
        download: Bytes to fetch.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    n_train: int
    n_test: int
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    origin: str
    download: int = 0


CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry(
            "digits",
            "Handwritten digits, 8x8",
            _DIGITS,
            (1, 8, 8),
            1437,
            360,
            None,
            None,
            "UCI optical recognition of handwritten digits (CC BY 4.0), inside scikit-learn",
        ),
        Entry(
            "mnist",
            "MNIST handwritten digits, 28x28",
            _DIGITS,
            (1, 28, 28),
            60_000,
            10_000,
            (0.13066048,),
            (0.30810780,),
            "LeCun, Cortes and Burges, from NIST (CC BY-SA 3.0)",
            11_594_722,
        ),
        Entry(
            "svhn",
            "Street View House Numbers, cropped, 32x32",
            _DIGITS,
            (3, 32, 32),
            73_257,
            26_032,
            (0.4376821, 0.4437697, 0.47280442),
            (0.19803012, 0.20101562, 0.19703614),
            "Netzer et al. 2011, for non-commercial use only",
            246_316_178,
        ),
        Entry(
            "cifar10",
            "CIFAR-10 photographs, 32x32",
            tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
            (3, 32, 32),
            50_000,
            10_000,
            (0.49139968, 0.48215841, 0.44653091),
            (0.24703223, 0.24348513, 0.26158784),
            "Krizhevsky 2009, from the 80 million tiny images (no licence stated)",
            170_498_071,
        ),
    )
}


def data_root(root: Path | None = None) -> Path:
    """Return the folder that holds downloaded data sets.

    Args:
        root: The user's choice, which wins.

    Returns:
        `root`, else the environment variable `HYPERGRAD_DATA`, else the platform's cache folder.
    """
    if root is not None:
        return Path(root).expanduser()
    if chosen := os.environ.get("HYPERGRAD_DATA"):
        return Path(chosen).expanduser()
    return Path(platformdirs.user_cache_dir("hypergrad", appauthor=False)) / "data"
