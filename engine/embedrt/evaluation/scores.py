"""Scores of vectors, pure: what was expected and what the vectors say, to one value per item or one statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedrt.evaluation.estimate import Statistic
from embedrt.parity.metrics import correlation, ranks

Values = NDArray[np.float64]


def spearman(scores: Values, gold: Values) -> Statistic:
    """Spearman's rank correlation of scores (N,) with what people said (N,), times 100, over chosen pairs."""
    return lambda items: 100 * correlation(ranks(scores[items]), ranks(gold[items]))


def ndcg(ranked: Sequence[Sequence[int]], relevance: Sequence[Mapping[int, float]], k: int = 10) -> Values:
    """Normalized discounted cumulative gain of each query's first `k` rows.

    A row at place p (from 1) gains its relevance / log2(p + 1), as trec_eval has it; a query without relevant rows
    counts 0.

    Args:
        ranked: for each query rows of the corpus, best first, each once.
        relevance: for each query the relevance of rows; others have none.
        k: places that count.

    Returns:
        (Q,) from 0 to 1.
    """
    discounts = 1 / np.log2(np.arange(2, k + 2))
    out = np.zeros(len(ranked))
    for i, (rows, relevant) in enumerate(zip(ranked, relevance, strict=True)):
        ideal = sorted((gain for gain in relevant.values() if gain > 0), reverse=True)[:k]
        if ideal:
            gains = [max(relevant.get(row, 0.0), 0.0) for row in rows[:k]]
            out[i] = gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)])
    return out


def recall(ranked: Sequence[Sequence[int]], relevance: Sequence[Mapping[int, float]], k: int = 10) -> Values:
    """Share (Q,) of each query's relevant rows that are among its first `k`; 0 for a query without any."""
    out = np.zeros(len(ranked))
    for i, (rows, relevant) in enumerate(zip(ranked, relevance, strict=True)):
        wanted = {row for row, gain in relevant.items() if gain > 0}
        if wanted:
            out[i] = len(wanted.intersection(rows[:k])) / len(wanted)
    return out


def f1_of_pairs(found: Sequence[tuple[int, int]], expected: Sequence[tuple[int, int]]) -> float:
    """2 * right / (found + expected), of pairs of rows; 0 where there are none."""
    total = len(found) + len(expected)
    return 2 * len(set(found) & set(expected)) / total if total else 0.0


def v_measure(labels: Sequence[object], clusters: Sequence[object]) -> float:
    """Harmonic mean of homogeneity and completeness, 0 to 1 (Rosenberg and Hirschberg, 2007; beta 1)."""
    _, label = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    _, cluster = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    return v_measure_of(label, cluster)


def v_measure_of(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    """As `v_measure`, of numbers from 0 (N,)."""
    if not len(labels):
        return 0.0
    shape = (int(labels.max()) + 1, int(clusters.max()) + 1)
    cells = np.bincount(labels * shape[1] + clusters, minlength=shape[0] * shape[1])
    counts = cells.reshape(shape).astype(np.float64)
    of_labels, of_clusters = _entropy(counts.sum(axis=1)), _entropy(counts.sum(axis=0))
    shared = of_labels + of_clusters - _entropy(counts.ravel())  # mutual information
    homogeneity = shared / of_labels if of_labels else 1.0
    completeness = shared / of_clusters if of_clusters else 1.0
    both = homogeneity + completeness
    return float(2 * homogeneity * completeness / both) if both else 0.0


def _entropy(counts: Values) -> float:
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(shares * np.log(shares)).sum()))
