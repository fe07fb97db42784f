"""What is read of files of every kind, and what is said of those that are not read."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from transformers.image_transforms import convert_to_rgb

from embedrt.errors import DependencyError, PictureError
from embedrt.pictures.generated import generated_pictures
from embedrt.pictures.reading import is_address, is_picture, names_picture, read_picture

PIXELS = generated_pictures(1, seed=3)[0]
PICTURE = Image.fromarray(PIXELS)
ALPHA = np.random.default_rng(0).integers(0, 256, PIXELS.shape[:2], dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_alpha(mode: str) -> Image.Image:
    image = PICTURE.convert(mode.removesuffix("A") or "L").convert(mode)
    image.putalpha(Image.fromarray(ALPHA))
    return image


FILES = {
    "png": encoded(PICTURE, "PNG"),
    "jpeg": encoded(PICTURE, "JPEG", quality=90),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "cmyk": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "ycck": encoded(PICTURE.convert("YCbCr"), "JPEG"),
    "grey": encoded(PICTURE.convert("L"), "PNG"),
    "black and white": encoded(PICTURE.convert("1"), "PNG"),
    "palette": encoded(PICTURE.convert("P"), "PNG"),
    "palette with transparency": encoded(PICTURE.convert("P"), "PNG", transparency=3),
    "palette with alphas": encoded(PICTURE.convert("P"), "PNG", transparency=bytes(range(256))),
    "colour that is transparent": encoded(PICTURE, "PNG", transparency=tuple(int(v) for v in PIXELS[0, 0])),
    "rgba": encoded(with_alpha("RGBA"), "PNG"),
    "la": encoded(with_alpha("LA"), "PNG"),
    "webp": encoded(PICTURE, "WEBP", lossless=True),
    "gif": encoded(PICTURE, "GIF"),
    "bmp": encoded(PICTURE, "BMP"),
    "tiff": encoded(PICTURE, "TIFF"),
    "avif": encoded(PICTURE, "AVIF"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_has_the_pixels_that_transformers_processor_sees(kind: str) -> None:
    opened = ImageOps.exif_transpose(Image.open(io.BytesIO(FILES[kind])))
    want = convert_to_rgb(opened, return_numpy=True)
    got = read_picture(FILES[kind])
    assert got.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(got), want)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    path.write_bytes(encoded(PICTURE, "JPEG", exif=exif))
    want = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(np.asarray(read_picture(path)), want)
    if orientation == 6:  # 0th row is on the right: the camera was held upright
        assert read_picture(path).size == PICTURE.size[::-1]
    # A Pillow image is its owner's to turn.
    np.testing.assert_array_equal(np.asarray(read_picture(Image.open(path))), np.asarray(Image.open(path)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bits_the_upper_8_count(kind: str) -> None:
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    image = Image.fromarray(grey)
    got = np.asarray(read_picture(encoded(image, kind)))
    np.testing.assert_array_equal(got, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "green", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(np.asarray(read_picture(data))[5, 5], [255, 0, 0])


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(FILES["png"])
    uri = "data:image/png;base64," + base64.b64encode(FILES["png"]).decode()
    data = FILES["png"]
    for source in (path, str(path), data, bytearray(data), memoryview(data), uri, PICTURE, PIXELS):
        np.testing.assert_array_equal(np.asarray(read_picture(source)), PIXELS)


BAD: dict[str, tuple[object, str]] = {
    "no picture": (b"hello, I am a text", "is no picture of a format that is read"),
    "nothing": (b"", "has no bytes"),
    "truncated": (FILES["jpeg"][: len(FILES["jpeg"]) // 2], "cannot be read: .*truncated"),
    "truncated png": (FILES["png"][: len(FILES["png"]) // 2], "cannot be read"),
    "header alone": (FILES["jpeg"][:30], "is no picture|cannot be read"),
    "damaged png": (FILES["png"][:200] + b"\0" * 500 + FILES["png"][700:], "cannot be read"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture of a format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "is no picture of a format"),
    "floats": (encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "holds floats"),
    "missing": (Path("/nowhere/at/all.png"), "/nowhere/at/all.png is no file"),
    "address": ("https://example.org/cat.jpg", "addresses are never fetched"),
    "data": ("data:image/png;base64,****", "no valid base64"),
    "data without base64": ("data:image/svg+xml,<svg/>", "must begin with data:image/TYPE;base64"),
    "empty data": ("data:image/png;base64,", "the data URI is empty"),
    "float pixels": (np.zeros((4, 4, 3)), r"must be uint8 of the shape \(H, W, 3\), not float64 \(4, 4, 3\)"),
    "grey pixels": (np.zeros((4, 4, 1), np.uint8), r"not uint8 \(4, 4, 1\)"),
    "no pixels": (np.zeros((0, 4, 3), np.uint8), r"not uint8 \(0, 4, 3\)"),
    "number": (17, "not int"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_said_of_no_picture(kind: str) -> None:
    source, message = BAD[kind]
    with pytest.raises(PictureError, match=message):
        read_picture(source)


def test_a_files_name_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(FILES["png"][:200])
    for source in (path, str(path)):
        with pytest.raises(PictureError, match=rf"^{path} cannot be read: "):
            read_picture(source)
    path.write_bytes(FILES["png"])
    with pytest.raises(PictureError, match=rf"^{path} has 320 x 240 pixels"):
        read_picture(path, max_pixels=10)


def test_a_bomb_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few bytes says that it has 60,000 x 60,000 pixels."""
    data = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    data[18:26] = (60_000).to_bytes(4, "little") * 2
    with pytest.raises(PictureError, match="has more than the 178,956,970 pixels"):
        read_picture(bytes(data))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(PictureError, match=r"has 320 x 240 pixels, more than the 76,799 that are decoded"):
        read_picture(FILES["jpeg"], max_pixels=320 * 240 - 1)


def test_what_is_a_picture_without_being_asked_for_one(tmp_path: Path) -> None:
    path = tmp_path / "A.PNG"
    path.write_bytes(FILES["png"])
    for yes in (PICTURE, PIXELS, FILES["png"], path, "data:image/png;base64,AAAA"):
        assert is_picture(yes)
    for no in ("a text", str(path), np.array(["a", "b"]), 3, None, ["x"]):
        assert not is_picture(no)
    assert names_picture(str(path))
    assert not names_picture(str(path.with_name("B.png")))
    assert not names_picture("\0.png")
    assert is_address("https://example.org/a.png")
    assert not is_address("see https://example.org/a.png")


def test_without_pillow_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from embedrt.pictures.reading import read_picture\n"
        "from embedrt import DependencyError\n"
        "try: read_picture(b'x')\n"
        "except DependencyError as exc: print(exc)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "pictures need Pillow; pip install 'embedrt[image]'"
    assert issubclass(DependencyError, ImportError)
