"""Decoding many small image files into one tensor: upright, and on white where they are clear."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from hypergrad.data.catalogue import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Decoded", "decode"]

_CHUNK = 64  # files in one task of the thread pool
_SMALL = 128 * 128  # pixels
_MIXED_SIZE = 32  # pixels, for images of different sizes
_MOST_PIXELS = 2**26  # of one image: a file of a few kB can unpack to gigabytes
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


class Decoded(NamedTuple):
    """Images, and how often their files hold more than the pixels say."""

    pixels: Tensor  # (n, 3, h, w) uint8
    remarks: Counter[str]  # by what was done


class _Image(NamedTuple):
    """One image."""

    pixels: Tensor  # (3, h, w) uint8
    remarks: tuple[str, ...]


class _SizesDifferError(Exception):
    """An image is not of the first one's size."""


def decode(files: Sequence[str], image_size: int | None) -> Decoded:
    """Decode image files as RGB of one size.

    An image is turned as its EXIF orientation says, then laid on white where it is transparent. Of
    a file with several pages or frames the first is read.

    Args:
        files: What to decode, at least one.
        image_size: Height and width in pixels; `None` keeps the size that all images share, or
            takes 32 if they differ.

    Returns:
        The images, and remarks on what was turned, laid on white or left out.

    Raises:
        DataError: If a file cannot be read, is too large or too deep, or shows nothing once it
            lies on white.
    """
    from PIL import Image

    with warnings.catch_warnings():
        # Of images that are too large, which `_decode_one` refuses.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return _decode(files, image_size)


def _decode(files: Sequence[str], image_size: int | None) -> Decoded:
    height, width = _decode_one(files[0]).pixels.shape[-2:]
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
) -> Decoded:
    pixels = torch.empty(len(files), 3, *size, dtype=torch.uint8)

    def fill(start: int) -> Counter[str]:
        chunk, remarks = files[start : start + _CHUNK], Counter()
        for i, (image, own) in enumerate(map(_decode_one, chunk)):
            remarks.update(own)
            if image.shape[-2:] != size:
                if not resize:
                    raise _SizesDifferError
                image = _resized(image, size)
            pixels[start + i] = image
        return remarks

    with ThreadPoolExecutor(workers) as pool:
        remarks = sum(pool.map(fill, range(0, len(files), _CHUNK)), Counter())
    return Decoded(pixels, remarks)


def _decode_one(file: str) -> _Image:
    import numpy as np
    from PIL import ImageOps

    remarks = []
    with _opened(file) as image:
        width, height = image.size
        if width * height > _MOST_PIXELS:
            raise DataError(
                f"{file} has {width:,}x{height:,} pixels, and {_MOST_PIXELS:,} in all is the most: "
                "make it smaller"
            )
        if image.mode.startswith("I") or image.mode == "F" or _is_deep(image):
            raise DataError(f"{file} has more than 8 bits a channel: save it with 8")
        try:
            if getattr(image, "n_frames", 1) > 1:
                remarks.append("with further pages or frames, only the first read")
            image.load()  # a PNG may have its EXIF behind its pixels
            upright: Image.Image = image
            if image.getexif().get(_ORIENTATION, 1) != 1:
                remarks.append("turned as EXIF says")
                upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                upright, clear = _on_white(upright, file)
                if clear:
                    remarks.append("with transparency, laid on white")
            rgb = upright if upright.mode == "RGB" else upright.convert("RGB")
            pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)
        except DataError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(file, error) from error
    return _Image(pixels, tuple(remarks))


def _is_deep(image: "Image.Image") -> bool:
    """Whether the file has 16 bits a channel, of which Pillow would keep 8."""
    return any("16" in str(tile[3]) for tile in getattr(image, "tile", ()) if len(tile) > 3)


def _on_white(image: "Image.Image", file: str) -> "tuple[Image.Image, bool]":
    """Lay an image on white; say whether any of it was transparent."""
    from PIL import Image

    layer = image.convert("RGBA")
    lowest, highest = layer.getchannel("A").getextrema()
    if lowest == 255:
        return layer.convert("RGB"), False
    white = Image.new("RGBA", layer.size, "white")
    flat = Image.alpha_composite(white, layer).convert("RGB")
    if lowest != highest and flat.getextrema() == ((255, 255),) * 3:
        raise DataError(
            f"{file} is white where it is not transparent, and shows nothing on white, where "
            "transparent images are laid: save it on a background of its own"
        )
    return flat, True


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
