"""Exact search: the k rows of a corpus that are most alike to each query, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.pooling import l2_normalize
from embedrt.vectors.rows import Floats, same_width

Score = Callable[[Floats, Floats], Floats]  # (Q, D), (N, D) -> (Q, N), larger is more alike

# A block of scores is 4 MB: it is compared with what is known so far while it lies in a cache.
_QUERY_ROWS = 256
_CORPUS_ROWS = 4096
_GROUPS_PER_PLACE = 4  # for each of the k that are kept; with more of them fewer scores are sorted in vain


@dataclass(frozen=True)
class Nearest:
    """For each query the rows of the corpus, best first; equal scores in the corpus' order."""

    rows: NDArray[np.int64]  # (Q, min(k, N))
    scores: Floats  # (Q, min(k, N))


def nearest(
    queries: Floats,
    corpus: Floats,
    k: int,
    score: Score | None = None,
    *,
    query_rows: int = _QUERY_ROWS,
    corpus_rows: int = _CORPUS_ROWS,
) -> Nearest:
    """The k rows most alike to each query.

    Args:
        queries: (Q, D).
        corpus: (N, D); may be mapped from a file: it is read once, in order.
        k: how many; all where the corpus has fewer.
        score: cosine if not given.
        query_rows, corpus_rows: rows of a block; a block of scores has their product.
    """
    same_width(queries, corpus)
    k = min(k, len(corpus))
    best = Nearest(np.zeros((len(queries), k), np.int64), np.full((len(queries), k), -np.inf, np.float32))
    if score is None:
        queries = l2_normalize(queries)
    for part in blocks(len(corpus), corpus_rows):
        rows = np.asarray(corpus[part])
        with np.errstate(invalid="ignore", over="ignore"):  # infinity becomes NaN, which `_merge` refuses
            rows = l2_normalize(rows) if score is None else rows
            for some in blocks(len(queries), query_rows):
                scores = queries[some] @ rows.T if score is None else score(queries[some], rows)
                _merge(best, some.start, scores, part.start)
    return best


def blocks(num_rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover all of them in order."""
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def _merge(best: Nearest, first_query: int, scores: Floats, first_row: int) -> None:
    """Put into `best` what is better in a block of scores (q, n) of queries and of rows of the corpus.

    After the first blocks few rows have a score that passes the worst that is kept, so finding each row's largest is
    most of the work. Only a larger score displaces another: of equal ones the earlier row of the corpus stays.

    Raises:
        OptionError: a score is no number.
    """
    k = best.rows.shape[1]
    if k == 0:
        return
    largest, enough = _bounds(scores, k)
    if np.isnan(largest).any():
        raise OptionError("the vectors hold NaN or infinity and cannot be ranked")
    worst = best.scores[first_query : first_query + len(scores), -1]
    changed = np.flatnonzero(largest > worst)
    if not len(changed):
        return
    if len(changed) < len(scores):
        scores = scores[changed]
    queries = first_query + changed
    passed = np.maximum(worst[changed], np.nextafter(enough[changed], -np.inf, dtype=np.float32))
    query, column = np.divmod(np.flatnonzero(scores > passed[:, None]), scores.shape[1])  # faster than np.nonzero
    counts = np.bincount(query, minlength=len(queries))
    place = k + np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((len(queries), k + int(counts.max())), -np.inf, np.float32)
    rows = np.zeros(values.shape, np.int64)
    values[:, :k], rows[:, :k] = best.scores[queries], best.rows[queries]
    values[query, place], rows[query, place] = scores[query, column], column + first_row
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    best.scores[queries], best.rows[queries] = (np.take_along_axis(one, order, axis=1) for one in (values, rows))


def _bounds(scores: Floats, k: int) -> tuple[Floats, Floats]:
    """Of each row (n,) the largest, and a number that at least k are as large as: the k-th largest of the maxima of
    groups, which is far cheaper than the k-th largest of all and little less."""
    size = scores.shape[1] // (_GROUPS_PER_PLACE * k)
    if size < 2:
        return scores.max(axis=1), np.full(len(scores), -np.inf, np.float32)
    end = scores.shape[1] // size * size
    groups = scores[:, :end].reshape(len(scores), size, -1).max(axis=1)
    enough = np.partition(groups, -k, axis=1)[:, -k]
    return np.maximum(groups.max(axis=1), scores[:, end:].max(axis=1, initial=-np.inf)), enough
