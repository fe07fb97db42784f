"""Pairs of rows that belong together: paraphrases within one set, translations between two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.vectors.nearest import Nearest, Score, blocks, nearest
from embedrt.vectors.rows import Floats, same_width

Advance = Callable[[int], None]  # rows done

_QUERY_ROWS = 16384  # rows whose neighbours are turned into pairs at once


@dataclass(frozen=True)
class Pairs:
    """Pairs, best first; of equal scores the lower rows first."""

    scores: Floats  # (P,)
    first: NDArray[np.int64]  # (P,) rows of the first set
    second: NDArray[np.int64]  # (P,) rows of the second set, or of the same one

    def __len__(self) -> int:
        return len(self.scores)

    def best(self, count: int) -> Pairs:
        """The first `count` of all."""
        return self._take(np.lexsort((self.second, self.first, -self.scores))[:count])

    def above(self, threshold: float) -> Pairs:
        """Those with a score of at least `threshold`."""
        return self._take(np.flatnonzero(self.scores >= threshold))

    def _take(self, chosen: NDArray[np.int64]) -> Pairs:
        return Pairs(self.scores[chosen], self.first[chosen], self.second[chosen])


def pairs_within(
    vectors: Floats,
    top_k: int,
    max_pairs: int,
    score: Score | None = None,
    *,
    threshold: float = -np.inf,
    advance: Advance | None = None,
) -> Pairs:
    """The most alike pairs (i, j), i < j, of a set (N, D) with itself.

    Args:
        vectors: (N, D).
        top_k: each row is paired with so many of its nearest rows.
        max_pairs: how many are returned; memory is bounded by twice as many.
        score: cosine if not given.
        threshold: pairs with a lower score are left out.
        advance: is told of each block of rows that is done.
    """
    kept = _no_pairs()
    worst = threshold
    for part in blocks(len(vectors), _QUERY_ROWS):
        found = nearest(vectors[part], vectors, top_k + 1, score)
        new = _unordered(found, part.start, top_k, worst)
        kept = _distinct(_joined(kept, new))
        if len(kept) > max_pairs:
            kept = kept.best(max_pairs)
            worst = float(kept.scores[-1])
        if advance is not None:
            advance(part.stop - part.start)
    return kept.best(max_pairs)


def _unordered(found: Nearest, start: int, top_k: int, worst: float) -> Pairs:
    """Each row of a block with its nearest others, as i < j."""
    own = np.arange(start, start + len(found.rows))[:, None]
    other = found.rows != own
    # A row that is not among its own nearest has duplicates there: the last of them is one too many.
    other &= np.cumsum(other, axis=1) <= top_k
    other &= found.scores >= worst
    query, place = np.nonzero(other)
    i, j = query + start, found.rows[query, place]
    return Pairs(found.scores[query, place], np.minimum(i, j), np.maximum(i, j))


def _distinct(pairs: Pairs) -> Pairs:
    """Each pair once, with its larger score: (i, j) and (j, i) may differ in the last bit."""
    order = np.lexsort((-pairs.scores, pairs.second, pairs.first))
    ordered = pairs._take(order)
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered.first[1:] != ordered.first[:-1]) | (ordered.second[1:] != ordered.second[:-1])
    return ordered._take(np.flatnonzero(new))


def pairs_between(
    a: Floats, b: Floats, *, k: int = 4, one_to_one: bool = True, advance: Advance | None = None
) -> Pairs:
    """Rows of two sets that translate each other, scored by margin.

    A pair's score is its cosine over the mean cosine of both rows to their k nearest rows of the other set: over 1
    where the two are nearer to each other than to the rest of their surroundings ("ratio" of Artetxe and Schwenk,
    2019, arXiv:1811.01136, equation 2, with the "max" retrieval of its section 3.2).

    Args:
        a, b: (N, D) and (M, D).
        k: neighbours that a row is compared with.
        one_to_one: each row in one pair at most, the best pairs first; else each row's best partner, both ways.
        advance: is told of each block of rows, of both sets, that is done.
    """
    same_width(a, b)
    forth, back = _nearest_of_all(a, b, k, advance), _nearest_of_all(b, a, k, advance)
    if not forth.rows.size or not back.rows.size:
        return _no_pairs()
    surroundings_a, surroundings_b = forth.scores.mean(axis=1), back.scores.mean(axis=1)
    from_a = _by_margin(forth, surroundings_a, surroundings_b)
    from_b = _by_margin(back, surroundings_b, surroundings_a)
    both = _distinct(_joined(from_a, Pairs(from_b.scores, from_b.second, from_b.first))).best(len(a) + len(b))
    return _one_to_one(both, len(a), len(b)) if one_to_one else both


def _nearest_of_all(queries: Floats, corpus: Floats, k: int, advance: Advance | None) -> Nearest:
    """As `nearest`, for queries of any number, which may be mapped from a file: only a block of them is held."""
    found = [Nearest(np.empty((0, min(k, len(corpus))), np.int64), np.empty((0, min(k, len(corpus))), np.float32))]
    for part in blocks(len(queries), _QUERY_ROWS):
        found.append(nearest(queries[part], corpus, k))
        if advance is not None:
            advance(part.stop - part.start)
    return Nearest(np.concatenate([one.rows for one in found]), np.concatenate([one.scores for one in found]))


def _by_margin(found: Nearest, own: Floats, others: Floats) -> Pairs:
    """Each row with the one of its neighbours that has the largest margin."""
    margins = found.scores / ((own[:, None] + others[found.rows]) / 2)
    place = margins.argmax(axis=1)
    row = np.arange(len(margins))
    return Pairs(np.asarray(margins[row, place], np.float32), row, found.rows[row, place])


def _one_to_one(pairs: Pairs, num_a: int, num_b: int) -> Pairs:
    free_a, free_b = np.ones(num_a, bool), np.ones(num_b, bool)
    chosen = []
    for place, (i, j) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        if free_a[i] and free_b[j]:
            free_a[i] = free_b[j] = False
            chosen.append(place)
    return pairs._take(np.asarray(chosen, np.int64))


def _joined(*parts: Pairs) -> Pairs:
    return Pairs(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
    )


def _no_pairs() -> Pairs:
    return Pairs(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
