"""What callers give as vectors, checked: float32 rows in one piece."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError

Floats: TypeAlias = NDArray[np.float32]
Vectors: TypeAlias = Any
"""Anything that numpy reads as rows of numbers: arrays, mapped files, lists of vectors, tensors on the CPU."""


def as_rows(vectors: Vectors, name: str = "embeddings") -> Floats:
    """Rows (N, D) in float32; one vector (D,) is one row. A float32 array is not copied.

    Raises:
        OptionError: they are no numbers, or have other than one or two axes.
    """
    if isinstance(vectors, list) and not vectors:
        return np.empty((0, 0), np.float32)
    try:
        rows = np.asarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as exc:
        raise OptionError(f"{name} must be vectors, an array (N, D) of numbers: {exc}") from exc
    if rows.ndim == 1 and rows.size:
        rows = rows[None, :]
    if rows.ndim != 2:
        raise OptionError(f"{name} must have the shape (N, D), not {rows.shape}")
    return rows


def same_width(a: Floats, b: Floats) -> None:
    """Raise OptionError unless rows of `a` and `b` can be compared; nothing can be said of no rows."""
    if len(a) and len(b) and a.shape[1] != b.shape[1]:
        raise OptionError(f"vectors of {a.shape[1]} and of {b.shape[1]} dimensions cannot be compared")


def at_least(name: str, value: int, least: int = 1) -> int:
    """A whole number from `least` on, numpy's integers among them.

    Raises:
        OptionError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise OptionError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return int(value)
