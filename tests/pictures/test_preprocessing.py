"""Against transformers' image processors on Pillow, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from embedrt.errors import PictureError
from embedrt.pictures.generated import generated_pictures
from embedrt.pictures.preprocessing import Preprocessing, preprocess, to_patches

CLIP = Preprocessing(
    shortest_edge=224, resized=None, resample="bicubic", height=224, width=224, scale=1 / 255,
    mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
)  # fmt: skip
SIGLIP = Preprocessing(None, (224, 224), "bilinear", 224, 224, 1 / 255, (0.5,) * 3, (0.5,) * 3)


def ours(image: Image.Image, settings: Preprocessing, patch: int) -> NDArray[np.float32]:
    """The patches, laid together to (3, H, W) again."""
    pixels = preprocess(image, settings)
    assert pixels.dtype == np.uint8
    rows, columns = settings.height // patch, settings.width // patch
    patches = to_patches(pixels, patch, settings).reshape(rows, columns, 3, patch, patch)
    return patches.transpose(2, 0, 3, 1, 4).reshape(3, rows * patch, columns * patch)


def theirs(processor: Any, image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(processor(image, return_tensors="np")["pixel_values"][0])


PICTURES = generated_pictures(12, seed=1)


@pytest.mark.parametrize("pixels", PICTURES, ids=[f"{p.shape[1]}x{p.shape[0]}" for p in PICTURES])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_numbers_are_those_of_transformers(pixels: NDArray[np.uint8], kind: str) -> None:
    image = Image.fromarray(pixels)
    if kind == "clip":
        want, got = theirs(CLIPImageProcessorPil(), image), ours(image, CLIP, 32)
    else:
        want, got = theirs(SiglipImageProcessorPil(resample=2), image), ours(image, SIGLIP, 16)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (224, 224), (223, 225), (225, 224), (500, 333), (1000, 77)])
def test_every_size_is_rounded_as_there(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(ours(image, CLIP, 32), theirs(CLIPImageProcessorPil(), image))


@pytest.mark.parametrize("resample", [0, 1, 2, 3, 4, 5])
def test_every_filter(resample: int) -> None:
    names = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
    settings = Preprocessing(36, None, names[resample], 32, 32, 1 / 255, CLIP.mean, CLIP.std)  # type: ignore[arg-type]
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}, resample=resample
    )
    image = Image.fromarray(PICTURES[0])
    np.testing.assert_array_equal(ours(image, settings, 16), theirs(processor, image))


@pytest.mark.parametrize("edge", [8, 9, 10, 15, 17, 31, 33])
@pytest.mark.parametrize("crop", [(16, 16), (15, 17), (32, 8)])
def test_what_is_smaller_than_the_crop_lies_on_black(edge: int, crop: tuple[int, int]) -> None:
    image = Image.fromarray(PICTURES[2])
    settings = Preprocessing(edge, None, "bicubic", *crop, 1 / 255, CLIP.mean, CLIP.std)
    processor = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": crop[0], "width": crop[1]})
    np.testing.assert_array_equal(ours(image, settings, 1), theirs(processor, image))


def test_a_picture_that_would_become_a_thread_is_refused() -> None:
    image = Image.new("RGB", (1, 40_000))
    with pytest.raises(PictureError, match=r"1 x 40000 pixels, and would have 224 x 8960000"):
        preprocess(image, CLIP)
