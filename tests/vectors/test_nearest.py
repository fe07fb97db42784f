from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedrt.errors import OptionError
from embedrt.similarity import SIMILARITIES
from embedrt.vectors.nearest import blocks, nearest


def whole(queries: np.ndarray, corpus: np.ndarray, k: int, name: str) -> np.ndarray:
    """Rows by one matrix and a stable sort: equal scores in the corpus' order."""
    return np.argsort(-SIMILARITIES[name](queries, corpus), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("name", ["dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("k", [1, 3, 16, 17])
def test_blocks_find_what_one_matrix_finds(name: str, k: int) -> None:
    rng = np.random.default_rng(k)
    queries, corpus = (rng.standard_normal((n, 8)).astype(np.float32) for n in (7, 17))
    found = nearest(queries, corpus, k, SIMILARITIES[name], query_rows=3, corpus_rows=5)
    assert found.rows.tolist() == whole(queries, corpus, k, name).tolist()
    expected = np.take_along_axis(SIMILARITIES[name](queries, corpus), found.rows, axis=1)
    # Sums of 8 products of a few units each, added in another order: some roundings of 6e-8 times 10.
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6, atol=5e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40), st.integers(1, 12), st.integers(1, 9))
def test_equal_scores_stay_in_the_corpus_order(values: list[int], k: int, block: int) -> None:
    corpus = np.array(values, np.float32)[:, None]
    query = np.ones((1, 1), np.float32)
    found = nearest(query, corpus, k, SIMILARITIES["dot"], corpus_rows=block)
    assert found.rows.tolist() == whole(query, corpus, k, "dot").tolist()


def test_cosine_needs_no_unit_vectors() -> None:
    rng = np.random.default_rng(0)
    queries, corpus = (rng.standard_normal((n, 6)).astype(np.float32) * 50 for n in (4, 30))
    found = nearest(queries, corpus, 5, corpus_rows=7)
    assert found.rows.tolist() == whole(queries, corpus, 5, "cosine").tolist()
    np.testing.assert_allclose(found.scores, -np.sort(-SIMILARITIES["cosine"](queries, corpus))[:, :5], rtol=1e-5)


@pytest.mark.parametrize(("num_queries", "num_rows"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_is_near_nothing(num_queries: int, num_rows: int) -> None:
    found = nearest(np.empty((num_queries, 4), np.float32), np.ones((num_rows, 4), np.float32), 2)
    assert found.rows.shape == found.scores.shape == (num_queries, min(2, num_rows))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_cannot_be_ranked_is_refused(bad: float) -> None:
    corpus = np.ones((9, 4), np.float32)
    corpus[7, 2] = bad
    with pytest.raises(OptionError, match="NaN or infinity"):
        nearest(np.ones((1, 4), np.float32), corpus, 2, corpus_rows=3)


def test_other_widths_are_refused() -> None:
    with pytest.raises(OptionError, match="4 and of 5"):
        nearest(np.ones((1, 4), np.float32), np.ones((1, 5), np.float32), 1)


def test_blocks_cover_every_row_once() -> None:
    assert [(s.start, s.stop) for s in blocks(7, 3)] == [(0, 3), (3, 6), (6, 7)]
    assert list(blocks(0, 3)) == []
