"""Decoding many small image files into one tensor."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hypergrad.data.catalogue import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["decode"]

_CHUNK = 64  # files in one task of the thread pool
_SMALL = 128 * 128  # pixels
_MIXED_SIZE = 32  # pixels, for images of different sizes


class _SizesDifferError(Exception):
    """An image is not of the first one's size."""


def decode(files: Sequence[str], image_size: int | None) -> Tensor:
    """Decode image files as RGB of one size.

    Args:
        files: What to decode, at least one.
        image_size: Height and width in pixels; `None` keeps the size that all images share, or
            takes 32 if they differ.

    Returns:
        `(n, 3, h, w)`, uint8.

    Raises:
        DataError: If a file cannot be read.
    """
    with _opened(files[0]) as first:
        width, height = first.size
    # Threads hinder each other over small images: Pillow then spends its time in Python.
    workers = 1 if width * height <= _SMALL else min(8, os.cpu_count() or 1)
    if image_size is not None:
        return _decode_all(files, (image_size, image_size), workers, resize=True)
    try:
        return _decode_all(files, (height, width), workers, resize=False)
    except _SizesDifferError:
        return _decode_all(files, (_MIXED_SIZE, _MIXED_SIZE), workers, resize=True)


def _decode_all(
    files: Sequence[str], size: tuple[int, int], workers: int, *, resize: bool
) -> Tensor:
    pixels = torch.empty(len(files), 3, *size, dtype=torch.uint8)

    def fill(start: int) -> None:
        chunk = files[start : start + _CHUNK]
        for i, image in enumerate(map(_decode_one, chunk)):
            if image.shape[-2:] != size:
                if not resize:
                    raise _SizesDifferError
                image = _resized(image, size)
            pixels[start + i] = image

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(fill, range(0, len(files), _CHUNK)):
            pass
    return pixels


def _decode_one(file: str) -> Tensor:
    import numpy as np

    with _opened(file) as image:
        if image.mode.startswith("I") or image.mode == "F":
            raise DataError(f"{file} has more than 8 bits a channel: save it with 8")
        try:
            rgb = image if image.mode == "RGB" else image.convert("RGB")
            return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(file, error) from error


def _opened(file: str) -> "Image.Image":
    from PIL import Image

    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: Exception) -> DataError:
    return DataError(f"cannot read the image {file} ({error}): replace or remove it")


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    import numpy as np
    from PIL import Image

    height, width = size
    full = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    small = full.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)
