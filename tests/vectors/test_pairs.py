from __future__ import annotations

import numpy as np
import pytest

from embedrt.similarity import cosine
from embedrt.vectors import pairs
from embedrt.vectors.pairs import pairs_between, pairs_within


def made(num_rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((num_rows, 8)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 4, 64])
def test_all_pairs_of_a_small_set(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_QUERY_ROWS", block)
    vectors = made(9)
    found = pairs_within(vectors, top_k=8, max_pairs=100)
    i, j = np.triu_indices(9, 1)
    expected = cosine(vectors, vectors)[i, j]
    order = np.argsort(-expected)
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == list(
        zip(i[order].tolist(), j[order].tolist(), strict=True)
    )
    np.testing.assert_allclose(found.scores, expected[order], rtol=1e-5)


def test_the_best_are_kept_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_QUERY_ROWS", 3)
    vectors = made(20)
    every, few = pairs_within(vectors, 19, 1000), pairs_within(vectors, 19, 7)
    assert len(few) == 7
    assert few.first.tolist() == every.first[:7].tolist()
    assert few.second.tolist() == every.second[:7].tolist()


def test_a_row_never_pairs_with_itself_nor_twice() -> None:
    vectors = np.repeat(made(2), 5, axis=0)  # five equal rows of each
    found = pairs_within(vectors, top_k=9, max_pairs=1000)
    assert (found.first < found.second).all()
    assert len(set(zip(found.first.tolist(), found.second.tolist(), strict=True))) == len(found) == 45


def test_top_k_bounds_the_pairs_of_equal_rows() -> None:
    found = pairs_within(np.ones((6, 3), np.float32), top_k=1, max_pairs=1000)
    # Each row has one partner: row 0 row 1, and every other row 0.
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, k) for k in range(1, 6)]


def margins(a: np.ndarray, b: np.ndarray, k: int) -> np.ndarray:
    """Equation 2 of arXiv:1811.01136 for every pair, with "ratio"."""
    scores = cosine(a, b)
    of_a = -np.sort(-scores, axis=1)[:, :k].sum(axis=1)
    of_b = -np.sort(-scores.T, axis=1)[:, :k].sum(axis=1)
    return np.asarray(scores / ((of_a[:, None] + of_b[None, :]) / (2 * k)))


def test_margin_is_the_papers() -> None:
    a, b = made(12, 1), made(15, 2)
    found = pairs_between(a, b, k=3, one_to_one=False)
    expected = margins(a, b, 3)
    np.testing.assert_allclose(found.scores, expected[found.first, found.second], rtol=1e-5)


def test_translations_are_found_among_hubs() -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal((200, 16)).astype(np.float32)
    b = a + 0.6 * rng.standard_normal((200, 16)).astype(np.float32)
    b[:20] = a.mean(axis=0) + 0.05 * b[:20]  # hubs: near to everything, and translations of nothing
    order = rng.permutation(200)
    found = pairs_between(a, b[order], k=4)
    right = (order[found.second] == found.first) & (found.first >= 20)
    assert right.sum() > 150
    assert len(set(found.first.tolist())) == len(set(found.second.tolist())) == len(found)
    assert (np.diff(found.scores) <= 0).all()


def test_one_side_may_be_empty_or_smaller_than_k() -> None:
    assert len(pairs_between(made(3), np.empty((0, 8), np.float32))) == 0
    assert len(pairs_between(np.empty((0, 8), np.float32), made(3))) == 0
    assert len(pairs_between(made(1), made(2))) == 1


def test_threshold_and_best() -> None:
    found = pairs_within(made(6), 5, 100)
    least = float(found.scores[3])
    assert len(found.above(least)) == 4
    assert found.best(2).scores.tolist() == found.scores[:2].tolist()


def test_rows_of_any_number_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a block of queries is held beside the files, and the pairs are the same."""
    a, b = (np.random.default_rng(seed).standard_normal((50, 8)).astype(np.float32) for seed in (1, 2))
    whole, held, done = pairs.pairs_between(a, b), [], []
    search = pairs.nearest

    def watched(queries: np.ndarray, *args: object, **options: object) -> object:
        held.append(len(queries))
        return search(queries, *args, **options)

    monkeypatch.setattr(pairs, "nearest", watched)
    monkeypatch.setattr(pairs, "_QUERY_ROWS", 7)
    parts = pairs.pairs_between(a, b, advance=done.append)
    assert max(held) == 7
    assert sum(done) == 100
    for name in ("scores", "first", "second"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6)
