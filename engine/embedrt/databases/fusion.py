"""Several rankings made one: reciprocal rank fusion.

Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
SIGIR 2009: a row's score is the sum of 1 / (60 + rank) over the rankings that hold it. It asks nothing of the scores
behind the ranks, so cosines and BM25 go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

RANK_CONSTANT = 60


def fused(rankings: Iterable[Sequence[str]], constant: int = RANK_CONSTANT) -> list[tuple[str, float]]:
    """Ids with their scores, best first; equal scores in the order in which the ids first come up."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, row_id in enumerate(dict.fromkeys(ranking), start=1):
            scores[row_id] = scores.get(row_id, 0.0) + 1 / (constant + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])
