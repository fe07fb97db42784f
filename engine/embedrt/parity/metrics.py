"""How far vectors are from the reference's: cosines, the same after centering, largest difference, and ranks.

Everything is computed in float64 on L2-normalized copies, so that pipelines without a Normalize module are judged by
the same limits; what normalizing hides, the error of the vectors' lengths, is reported beside it.

Raw cosines flatter models whose vectors all point the same way, so they are also taken after the corpus mean of
the reference is subtracted from both sides, and the order of the similarities is compared by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import NonFiniteError, OptionError

Floats = NDArray[np.float64]

MIN_RANK_TEXTS = 20  # with fewer texts, a Spearman coefficient and ten neighbors of each say nothing
MAX_RANK_TEXTS = 3000  # 4.5 million pairs; of more texts, this many evenly spaced ones are ranked
TOP_K = 10
_CHUNK_ROWS = 512
_UNIT_TOLERANCE = 1e-3  # lengths this near to 1 count as normalized (fp32 and fp16 rounding stay far below)
_BUCKET_EDGES = (8, 32, 128, 512)  # tokens, upper ends


@dataclass(frozen=True)
class Spread:
    """Cosines over texts."""

    mean: float
    p01: float  # 1st percentile, linear between texts
    min: float


@dataclass(frozen=True)
class Deviation:
    """Vectors of N texts against the reference's, on L2-normalized copies."""

    num_texts: int
    cosine: Spread
    centered: Spread | None  # corpus mean of the reference subtracted from both; None for a corpus of one text
    max_abs_diff: float  # over all texts and dimensions
    max_norm_error: float  # largest |length / reference's length - 1|, before normalizing
    spearman: float | None  # of all pairwise similarities; None under MIN_RANK_TEXTS texts
    top10_overlap: float | None  # share of each text's ten nearest others that is the same; None likewise


@dataclass(frozen=True)
class Bucket:
    """Texts of about one length in tokens."""

    label: str  # e.g. "9-32" or "cut at 512"
    indices: tuple[int, ...]


def compare(reference: NDArray[Any], candidate: NDArray[Any], *, center: NDArray[Any] | None = None) -> Deviation:
    """Measure `candidate` (N, D) against `reference` (N, D).

    Args:
        reference, candidate: vectors of the same texts; need not be normalized. A zero vector has cosine 1 with a zero
            vector and 0 with any other.
        center: (D,) what to subtract for the centered cosines; default `corpus_center(reference)`. Give the whole
            corpus's center to measure a part of it.

    Raises:
        OptionError: shapes differ, there are no texts, or the reference holds NaN or infinity.
        NonFiniteError: the candidate holds NaN or infinity.
    """
    check_vectors(reference, candidate)
    ref, cand = normalized(reference), normalized(candidate)
    if center is None and len(ref) > 1:
        center = ref.mean(axis=0)
    ranked = _ranked_rows(len(ref))
    return Deviation(
        num_texts=len(ref),
        cosine=_spread(1 - cosine_distances(ref, cand)),
        centered=None if center is None else _spread(_cosines(ref - center, cand - center)),
        max_abs_diff=float(np.abs(ref - cand).max()),
        max_norm_error=_norm_error(reference, candidate),
        spearman=None if ranked is None else spearman_of_similarities(ref[ranked], cand[ranked]),
        top10_overlap=None if ranked is None else top_overlap(ref[ranked], cand[ranked]),
    )


def check_vectors(reference: NDArray[Any], candidate: NDArray[Any]) -> None:
    """Raise if the two cannot be compared; see `compare`."""
    if reference.ndim != 2 or reference.shape != candidate.shape or reference.size == 0:
        raise OptionError(
            f"vectors must both be (N, D) with N, D > 0; the reference is {reference.shape}, "
            f"the candidate {candidate.shape}"
        )
    if not np.isfinite(reference).all():
        raise OptionError(f"the reference of text {_first_non_finite(reference)} holds NaN or infinity")
    if not np.isfinite(candidate).all():
        raise NonFiniteError(f"the vector of text {_first_non_finite(candidate)} holds NaN or infinity")


def normalized(vectors: NDArray[Any]) -> Floats:
    """Rows (N, D) at length 1 in float64; zero rows stay zero."""
    rows = np.asarray(vectors, dtype=np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)  # first, so that squares neither overflow nor vanish
    rows = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=rows, where=norms > 0))


def is_normalized(vectors: NDArray[Any]) -> bool:
    """Whether every row (N, D) has length 1, zero rows aside."""
    norms = np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1)
    return bool(np.all((np.abs(norms - 1) < _UNIT_TOLERANCE) | (norms == 0)))


def corpus_center(reference: NDArray[Any]) -> Floats:
    """Mean (D,) of the normalized rows (N, D)."""
    return np.asarray(normalized(reference).mean(axis=0))


def cosine_distances(a: Floats, b: Floats) -> Floats:
    """1 - cosine (N,) of rows of length 1 or 0, as half the squared difference: exact where 1 - a @ b would cancel."""
    distances = np.asarray(0.5 * np.square(a - b).sum(axis=1))
    one_is_zero = a.any(axis=1) != b.any(axis=1)
    return np.where(one_is_zero, 1.0, distances)


def mean_pairwise_cosine(vectors: NDArray[Any]) -> float:
    """Mean cosine of all pairs of different rows (N, D); 0 for a single row. Near 1: the vectors have collapsed."""
    unit = normalized(vectors)
    count = len(unit)
    if count < 2:
        return 0.0
    total = float(np.square(unit.sum(axis=0)).sum()) - float(np.square(unit).sum())  # pairs i == j left out
    return total / (count * (count - 1))


def spearman_of_similarities(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of the pairwise similarities within `a` (N, D) and within `b` (N, D)."""
    return correlation(ranks(_pair_similarities(a)), ranks(_pair_similarities(b)))


def ranks(values: Floats) -> Floats:
    """Ranks (n,) from 1; equal values share the mean of theirs (as scipy.stats.rankdata)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.append(starts, len(values)))
    out = np.empty(len(values))
    out[order] = np.repeat(starts + (lengths + 1) / 2, lengths)
    return out


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation. A constant side has none: 1 where both are constant, 0 where one is."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    if scale == 0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(np.clip((a @ b) / scale, -1, 1))


def top_overlap(a: Floats, b: Floats, k: int = TOP_K) -> float:
    """Mean share of each row's `k` most similar other rows in `a` (N, D) that are also among them in `b` (N, D)."""
    k = min(k, len(a) - 1)
    shared = 0
    for rows, ours, theirs in zip(_chunks(len(a)), _similarity_rows(a), _similarity_rows(b), strict=True):
        near = np.zeros(ours.shape, dtype=bool)
        np.put_along_axis(near, _nearest(ours, rows, k), True, axis=1)
        shared += int(np.take_along_axis(near, _nearest(theirs, rows, k), axis=1).sum())
    return shared / (len(a) * k)


def length_buckets(num_tokens: Sequence[int], max_tokens: int) -> tuple[Bucket, ...]:
    """Group texts by tokens before cutting: 1-8, 9-32, 33-128, 129-512, over 512, and those cut at `max_tokens`.

    Buckets without texts are left out.
    """
    edges = [edge for edge in _BUCKET_EDGES if edge < max_tokens] + [max_tokens]
    lows = [1, *(edge + 1 for edge in edges[:-1])]
    groups: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for i, count in enumerate(num_tokens):
        groups[int(np.searchsorted(edges, count))].append(i)
    labels = [f"{low}-{high}" for low, high in zip(lows, edges, strict=True)] + [f"cut at {max_tokens}"]
    return tuple(Bucket(label, tuple(indices)) for label, indices in zip(labels, groups, strict=True) if indices)


def _cosines(a: Floats, b: Floats) -> Floats:
    return np.asarray(1 - cosine_distances(normalized(a), normalized(b)))


def _spread(cosines: Floats) -> Spread:
    return Spread(float(cosines.mean()), float(np.percentile(cosines, 1)), float(cosines.min()))


def _norm_error(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    ref = np.linalg.norm(np.asarray(reference, dtype=np.float64), axis=1)
    cand = np.linalg.norm(np.asarray(candidate, dtype=np.float64), axis=1)
    ratio = np.divide(cand, ref, out=np.where(cand == 0, 1.0, 2.0), where=ref > 0)
    return float(np.abs(ratio - 1).max())


def _ranked_rows(count: int) -> NDArray[np.int64] | None:
    if count < MIN_RANK_TEXTS:
        return None
    return np.unique(np.linspace(0, count - 1, min(count, MAX_RANK_TEXTS)).astype(np.int64))


def _pair_similarities(unit: Floats) -> Floats:
    """Similarities (N (N - 1) / 2,) of all pairs i < j."""
    out = np.empty(len(unit) * (len(unit) - 1) // 2)
    end = 0
    for rows, block in zip(_chunks(len(unit)), _similarity_rows(unit), strict=True):
        for i, row in zip(rows, block, strict=True):
            begin, end = end, end + len(unit) - i - 1
            out[begin:end] = row[i + 1 :]
    return out


def _similarity_rows(unit: Floats) -> Iterator[Floats]:
    for rows in _chunks(len(unit)):
        yield unit[rows.start : rows.stop] @ unit.T


def _chunks(count: int) -> Iterator[range]:
    for start in range(0, count, _CHUNK_ROWS):
        yield range(start, min(start + _CHUNK_ROWS, count))


def _nearest(similarities: Floats, rows: range, k: int) -> NDArray[np.int64]:
    """Indices (n, k) of the largest similarities of each row, itself left out; on ties the earlier text."""
    others = similarities.copy()
    others[np.arange(len(rows)), np.arange(rows.start, rows.stop)] = -np.inf
    return np.argsort(-others, axis=1, kind="stable")[:, :k]


def _first_non_finite(vectors: NDArray[Any]) -> int:
    return int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
