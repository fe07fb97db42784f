"""k-means, seeded: groups of vectors as near to their centres as can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_MOST_ROUNDS = 100
_BLOCK_ROWS = 8192


def k_means(vectors: Floats, count: int, seed: int) -> NDArray[np.int64]:
    """A cluster, from 0, for each vector (N, D): Lloyd's algorithm from centres drawn by k-means++.

    Arthur and Vassilvitskii, 2007. Deterministic for a seed; a cluster that loses all its vectors stays empty.
    """
    rng = np.random.default_rng(seed)
    centres = _drawn(vectors, min(count, len(vectors)), rng)
    labels = np.full(len(vectors), -1)
    for _ in range(_MOST_ROUNDS):
        found = _nearest(vectors, centres)
        if (found == labels).all():
            break
        labels = found
        for k in np.unique(labels):
            centres[k] = vectors[labels == k].mean(axis=0)
    return labels


def _drawn(vectors: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Centres (count, D): each next one with a chance that grows with its squared distance from those before."""
    centres = np.empty((count, vectors.shape[1]), np.float32)
    distances = np.full(len(vectors), np.inf)
    row = int(rng.integers(len(vectors))) if count else 0
    for k in range(count):
        centres[k] = vectors[row]
        distances = np.minimum(distances, ((vectors - centres[k]) ** 2).sum(axis=1, dtype=np.float64))
        total = distances.sum()
        row = int(rng.choice(len(vectors), p=distances / total)) if total > 0 else 0
    return centres


def _nearest(vectors: Floats, centres: Floats) -> NDArray[np.int64]:
    half = (centres**2).sum(axis=1) / 2
    blocks = range(0, len(vectors), _BLOCK_ROWS)
    found = [np.argmax(vectors[k : k + _BLOCK_ROWS] @ centres.T - half, axis=1) for k in blocks]
    return np.concatenate(found) if found else np.empty(0, np.int64)
