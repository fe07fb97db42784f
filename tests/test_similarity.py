from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import util

from embedrt.similarity import SIMILARITIES, pairwise

REFERENCES = {
    "cosine": util.cos_sim,
    "dot": util.dot_score,
    "euclidean": util.euclidean_sim,
    "manhattan": util.manhattan_sim,
}


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (7, 2)])
def test_equals_sentence_transformers(name: str, n: int, m: int) -> None:
    rng = np.random.default_rng(n * 10 + m)
    a, b = rng.normal(size=(n, 24)).astype(np.float32), rng.normal(size=(m, 24)).astype(np.float32)
    expected = REFERENCES[name](torch.from_numpy(a), torch.from_numpy(b)).numpy()
    got = SIMILARITIES[name](a, b)
    assert got.shape == (n, m)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_no_vectors_give_an_empty_matrix(name: str, n: int, m: int) -> None:
    got = SIMILARITIES[name](np.ones((n, 4), np.float32), np.ones((m, 4), np.float32))
    assert got.shape == (n, m)


@pytest.mark.parametrize("name", ["cosine", "euclidean", "manhattan"])
def test_a_vector_is_most_like_itself(name: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    assert SIMILARITIES[name](vectors, vectors).argmax(axis=1).tolist() == list(range(9))


def test_cosine_of_a_zero_vector_is_zero() -> None:
    zero, one = np.zeros((1, 4), np.float32), np.ones((1, 4), np.float32)
    assert SIMILARITIES["cosine"](zero, one).tolist() == [[0.0]]


def test_names_are_those_of_sentence_transformers() -> None:
    assert set(SIMILARITIES) == set(REFERENCES)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_pairs_are_the_diagonal(name: str) -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal((4, 6)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(pairwise(name, a, b), np.diag(SIMILARITIES[name](a, b)), rtol=1e-5)
