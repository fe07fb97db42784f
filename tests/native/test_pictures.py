"""Encoders of pictures on every instruction set: the interpreter's numbers, the twin's, the same bits in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec
from embedrt.errors import ExecutorError, UnsupportedByNativeError
from embedrt.executors import PatchBatch, TokenBatch
from embedrt.executors.library import NativeEncoder
from tests.encoders import make_pictures
from tests.interpreter import run_picture
from tests.native import door, specs
from tests.native.specs import PICTURES, SPECS
from tests.native.test_specs import close_as_rounded, widened
from tests.native.twin_encoder import Twin


def of_all(twin: Twin, pictures: NDArray[np.float32]) -> NDArray[np.floating]:
    return np.concatenate([twin.picture(picture) for picture in pictures])


@pytest.mark.parametrize("name", PICTURES)
def test_float32_weights_give_the_interpreters_numbers(isa: str, name: str) -> None:
    spec, tensors, pictures = PICTURES[name], specs.float_tensors(PICTURES[name]), make_pictures(PICTURES[name], 3)
    got = specs.load(spec, tensors, isa=isa).run(PatchBatch(pictures))
    exact = np.concatenate([run_picture(spec, tensors, picture) for picture in pictures])
    if isa in door.NARROW:
        rounded = of_all(Twin(spec, tensors, narrow=True, narrow_products=True), pictures)
        close_as_rounded(got, rounded, exact)
    else:
        np.testing.assert_allclose(got, exact, rtol=0, atol=3e-5 * np.abs(exact).max())


@pytest.mark.parametrize("name", PICTURES)
def test_int8_is_the_twins_but_for_roundings_that_flip(isa: str, name: str) -> None:
    spec, narrow = PICTURES[name], isa in door.NARROW
    tensors, pictures = specs.int8_tensors(spec), make_pictures(spec, 4)
    got = specs.load(spec, tensors, isa=isa).run(PatchBatch(pictures))
    wanted = of_all(Twin(spec, tensors, narrow, narrow_products=narrow), pictures)
    close_as_rounded(got, wanted, of_all(Twin(spec, widened(tensors)), pictures))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", PICTURES)
def test_the_bits_of_a_picture_do_not_depend_on_its_batch(isa: str, name: str, threads: int) -> None:
    spec, pictures = PICTURES[name], make_pictures(PICTURES[name], 5)
    encoder = specs.load(spec, specs.int8_tensors(spec), isa=isa, threads=threads)
    together = encoder.run(PatchBatch(pictures)).reshape(len(pictures), -1, spec.hidden_size)
    for k in range(len(pictures)):
        np.testing.assert_array_equal(encoder.run(PatchBatch(pictures[k : k + 1])), together[k])


@pytest.mark.parametrize("name", PICTURES)
def test_one_row_of_a_picture_is_that_of_all(isa: str, name: str) -> None:
    spec, batch = PICTURES[name], PatchBatch(make_pictures(PICTURES[name], 3))
    encoder = specs.load(spec, specs.int8_tensors(spec), isa=isa)
    every = encoder.run(batch).reshape(3, -1, spec.hidden_size)
    np.testing.assert_array_equal(encoder.run(batch, "first"), every[:, 0])
    np.testing.assert_array_equal(encoder.run(batch, "last"), every[:, -1])


def load(spec: EncoderSpec) -> NativeEncoder:
    return specs.load(spec, specs.float_tensors(spec), isa="auto")


def test_what_is_no_batch_of_this_encoder_is_refused(native_isas: dict[str, bool]) -> None:
    pictures, texts = load(PICTURES["clip"]), load(SPECS["clip"])
    ids = TokenBatch(np.array([1, 2], np.int32), np.array([0, 2], np.int32))
    with pytest.raises(ExecutorError, match="this encoder reads pictures, not tokens"):
        pictures.run(ids)
    for shape in [(2, 49, 191), (2, 48, 192), (49, 192)]:
        with pytest.raises(ExecutorError, match="does not read patches of the shape"):
            pictures.run(PatchBatch(np.zeros(shape, np.float32)))
    with pytest.raises(ExecutorError, match="does not read patches"):
        texts.run(PatchBatch(np.zeros((2, 49, 192), np.float32)))
    with pytest.raises(ExecutorError, match="1 picture or more"):
        pictures.run(PatchBatch(np.zeros((0, 49, 192), np.float32)))


def test_a_weight_of_another_shape_is_refused(native_isas: dict[str, bool]) -> None:
    spec = PICTURES["clip"]
    tensors = specs.float_tensors(spec)
    with pytest.raises(UnsupportedByNativeError, match=r"embeddings\.patch\.weight"):
        specs.load(spec, {**tensors, "embeddings.patch.weight": tensors["embeddings.patch.weight"][:-16]}, isa="auto")
    with pytest.raises(UnsupportedByNativeError, match=r"embeddings\.word"):
        specs.load(spec, {**tensors, "embeddings.word": tensors["embeddings.position"]}, isa="auto")
