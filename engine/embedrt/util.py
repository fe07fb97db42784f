"""sentence-transformers' `util` over numpy arrays: the same names, arguments and results, without torch.

Vectors are anything that numpy reads as rows (N, D): arrays, lists of vectors, CPU tensors, mapped files. Work goes in
blocks, so that memory does not grow with the product of the sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import OptionError
from embedrt.pooling import l2_normalize
from embedrt.similarity import angles, cosine, dot, euclidean, manhattan, pairwise
from embedrt.vectors.codes import codes
from embedrt.vectors.groups import communities, representatives
from embedrt.vectors.nearest import Score, nearest
from embedrt.vectors.pairs import Pairs, pairs_between, pairs_within
from embedrt.vectors.rows import Floats, Vectors, as_rows, at_least, same_width

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

__all__ = [
    "community_detection",
    "cos_sim",
    "dot_score",
    "euclidean_sim",
    "manhattan_sim",
    "mine_translations",
    "near_duplicates",
    "normalize_embeddings",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "paraphrase_mining",
    "paraphrase_mining_embeddings",
    "pytorch_cos_sim",
    "quantize_embeddings",
    "semantic_search",
    "truncate_embeddings",
]


class SearchHit(TypedDict):
    """One row of the corpus, as sentence-transformers gives it."""

    corpus_id: int
    score: float


def cos_sim(a: Vectors, b: Vectors) -> Floats:
    """Cosine (N, M) of rows (N, D) and (M, D)."""
    return cosine(*_two(a, b))


def pytorch_cos_sim(a: Vectors, b: Vectors) -> Floats:
    """The earlier name of `cos_sim`."""
    return cos_sim(a, b)


def dot_score(a: Vectors, b: Vectors) -> Floats:
    """Dot products (N, M) of rows (N, D) and (M, D)."""
    return dot(*_two(a, b))


def euclidean_sim(a: Vectors, b: Vectors) -> Floats:
    """Negative Euclidean distances (N, M) of rows (N, D) and (M, D)."""
    return euclidean(*_two(a, b))


def manhattan_sim(a: Vectors, b: Vectors) -> Floats:
    """Negative Manhattan distances (N, M) of rows (N, D) and (M, D)."""
    return manhattan(*_two(a, b))


def pairwise_cos_sim(a: Vectors, b: Vectors) -> Floats:
    """Cosine (N,) of row i of `a` with row i of `b`."""
    return pairwise("cosine", *_two(a, b, pairs=True))


def pairwise_dot_score(a: Vectors, b: Vectors) -> Floats:
    """Dot product (N,) of row i of `a` with row i of `b`."""
    return pairwise("dot", *_two(a, b, pairs=True))


def pairwise_euclidean_sim(a: Vectors, b: Vectors) -> Floats:
    """Negative Euclidean distance (N,) of row i of `a` from row i of `b`."""
    return pairwise("euclidean", *_two(a, b, pairs=True))


def pairwise_manhattan_sim(a: Vectors, b: Vectors) -> Floats:
    """Negative Manhattan distance (N,) of row i of `a` from row i of `b`."""
    return pairwise("manhattan", *_two(a, b, pairs=True))


def pairwise_angle_sim(x: Vectors, y: Vectors) -> Floats:
    """Absolute angle (N,) of row i of `x` and row i of `y` as complex numbers (AnglE, arXiv:2309.12871)."""
    return angles(*_two(x, y, pairs=True))


def quantize_embeddings(
    embeddings: Vectors,
    precision: str,
    ranges: Vectors | None = None,
    calibration_embeddings: Vectors | None = None,
) -> NDArray[Any]:
    """Rows (N, D) in another precision, with sentence-transformers' codes; `encode(precision=)` has the bundle's.

    Args:
        embeddings: (N, D).
        precision: float32, int8, uint8, binary or ubinary.
        ranges: least and largest value (2, D) of each dimension, for int8 and uint8.
        calibration_embeddings: vectors that ranges are taken from where none are given; else those at hand, so that
            a vector's code depends on the others.

    Raises:
        OptionError: the precision is unknown, or the ranges do not fit the vectors.
    """
    rows = as_rows(embeddings)
    if ranges is None:
        known = rows if calibration_embeddings is None else as_rows(calibration_embeddings)
        limits = np.stack([known.min(axis=0), known.max(axis=0)]) if len(known) else np.zeros((2, rows.shape[1]))
    else:
        limits = as_rows(ranges, "ranges")
    return codes(rows, precision, limits)


def normalize_embeddings(embeddings: Vectors) -> Floats:
    """Rows (N, D) of length 1; a row of zeros stays."""
    return l2_normalize(as_rows(embeddings))


def truncate_embeddings(embeddings: Vectors, truncate_dim: int | None) -> Floats:
    """The first `truncate_dim` dimensions of each row, not normalized again; all for None."""
    rows = as_rows(embeddings)
    return rows if truncate_dim is None else rows[:, : at_least("truncate_dim", truncate_dim)]


def semantic_search(
    query_embeddings: Vectors,
    corpus_embeddings: Vectors,
    query_chunk_size: int = 256,
    corpus_chunk_size: int = 4096,
    top_k: int = 10,
    score_function: Score = cos_sim,
) -> list[list[SearchHit]]:
    """The `top_k` rows of the corpus (N, D) that are most alike to each query (Q, D), exactly.

    Args:
        query_embeddings, corpus_embeddings: the corpus may be mapped from a file.
        query_chunk_size, corpus_chunk_size: rows of a block; the defaults keep a block of scores in a cache.
        top_k: all where the corpus has fewer.
        score_function: gives (Q, N) for rows; larger is more alike.

    Returns:
        For each query its hits, best first, equal scores in the corpus' order.

    Raises:
        OptionError: the vectors do not fit each other, hold NaN, or an argument is wrong.
    """
    found = nearest(
        *_two(query_embeddings, corpus_embeddings),
        at_least("top_k", top_k),
        _own_or(score_function),
        query_rows=at_least("query_chunk_size", query_chunk_size),
        corpus_rows=at_least("corpus_chunk_size", corpus_chunk_size),
    )
    return [
        [SearchHit(corpus_id=row, score=score) for row, score in zip(rows, scores, strict=True)]
        for rows, scores in zip(found.rows.tolist(), found.scores.tolist(), strict=True)
    ]


def paraphrase_mining(
    model: Embedder,
    sentences: Sequence[str],
    show_progress_bar: bool = False,
    batch_size: int | None = None,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Score = cos_sim,
    **options: Any,
) -> list[list[float | int]]:
    """Embed the sentences and find the most alike pairs; see `paraphrase_mining_embeddings`.

    Args:
        model: what embeds, with `options` of its `encode`.
    """
    vectors = model.encode(sentences, show_progress_bar=show_progress_bar, batch_size=batch_size, **options)
    return paraphrase_mining_embeddings(vectors, max_pairs=max_pairs, top_k=top_k, score_function=score_function)


def paraphrase_mining_embeddings(
    embeddings: Vectors, max_pairs: int = 500_000, top_k: int = 100, score_function: Score = cos_sim
) -> list[list[float | int]]:
    """The most alike pairs of rows (N, D).

    Args:
        embeddings: (N, D).
        max_pairs: how many pairs; memory is bounded by twice as many.
        top_k: a row is paired with so many of its nearest rows.
        score_function: gives (Q, N) for rows; larger is more alike.

    Returns:
        [score, i, j] with i < j, best first.
    """
    pairs = pairs_within(
        as_rows(embeddings), at_least("top_k", top_k), at_least("max_pairs", max_pairs), _own_or(score_function)
    )
    return _listed(pairs)


def mine_translations(
    a: Vectors, b: Vectors, k: int = 4, threshold: float | None = None, one_to_one: bool = True
) -> list[list[float | int]]:
    """Rows of two sets that translate each other (bitext mining), by margin; no counterpart in sentence-transformers.

    Args:
        a, b: (N, D) and (M, D), the sentences of two languages.
        k: neighbours that each row's surroundings are made of.
        threshold: keep pairs whose margin is at least this; 1.0 to 1.02 for E5, more for models that spread cosines.
        one_to_one: each row in one pair at most.

    Returns:
        [margin, i, j] for row i of `a` and row j of `b`, best first (Artetxe and Schwenk, 2019, arXiv:1811.01136).
    """
    pairs = pairs_between(*_two(a, b), k=at_least("k", k), one_to_one=one_to_one)
    return _listed(pairs if threshold is None else pairs.above(threshold))


def community_detection(
    embeddings: Vectors, threshold: float = 0.75, min_community_size: int = 10, batch_size: int = 1024
) -> list[list[int]]:
    """Groups of rows within a cosine of `threshold` of a central one, at least `min_community_size` rows each.

    Args:
        embeddings: (N, D).
        threshold: least cosine to the centre.
        min_community_size: smaller groups are left out.
        batch_size: rows compared with all others at once.

    Returns:
        Rows of each group, the centre first; the largest group first.
    """
    return communities(
        as_rows(embeddings), threshold, at_least("min_community_size", min_community_size),
        at_least("batch_size", batch_size),
    )  # fmt: skip


def near_duplicates(embeddings: Vectors, threshold: float = 0.95) -> NDArray[np.int64]:
    """For each row (N,) the row that stands for it: itself, or an earlier one within a cosine of `threshold`.

    `numpy.unique` of the result is what remains when near duplicates are dropped.
    """
    return representatives(as_rows(embeddings), threshold)


def _two(a: Vectors, b: Vectors, *, pairs: bool = False) -> tuple[Floats, Floats]:
    first, second = as_rows(a, "the first"), as_rows(b, "the second")
    same_width(first, second)
    if pairs and len(first) != len(second):
        raise OptionError(f"{len(first)} and {len(second)} vectors cannot be compared in pairs")
    return first, second


def _own_or(score_function: Score) -> Score | None:
    """None for cosine, which `nearest` computes without normalizing a query for every block."""
    return None if score_function is cos_sim else score_function


def _listed(pairs: Pairs) -> list[list[float | int]]:
    columns = (pairs.scores.tolist(), pairs.first.tolist(), pairs.second.tolist())
    return [list(row) for row in zip(*columns, strict=True)]
