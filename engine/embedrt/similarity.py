"""Similarity functions of sentence-transformers over arrays: larger is more alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedrt.pooling import l2_normalize

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
