"""From the pixels of a picture to the patches that an encoder reads, as transformers' image processors on Pillow do it.

Resized by Pillow on 8-bit pixels, cut out of the middle, then every value v of channel c becomes
(float32(v * scale) - mean[c]) / std[c]: 256 numbers for each channel, which are looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS = 3
_FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Name of a filter -> Pillow's number of it."""
MAX_RESIZED_PIXELS = 1 << 25
"""Of a picture whose shorter edge is brought to the model's: one of 1 x 100,000 pixels would be 100,000 times as long
as it is wide, and only its middle is looked at."""


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become numbers; the fields of transformers' preprocessor_config.json that change any."""

    shortest_edge: int | None  # pixels that it is brought to, the other edge in proportion, rounded down
    resized: tuple[int, ...] | None  # (height, width) that it is brought to instead; neither: it is not resized
    resample: Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
    height: int  # pixels that are cut out of the middle, filled up with black where there are fewer
    width: int
    scale: float  # of a pixel's 0 to 255
    mean: tuple[float, ...]  # of red, green and blue
    std: tuple[float, ...]


def resized_size(width: int, height: int, settings: Preprocessing) -> tuple[int, int]:
    """Width and height to which a picture is resized, as transformers' `get_resize_output_image_size` rounds."""
    if settings.resized is not None:
        return settings.resized[1], settings.resized[0]
    edge = settings.shortest_edge
    if edge is None:
        return width, height
    if width <= height:
        return edge, int(edge * height / width)
    return int(edge * width / height), edge


def preprocess(image: Image, settings: Preprocessing) -> NDArray[np.uint8]:
    """The pixels (height, width, 3) of an RGB picture that the encoder sees.

    Raises:
        PictureError: it is so much longer than wide that resizing it would take too much memory.
    """
    size = resized_size(*image.size, settings)
    if size[0] * size[1] > MAX_RESIZED_PIXELS:
        raise PictureError(
            f"has {image.width} x {image.height} pixels, and would have {size[0]} x {size[1]} with its shorter edge as "
            "the model takes it; cut it to a part that is less narrow"
        )
    pixels = np.asarray(image.resize(size, _FILTERS[settings.resample]) if size != image.size else image)
    return _centre(pixels, settings.height, settings.width)


def to_patches(pixels: NDArray[np.uint8], patch: int, settings: Preprocessing) -> NDArray[np.float32]:
    """Patches (N, 3 * patch * patch) of pixels (height, width, 3), row by row of the picture.

    A patch's numbers are those of red, then of green, then of blue, each row by row, as a convolution's weight
    (H, 3, patch, patch) has them.
    """
    rows, columns = pixels.shape[0] // patch, pixels.shape[1] // patch
    whole = pixels[: rows * patch, : columns * patch].reshape(rows, patch, columns, patch, CHANNELS)
    out = np.empty((rows, columns, CHANNELS, patch, patch), np.float32)
    for channel, values in enumerate(_values(settings)):
        out[:, :, channel] = values[whole[..., channel].transpose(0, 2, 1, 3)]
    return out.reshape(rows * columns, CHANNELS * patch * patch)


@cache
def _values(settings: Preprocessing) -> NDArray[np.float32]:
    """What each of a pixel's 256 values becomes, by channel (3, 256); in the order and the types of transformers'."""
    scaled = (np.arange(256, dtype=np.float64) * settings.scale).astype(np.float32)
    mean, std = (np.array(part, np.float32)[:, None] for part in (settings.mean, settings.std))
    return np.asarray((scaled - mean) / std, np.float32)


def _centre(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle, black around it where there is less; rounded as transformers' `center_crop` does."""
    have_height, have_width = pixels.shape[:2]
    if (have_height, have_width) == (height, width):
        return pixels
    if have_height >= height and have_width >= width:
        top, left = (have_height - height) // 2, (have_width - width) // 2
        return pixels[top : top + height, left : left + width]
    out = np.zeros((height, width, CHANNELS), np.uint8)
    to_rows, from_rows = _overlap(have_height, height)
    to_columns, from_columns = _overlap(have_width, width)
    out[to_rows, to_columns] = pixels[from_rows, from_columns]
    return out


def _overlap(have: int, want: int) -> tuple[slice, slice]:
    """Where the middle of `have` pixels lies in `want`, and which of them it is."""
    padding = -(-(max(have, want) - have) // 2)  # before them
    start = (have - want) // 2 + padding  # of what is wanted, in what is padded
    first = padding - start
    return slice(max(first, 0), min(first + have, want)), slice(max(-first, 0), min(want - first, have))
