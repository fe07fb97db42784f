"""Small pictures beside results."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from embedrt.pictures.reading import read_picture

if TYPE_CHECKING:
    from PIL.Image import Image


def thumbnail(path: Path, edge: int) -> Image:
    """The picture in a square of `edge` pixels, white where it is narrower.

    Raises:
        PictureError: it cannot be read.
    """
    import PIL.Image

    picture = read_picture(path)
    picture.thumbnail((edge, edge))
    out: Image = PIL.Image.new("RGB", (edge, edge), "white")
    out.paste(picture, ((edge - picture.width) // 2, (edge - picture.height) // 2))
    return out


def thumbnail_uri(path: Path, edge: int) -> str:
    """It as a data URI."""
    stream = io.BytesIO()
    thumbnail(path, edge).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
