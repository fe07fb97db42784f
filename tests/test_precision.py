from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from embedrt.errors import OptionError
from embedrt.precision import PRECISIONS, quantize


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(17, 32)).astype(np.float32)


def test_float32_is_left_alone(vectors: np.ndarray, reference: np.ndarray) -> None:
    assert quantize(vectors, "float32", reference) is vectors


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_packed_as_sentence_transformers_packs_them(
    precision: str, vectors: np.ndarray, reference: np.ndarray
) -> None:
    got = quantize(vectors, precision, reference)
    expected = quantize_embeddings(vectors, precision)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_codes_are_within_one_of_sentence_transformers(
    precision: str, vectors: np.ndarray, reference: np.ndarray
) -> None:
    low, high = reference.min(axis=0), reference.max(axis=0)
    inside = np.clip(vectors, low, high)  # sentence-transformers lets what lies outside wrap around
    got = quantize(inside, precision, reference)
    expected = quantize_embeddings(inside, precision, ranges=np.stack([low, high]))
    assert got.dtype == expected.dtype
    # Ours rounds, theirs cuts off.
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("precision", "offset"), [("int8", 128), ("uint8", 0)])
def test_codes_give_the_vector_back_to_half_a_step(
    precision: str, offset: int, vectors: np.ndarray, reference: np.ndarray
) -> None:
    low, high = reference.min(axis=0), reference.max(axis=0)
    inside = np.clip(vectors, low, high)
    step = (high - low) / 255
    back = (quantize(inside, precision, reference).astype(np.float32) + offset) * step + low
    assert (np.abs(back - inside) <= step * 0.501).all()


def test_ends_of_the_range_and_beyond() -> None:
    reference = np.array([[-1.0], [1.0]], np.float32)
    vectors = np.array([[-9.0], [-1.0], [1.0], [9.0]], np.float32)
    assert quantize(vectors, "uint8", reference).ravel().tolist() == [0, 0, 255, 255]
    assert quantize(vectors, "int8", reference).ravel().tolist() == [-128, -128, 127, 127]


def test_a_dimension_without_a_range_gives_the_ends() -> None:
    reference = np.full((5, 2), 0.5, np.float32)
    got = quantize(np.array([[0.5, 0.7], [0.4, 0.5]], np.float32), "uint8", reference)
    assert got.tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_has_one_code_whatever_else_is_in_the_call(
    precision: str, vectors: np.ndarray, reference: np.ndarray
) -> None:
    together = quantize(vectors, precision, reference)
    alone = np.concatenate([quantize(row[None], precision, reference) for row in vectors])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(("precision", "width"), [("int8", 32), ("uint8", 32), ("binary", 4), ("ubinary", 4)])
def test_no_vectors(precision: str, width: int, reference: np.ndarray) -> None:
    assert quantize(np.empty((0, 32), np.float32), precision, reference).shape == (0, width)


def test_zero_counts_as_negative_in_binary(reference: np.ndarray) -> None:
    assert quantize(np.zeros((1, 8), np.float32), "ubinary", reference).tolist() == [[0]]


def test_an_unknown_precision(vectors: np.ndarray, reference: np.ndarray) -> None:
    with pytest.raises(OptionError, match="precision must be one of float32, int8"):
        quantize(vectors, "float16", reference)
