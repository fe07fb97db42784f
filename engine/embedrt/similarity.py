"""Similarity functions of sentence-transformers over arrays: larger is more alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.pooling import l2_normalize
from embedrt.tensors import as_array

Floats = NDArray[np.float32]


def cosine(a: Floats, b: Floats) -> Floats:
    """Cosine (N, M) of rows (N, D) and (M, D)."""
    return l2_normalize(a) @ l2_normalize(b).T


def dot(a: Floats, b: Floats) -> Floats:
    """Dot products (N, M)."""
    return a @ b.T


def euclidean(a: Floats, b: Floats) -> Floats:
    """Negative Euclidean distances (N, M)."""
    return -np.stack([np.linalg.norm(b - row, axis=1) for row in a]) if len(a) else dot(a, b)


def manhattan(a: Floats, b: Floats) -> Floats:
    """Negative Manhattan distances (N, M)."""
    return -np.stack([np.abs(b - row).sum(axis=1) for row in a]) if len(a) else dot(a, b)


SIMILARITIES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": cosine,
    "dot": dot,
    "euclidean": euclidean,
    "manhattan": manhattan,
}


def comparable(a: object, b: object) -> tuple[Floats, Floats]:
    """Both as float32 rows (N, D) and (M, D); a vector (D,) is one row.

    Raises:
        OptionError: one of them is no array of vectors, or their dimensions differ.
    """
    first, second = _rows(a), _rows(b)
    if first.shape[1] != second.shape[1]:
        raise OptionError(f"vectors of {first.shape[1]} and of {second.shape[1]} dimensions cannot be compared")
    return first, second


def _rows(vectors: object) -> Floats:
    """Vectors (N, D) as float32; one vector (D,) is one row."""
    try:
        array = np.asarray(as_array(vectors))
    except (ValueError, TypeError, RuntimeError) as exc:  # rows of different lengths, tensors elsewhere or with grad
        raise OptionError(f"vectors must be an array (N, D) of numbers: {exc}") from exc
    if array.dtype.kind not in "fiub" or array.ndim not in (1, 2):
        found = "a string" if array.dtype.kind in "US" else f"{type(vectors).__name__} of {array.dtype} {array.shape}"
        hint = "; encode texts first" if array.dtype.kind in "USO" else ""
        raise OptionError(f"vectors must be an array (N, D) or (D,) of numbers, not {found}{hint}")
    return np.atleast_2d(array.astype(np.float32, copy=False))


def pairwise(name: str, a: Floats, b: Floats) -> Floats:
    """The function `name` of SIMILARITIES for each row of `a` with the same row of `b`, (N, D) each: (N,)."""
    if name == "cosine":
        a, b = l2_normalize(a), l2_normalize(b)
    if name in ("cosine", "dot"):
        return np.asarray((a * b).sum(axis=1), dtype=np.float32)
    order = {"euclidean": 2, "manhattan": 1}[name]
    return np.asarray(-np.linalg.norm(a - b, ord=order, axis=1), dtype=np.float32)


def angles(a: Floats, b: Floats) -> Floats:
    """Absolute sum of real and imaginary parts of a / b, both of length 1, for each row; (N, D) each: (N,).

    The first half of a row is real, the second imaginary (AnglE, arXiv:2309.12871); an odd row gets a 0.
    """
    if a.shape[1] % 2:
        a, b = (np.pad(rows, ((0, 0), (0, 1))) for rows in (a, b))
    (ar, ai), (br, bi) = (np.split(rows, 2, axis=1) for rows in (a, b))
    parts = (ar * br + ai * bi + ai * br - ar * bi).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # rows of zeros have no angle: NaN
        return np.asarray(np.abs(parts / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))), np.float32)
