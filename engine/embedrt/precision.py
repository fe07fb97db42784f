"""Embeddings as small integers, with ranges that come from the bundle and not from the batch at hand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError

CODES = ("int8", "uint8")  # with ranges
PRECISIONS = ("float32", *CODES, "binary", "ubinary")


# Standard deviations. What a few hundred vectors span clips 2 % of the values of others, and most of the codes' error
# comes of these; 5 has the least error of all widths that were tried on two models (docs/accuracy.md).
CODE_WIDTH = 5.0


class CodeRanges(NamedTuple):
    """What 256 codes are spread over, dimension by dimension."""

    low: NDArray[np.float32]  # (D,)
    high: NDArray[np.float32]  # (D,)


def code_ranges(reference: NDArray[np.float32], width: float | None) -> CodeRanges:
    """The ranges of vectors like `reference` (R, D).

    Args:
        reference: vectors of texts of all kinds.
        width: of so many standard deviations on either side of the mean; None is from the least to the largest.
    """
    if width is None:
        return CodeRanges(reference.min(axis=0), reference.max(axis=0))
    mean, reach = reference.mean(axis=0, dtype=np.float64), width * reference.std(axis=0, dtype=np.float64)
    return CodeRanges((mean - reach).astype(np.float32), (mean + reach).astype(np.float32))


def quantize(vectors: NDArray[np.float32], precision: str, ranges: CodeRanges) -> NDArray[Any]:
    """Vectors (N, D) in another precision.

    int8 and uint8 spread each dimension's range over 256 steps and clip what lies outside; binary and ubinary keep the
    sign, 8 dimensions a byte (sentence-transformers' packing). Same vector, same code, whatever else is in the call.
    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        return signs(vectors, precision)
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    low, high = ranges
    step = np.maximum((high - low) / 255, np.finfo(np.float32).tiny)
    codes = np.clip(np.rint((vectors - low) / step), 0, 255)
    return np.asarray(codes, np.uint8) if precision == "uint8" else np.asarray(codes - 128, np.int8)


def signs(vectors: NDArray[np.float32], precision: str) -> NDArray[Any]:
    """Vectors (N, D) as bits (N, ceil(D / 8)), 1 for what is above 0: "ubinary" in uint8, "binary" less 128 in int8."""
    packed = np.packbits(vectors > 0, axis=-1)
    return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
