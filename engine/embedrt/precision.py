"""Embeddings as small integers, with ranges that come from the bundle and not from the batch at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")


def quantize(vectors: NDArray[np.float32], precision: str, reference: NDArray[np.float32]) -> NDArray[Any]:
    """Vectors (N, D) in another precision.

    int8 and uint8 spread each dimension's range in `reference` (R, D) over 256 steps and clip what lies outside;
    binary and ubinary keep the sign, 8 dimensions a byte (sentence-transformers' packing). Same vector, same
    code, whatever else is in the call.
    """
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        return signs(vectors, precision)
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    low, high = reference.min(axis=0), reference.max(axis=0)
    step = np.maximum((high - low) / 255, np.finfo(np.float32).tiny)
    codes = np.clip(np.rint((vectors - low) / step), 0, 255)
    return np.asarray(codes, np.uint8) if precision == "uint8" else np.asarray(codes - 128, np.int8)


def signs(vectors: NDArray[np.float32], precision: str) -> NDArray[Any]:
    """Vectors (N, D) as bits (N, ceil(D / 8)), 1 for what is above 0: "ubinary" in uint8, "binary" less 128 in int8."""
    packed = np.packbits(vectors > 0, axis=-1)
    return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
