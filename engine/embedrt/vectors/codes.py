"""Vectors as small integers, with sentence-transformers' codes: another rounding than `embedrt.precision` has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.precision import PRECISIONS, signs
from embedrt.vectors.rows import Floats


def codes(rows: Floats, precision: str, ranges: NDArray[Any]) -> NDArray[Any]:
    """Rows (N, D) in a precision of PRECISIONS.

    Args:
        ranges: least and largest value (2, D) of each dimension, which 256 codes are spread over; not for bits.

    Raises:
        OptionError: the precision is unknown, or the ranges are of another shape.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    if precision == "float32":
        return rows
    if precision in ("binary", "ubinary"):
        return signs(rows, precision)
    if ranges.shape != (2, rows.shape[1]):
        raise OptionError(f"ranges must have the shape (2, {rows.shape[1]}), not {ranges.shape}")
    steps = (ranges[1] - ranges[0]) / 255
    found = np.clip(np.floor((rows - ranges[0]) / np.where(steps == 0, 1, steps)), 0, 255)
    return np.asarray(found, np.uint8) if precision == "uint8" else np.asarray(found - 128, np.int8)
