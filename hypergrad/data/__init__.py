"""Real images on the compute device: named sources, subsets, splits and batches."""

from hypergrad.data.augment import Augmentation
from hypergrad.data.batches import Epoch, in_batches, in_even_batches
from hypergrad.data.images import Dataset, Images
from hypergrad.data.sources import (
    NAMES,
    DataError,
    Source,
    available,
    check,
    data_root,
    download,
    load,
)
from hypergrad.data.split import train_validation_split
from hypergrad.data.subset import balanced_subset

__all__ = [
    "NAMES",
    "Augmentation",
    "DataError",
    "Dataset",
    "Epoch",
    "Images",
    "Source",
    "available",
    "balanced_subset",
    "check",
    "data_root",
    "download",
    "in_batches",
    "in_even_batches",
    "load",
    "train_validation_split",
]
