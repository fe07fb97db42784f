from __future__ import annotations

import numpy as np
import pytest

from embedrt.similarity import cosine
from embedrt.vectors.groups import communities, representatives


def clumps(sizes: list[int], spread: float = 0.05, seed: int = 0) -> np.ndarray:
    """Rows around one random centre per size, in a seeded order."""
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal(16) + spread * rng.standard_normal((size, 16)) for size in sizes]
    return np.concatenate(rows).astype(np.float32)[rng.permutation(sum(sizes))]


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_clumps_are_communities(block: int) -> None:
    found = communities(clumps([12, 5, 8, 1]), 0.9, min_size=5, block_rows=block)
    assert [len(group) for group in found] == [12, 8, 5]
    assert len({row for group in found for row in group}) == 25


def test_a_community_begins_with_its_centre_and_falls_off() -> None:
    vectors = clumps([20], spread=0.2)
    (group,) = communities(vectors, 0.7, min_size=10)
    scores = cosine(vectors[group[:1]], vectors[group])[0]
    assert scores[0] == pytest.approx(1)
    assert (np.diff(scores) <= 1e-6).all()
    assert scores.min() >= 0.7


def test_small_sets_and_none() -> None:
    assert communities(np.empty((0, 4), np.float32), 0.5, 1) == []
    assert communities(np.eye(3, dtype=np.float32), 0.5, 2) == []
    assert communities(np.ones((2, 3), np.float32), 0.5, 10) == [[0, 1]]  # no more is asked than there are rows


@pytest.mark.parametrize("block", [1, 2, 5, 1024])
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.999])
def test_what_remains_is_apart_and_stands_for_the_rest(threshold: float, block: int) -> None:
    vectors = clumps([9, 3, 1, 6, 1], spread=0.15)
    stand_for = representatives(vectors, threshold, block_rows=block)
    scores = cosine(vectors, vectors)
    kept = np.unique(stand_for)
    assert (stand_for[kept] == kept).all()
    assert (stand_for <= np.arange(len(vectors))).all()
    among = scores[np.ix_(kept, kept)]
    assert (among[~np.eye(len(kept), dtype=bool)] < threshold + 1e-6).all()
    for row in np.setdiff1d(np.arange(len(vectors)), kept):
        earlier = kept[kept < row]
        assert stand_for[row] == earlier[scores[row, earlier].argmax()]
        assert scores[row, stand_for[row]] >= threshold - 1e-6
    assert stand_for.tolist() == representatives(vectors, threshold).tolist()


def test_no_rows_have_no_representatives() -> None:
    assert representatives(np.empty((0, 4), np.float32), 0.9).tolist() == []
