from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers.util import quantize_embeddings

from embedrt.errors import OptionError
from embedrt.precision import CODE_WIDTH, PRECISIONS, CodeRanges, code_ranges, quantize


@pytest.fixture(scope="module")
def ranges() -> CodeRanges:
    return code_ranges(np.random.default_rng(0).normal(size=(200, 32)).astype(np.float32), None)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(17, 32)).astype(np.float32)


def test_float32_is_left_alone(vectors: np.ndarray, ranges: CodeRanges) -> None:
    assert quantize(vectors, "float32", ranges) is vectors


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_packed_as_sentence_transformers_packs_them(
    precision: str, vectors: np.ndarray, ranges: CodeRanges
) -> None:
    got = quantize(vectors, precision, ranges)
    expected = quantize_embeddings(vectors, precision)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_codes_are_within_one_of_sentence_transformers(precision: str, vectors: np.ndarray, ranges: CodeRanges) -> None:
    low, high = ranges
    inside = np.clip(vectors, low, high)  # sentence-transformers lets what lies outside wrap around
    got = quantize(inside, precision, ranges)
    expected = quantize_embeddings(inside, precision, ranges=np.stack([low, high]))
    assert got.dtype == expected.dtype
    # Ours rounds, theirs cuts off.
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize(("precision", "offset"), [("int8", 128), ("uint8", 0)])
def test_codes_give_the_vector_back_to_half_a_step(
    precision: str, offset: int, vectors: np.ndarray, ranges: CodeRanges
) -> None:
    low, high = ranges
    inside = np.clip(vectors, low, high)
    step = (high - low) / 255
    back = (quantize(inside, precision, ranges).astype(np.float32) + offset) * step + low
    assert (np.abs(back - inside) <= step * 0.501).all()


def test_ranges_of_a_width() -> None:
    """Of so many deviations about the mean, however far the reference reaches."""
    reference = np.array([[1.0, -4.0], [3.0, -2.0], [2.0, 0.0]], np.float32)
    low, high = code_ranges(reference, 3.0)
    std = np.sqrt([2 / 3, 8 / 3])
    np.testing.assert_allclose(low, [2, -2] - 3 * std, rtol=1e-6)
    np.testing.assert_allclose(high, [2, -2] + 3 * std, rtol=1e-6)
    assert low.dtype == high.dtype == np.float32


def test_codes_of_texts_beyond_the_reference_err_less_with_a_width() -> None:
    """A few hundred vectors do not span what others are, and an error by clipping is many steps."""
    drawn = np.random.default_rng(2).standard_t(6, size=(2000, 16)).astype(np.float32)
    errors = []
    for width in (None, CODE_WIDTH):
        low, high = found = code_ranges(drawn[:200], width)
        back = quantize(drawn, "uint8", found) * ((high - low) / 255) + low
        errors.append(float(np.square(back - drawn).mean()))
    assert errors[1] < errors[0] / 2


def test_ends_of_the_range_and_beyond() -> None:
    ranges = code_ranges(np.array([[-1.0], [1.0]], np.float32), None)
    vectors = np.array([[-9.0], [-1.0], [1.0], [9.0]], np.float32)
    assert quantize(vectors, "uint8", ranges).ravel().tolist() == [0, 0, 255, 255]
    assert quantize(vectors, "int8", ranges).ravel().tolist() == [-128, -128, 127, 127]


@pytest.mark.parametrize("width", [None, CODE_WIDTH])
def test_a_dimension_without_a_range_gives_the_ends(width: float | None) -> None:
    ranges = code_ranges(np.full((5, 2), 0.5, np.float32), width)
    got = quantize(np.array([[0.5, 0.7], [0.4, 0.5]], np.float32), "uint8", ranges)
    assert got.tolist() == [[0, 255], [0, 0]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_has_one_code_whatever_else_is_in_the_call(
    precision: str, vectors: np.ndarray, ranges: CodeRanges
) -> None:
    together = quantize(vectors, precision, ranges)
    alone = np.concatenate([quantize(row[None], precision, ranges) for row in vectors])
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize(("precision", "width"), [("int8", 32), ("uint8", 32), ("binary", 4), ("ubinary", 4)])
def test_no_vectors(precision: str, width: int, ranges: CodeRanges) -> None:
    assert quantize(np.empty((0, 32), np.float32), precision, ranges).shape == (0, width)


def test_zero_counts_as_negative_in_binary(ranges: CodeRanges) -> None:
    assert quantize(np.zeros((1, 8), np.float32), "ubinary", ranges).tolist() == [[0]]


def test_an_unknown_precision(vectors: np.ndarray, ranges: CodeRanges) -> None:
    with pytest.raises(OptionError, match="precision must be one of float32, int8"):
        quantize(vectors, "float16", ranges)
