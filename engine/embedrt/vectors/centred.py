"""Vectors without what the rows of a group have in common, such as their language."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedrt.pooling import l2_normalize
from embedrt.vectors.nearest import blocks
from embedrt.vectors.rows import Floats

FEW = 10  # rows: the mean of fewer says more of them than of their group
_BLOCK_ROWS = 16384


def centred(vectors: Floats, groups: NDArray[np.int64]) -> Floats:
    """Each row, scaled to length 1, less the mean of such rows of its group.

    Models for many languages put a text nearer to others of its language than to its translations; what is common to a
    language is to a good part its mean (Libovický et al., 2020, arXiv:2004.05160).

    Args:
        vectors: (N, D); may be mapped from a file.
        groups: (N,) which group each row is in, from 0. Groups of fewer than FEW rows are one together, and where
            those are too few as well, the mean of all rows is theirs.

    Returns:
        (N, D) float32, held in memory; not of length 1.
    """
    if not len(vectors):
        return np.asarray(vectors, np.float32)
    groups = _of_some_size(groups)
    rows = np.empty(vectors.shape, np.float32)
    sums = np.zeros((int(groups.max()) + 1, vectors.shape[1]))
    for part in blocks(len(vectors), _BLOCK_ROWS):
        rows[part] = l2_normalize(np.asarray(vectors[part]))
        add_by_group(sums, groups[part], rows[part])
    counts = np.bincount(groups, minlength=len(sums))
    means = (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
    for small in np.flatnonzero(counts < FEW):
        means[small] = sums.sum(axis=0) / len(rows)
    for part in blocks(len(rows), _BLOCK_ROWS):
        rows[part] -= means[groups[part]]
    return rows


def add_by_group(sums: NDArray[np.float64], groups: NDArray[np.int64], rows: Floats) -> None:
    """Add rows (n, D) to the sums (G, D) of their groups, as np.add.at does in four times the time."""
    if not len(rows):
        return
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sums[ordered[starts]] += np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)


def _of_some_size(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups with those of fewer than FEW rows made one."""
    counts = np.bincount(groups)
    return np.where(counts[groups] < FEW, len(counts), groups)
