"""A picture out of whatever holds one: 8-bit RGB pixels, upright, or one clear error."""

from __future__ import annotations

import base64
import binascii
import io
import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from embedrt.errors import DependencyError, PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Picture: TypeAlias = "Image | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[np.uint8] | str"
"""A Pillow image, a path, a file's bytes, pixels (H, W, 3) of 8 bits, or a data URI; as a string also a path, where a
picture is asked for."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "ICO", "JPEG2000")
"""Those that Pillow decodes by itself, where it was built with them; others start programs (EPS) or have no pixels."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif",
            ".ico", ".jp2")  # fmt: skip
"""Of files that are taken for pictures where a folder or a string may hold anything."""
MAX_PIXELS = 178_956_970
"""What Pillow takes for a decompression bomb: half a gigabyte of pixels."""

_DATA_URI = "data:image/"
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_picture(source: object, *, max_pixels: int = MAX_PIXELS) -> Image:
    """The first frame of a picture, RGB.

    Files are turned as their EXIF orientation says; a Pillow image is taken as it is, as sentence-transformers does.
    What is transparent lies on white, as in transformers' image processors; of 16 bits the upper 8 count.

    Args:
        source: see `Picture`.
        max_pixels: that a file may have; it is asked before they are decoded.

    Raises:
        PictureError: it is none, is damaged, or has too many pixels; the message says which.
        DependencyError: Pillow is not installed.
    """
    try:
        return _read(source, _pillow(), max_pixels)
    except PictureError as exc:
        if isinstance(source, os.PathLike) or (isinstance(source, str) and not source.startswith("data:")):
            raise PictureError(f"{os.fspath(source)} {exc.reason}") from exc.__cause__
        raise


def _read(source: object, pillow: Any, max_pixels: int) -> Image:
    try:
        if isinstance(source, pillow.Image):
            return _to_rgb(source, pillow)
        if isinstance(source, np.ndarray):
            return _from_array(source, pillow)
        with pillow.open(_stream(source), formats=_formats()) as image:
            if image.width * image.height > max_pixels:
                raise PictureError(
                    f"has {image.width} x {image.height} pixels, more than the {max_pixels:,} that are decoded"
                )
            image.load()
            return _to_rgb(_upright(image), pillow)
    except PictureError:
        raise
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as exc:
        raise PictureError(f"has more than the {max_pixels:,} pixels that are decoded: {exc}") from exc
    except pillow.UnidentifiedImageError as exc:
        raise PictureError(f"is no picture of a format that is read ({', '.join(FORMATS)})") from exc
    except Exception as exc:  # Pillow's decoders raise many kinds
        raise PictureError(f"cannot be read: {_reason(exc)}") from exc


def is_picture(value: object) -> bool:
    """Whether this is a picture and cannot be a text. A path in a string is no picture here, a data URI is one."""
    if isinstance(value, str):
        return value.startswith(_DATA_URI)
    if isinstance(value, (os.PathLike, bytes, bytearray, memoryview)):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim == 3
    return any(kind.__module__ == "PIL.Image" and kind.__name__ == "Image" for kind in type(value).__mro__)


def names_picture(text: str) -> bool:
    """Whether a string is the path of an existing file with a picture's suffix, as sentence-transformers asks it."""
    return text.lower().endswith(SUFFIXES) and len(text) < 4096 and "\0" not in text and Path(text).is_file()


def is_address(text: str) -> bool:
    """Whether a string is the address of a picture on the web; none is ever fetched."""
    return text.startswith(("http://", "https://")) and " " not in text and text.lower().endswith(SUFFIXES)


@cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow has."""
    pillow = _pillow()
    pillow.init()
    return tuple(name for name in FORMATS if name in pillow.OPEN)


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as exc:
        raise DependencyError("pictures need Pillow; pip install 'embedrt[image]'") from exc
    return PIL.Image


def _stream(source: object) -> Any:
    """What Pillow opens: a file, or bytes in memory."""
    if isinstance(source, str) and source.startswith("data:"):
        return io.BytesIO(_decode_uri(source))
    if isinstance(source, str) and is_address(source):
        raise PictureError("is an address, and addresses are never fetched; download it, and pass its bytes or path")
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if not path.is_file():
            raise PictureError("is no file")
        return path
    if isinstance(source, (bytes, bytearray, memoryview)):
        if not len(source):
            raise PictureError("has no bytes")
        return io.BytesIO(source)
    raise PictureError(
        f"must be a Pillow image, a path, bytes, a data URI or pixels (H, W, 3), not {type(source).__name__}"
    )


def _decode_uri(uri: str) -> bytes:
    """The bytes of a data URI (RFC 2397) in base64."""
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PictureError(f"the data URI must begin with {_DATA_URI}TYPE;base64, and then the picture in base64")
    try:
        data = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PictureError(f"the data URI is no valid base64: {exc}") from exc
    if not data:
        raise PictureError("the data URI is empty")
    return data


def _from_array(pixels: NDArray[Any], pillow: Any) -> Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise PictureError(
            f"pixels must be uint8 of the shape (H, W, 3), not {pixels.dtype} {pixels.shape}; for others make a Pillow "
            "image of them first"
        )
    image: Image = pillow.fromarray(np.ascontiguousarray(pixels))
    return image


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(image)


def _to_rgb(image: Image, pillow: Any) -> Image:
    if not image.width or not image.height:
        raise PictureError(f"has {image.width} x {image.height} pixels")
    if image.mode == "F":
        raise PictureError("holds floats, which have no black and white; convert it to 8 bits first")
    if image.mode in _SIXTEEN_BITS:
        return _upper_bits(image, pillow)
    if {"A", "a"} & set(image.getbands()) or image.info.get("transparency") is not None:
        opaque = image.convert("RGBA")
        white = pillow.new("RGBA", image.size, (255, 255, 255, 255))
        composed: Image = pillow.alpha_composite(white, opaque)
        return composed.convert("RGB")
    return image.convert("RGB")


def _upper_bits(image: Image, pillow: Any) -> Image:
    """Grey of 16 bits, of which Pillow's own conversion makes all over 255 white; of colours it reads the upper 8."""
    grey = np.asarray(image)
    if grey.min() < 0 or grey.max() > 0xFFFF:
        raise PictureError("holds numbers of more than 16 bits; convert it to 8 bits first")
    made: Image = pillow.fromarray((grey >> 8).astype(np.uint8))
    return made.convert("RGB")


def _reason(exc: Exception) -> str:
    text = str(exc).strip()
    return text if text else type(exc).__name__
