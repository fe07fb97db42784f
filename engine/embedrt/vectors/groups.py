"""Groups of rows that lie close together: communities, and near duplicates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from embedrt.pooling import l2_normalize
from embedrt.vectors.nearest import blocks
from embedrt.vectors.rows import Floats

_BLOCK_ROWS = 1024


def communities(vectors: Floats, threshold: float, min_size: int, block_rows: int = _BLOCK_ROWS) -> list[list[int]]:
    """Rows that have at least `min_size` rows (themselves among them) within a cosine of `threshold`.

    Larger communities take their rows first, and a row is in one only: sentence-transformers' `community_detection`.

    Returns:
        Communities, largest first; each begins with its centre, the others by falling cosine to it.
    """
    rows = l2_normalize(vectors)
    min_size = min(min_size, len(rows))
    found: list[NDArray[np.int64]] = []
    for part in blocks(len(rows), block_rows):
        scores = rows[part] @ rows.T
        near = scores >= threshold
        for i in np.flatnonzero(near.sum(axis=1) >= min_size):
            centre, members = part.start + i, np.flatnonzero(near[i])
            ordered = members[np.argsort(-scores[i, members], kind="stable")]
            found.append(np.concatenate([[centre], ordered[ordered != centre]]))
    taken = np.zeros(len(rows), bool)
    chosen = []
    for group in sorted(found, key=len, reverse=True):
        free = group[~taken[group]]
        if len(free) >= min_size:
            taken[free] = True
            chosen.append(free.tolist())
    return sorted(chosen, key=len, reverse=True)


def representatives(
    vectors: Floats,
    threshold: float,
    block_rows: int = _BLOCK_ROWS,
    advance: Callable[[int], None] | None = None,
    chosen: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """For each row the row that stands for it: itself, or the most alike earlier one that stands for itself.

    A row stands for itself where no earlier such row is within a cosine of `threshold`. So what remains after dropping
    the others holds no two rows that near, and does not depend on the size of blocks.

    Args:
        vectors: (N, D); may be mapped from a file: blocks of it are held.
        advance: is told of each block of rows that is done.
        chosen: (M,) which rows count, the earlier ones first; all in their order if not given.

    Returns:
        (M,) places among those rows; `np.unique` of them is what remains.
    """
    order = np.arange(len(vectors)) if chosen is None else chosen
    stand_for = np.arange(len(order))
    kept = np.empty((0,), np.int64)
    for part in blocks(len(order), block_rows):
        block = l2_normalize(np.asarray(vectors[order[part]]))
        best, near = np.full(len(block), -np.inf, np.float32), np.arange(part.start, part.stop)
        for earlier in blocks(len(kept), block_rows):
            _take_nearer(best, near, block @ l2_normalize(vectors[order[kept[earlier]]]).T, kept[earlier])
        scores = block @ block.T
        alone = best < threshold
        for i in range(len(block)):
            if alone[i]:  # what lies behind it in the block may be its duplicate
                later = slice(i + 1, len(block))
                nearer = scores[i, later] > best[later]
                best[later][nearer], near[later][nearer] = scores[i, later][nearer], part.start + i
                alone[later] &= best[later] < threshold
        stand_for[part] = np.where(alone, np.arange(part.start, part.stop), near)
        kept = np.concatenate([kept, part.start + np.flatnonzero(alone)])
        if advance is not None:
            advance(len(block))
    return stand_for


def _take_nearer(best: Floats, near: NDArray[np.int64], scores: Floats, rows: NDArray[np.int64]) -> None:
    """Note for each row of a block the nearest of `rows` so far, by its scores (B, n)."""
    place = scores.argmax(axis=1)
    values = scores[np.arange(len(scores)), place]
    nearer = values > best
    best[nearer], near[nearer] = values[nearer], rows[place[nearer]]
