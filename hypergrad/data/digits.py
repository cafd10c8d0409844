"""Scikit-learn's handwritten digits: real data inside the package, with no download."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from hypergrad.data.splits import balanced_subset
from hypergrad.data.standardise import Raw

__all__ = ["read_digits"]

_N_TEST = 360  # 36 of each class
_SPLIT_SEED = 0  # the split is fixed, so that every run is tested on the same images


def read_digits() -> tuple[Raw, Raw]:
    """Read the 1,797 digits and divide them, once and for all, into 1,437 and 360.

    Returns:
        Training and test set; pixels from 0 to 16.
    """
    table = torch.as_tensor(_table())
    pixels = table[:, :-1].to(torch.uint8).view(-1, 1, 8, 8)
    labels = table[:, -1].long()
    test = balanced_subset(labels, _N_TEST, _SPLIT_SEED)
    is_train = torch.ones(len(labels), dtype=torch.bool)
    is_train[test] = False
    return Raw(pixels[is_train], labels[is_train]), Raw(pixels[test], labels[test])


def _table() -> np.ndarray:
    """Return `(1797, 65)`: 64 pixels and a label a row."""
    # The file alone: to import scikit-learn takes a third of the time that a small run needs to
    # begin. Where it lies is not promised to anyone, so the import is there as well.
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return np.column_stack([data, target])
