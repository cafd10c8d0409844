"""Data on the compute device: named sets of images, splits, and batches of anything."""

from hypergrad.data.augment import Augmentation
from hypergrad.data.batches import (
    EVALUATION_BATCH,
    Epoch,
    Minibatches,
    in_batches,
    in_even_batches,
)
from hypergrad.data.images import Dataset, Images
from hypergrad.data.loading import (
    NAMES,
    DataError,
    Source,
    available,
    check,
    data_root,
    download,
    load,
)
from hypergrad.data.sources import (
    Batches,
    CachedBatches,
    DatasetBatches,
    MapDataset,
    TensorBatches,
    accumulated,
    as_batches,
    with_noise,
)
from hypergrad.data.splits import balanced_subset, train_validation_split

__all__ = [
    "EVALUATION_BATCH",
    "NAMES",
    "Augmentation",
    "Batches",
    "CachedBatches",
    "DataError",
    "Dataset",
    "DatasetBatches",
    "Epoch",
    "Images",
    "MapDataset",
    "Minibatches",
    "Source",
    "TensorBatches",
    "accumulated",
    "as_batches",
    "available",
    "balanced_subset",
    "check",
    "data_root",
    "download",
    "in_batches",
    "in_even_batches",
    "load",
    "train_validation_split",
    "with_noise",
]
