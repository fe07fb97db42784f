"""Sparse vectors against the same ones spread out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedrt import OptionError
from embedrt import sparse_vectors as module
from embedrt.sparse_vectors import SparseVector, SparseVectors, as_rows, dot_products, norms


def make(seed: int = 0, rows: int = 7, dimension: int = 40, share: float = 0.2) -> SparseVectors:
    rng = np.random.default_rng(seed)
    out = []
    for i in range(rows):
        places = np.flatnonzero(rng.random(dimension) < (0 if i == 2 else share)).astype(np.int32)  # row 2 is empty
        out.append(SparseVector(places, rng.random(len(places)).astype(np.float32) + 0.1, dimension))
    return SparseVectors.of(out, dimension)


def test_rows_are_those_that_were_given() -> None:
    vectors = make()
    dense = vectors.to_dense()
    assert vectors.shape == dense.shape == (7, 40)
    for i, row in enumerate(vectors):
        np.testing.assert_array_equal(row.to_dense(), dense[i])
        assert row.as_dict() == {k: v for k, v in enumerate(dense[i].tolist()) if v}
    np.testing.assert_array_equal(vectors[-1].to_dense(), dense[-1])
    np.testing.assert_array_equal(vectors[1:4].to_dense(), dense[1:4])
    with pytest.raises(IndexError):
        vectors[7]
    assert SparseVectors.of([], 40).shape == (0, 40)
    np.testing.assert_array_equal(vectors.to_scipy().toarray(), dense)
    torch.testing.assert_close(vectors.to_torch().to_dense(), torch.from_numpy(dense))


def test_dot_products_are_those_of_dense_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make(1), make(2, rows=5)
    expected = a.to_dense() @ b.to_dense().T
    np.testing.assert_allclose(dot_products(a, b), expected, rtol=1e-5)
    monkeypatch.setattr(module, "_DENSE_NUMBERS", 80)
    np.testing.assert_allclose(dot_products(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(norms(a), np.linalg.norm(a.to_dense(), axis=1), rtol=1e-6)
    assert dot_products(a, SparseVectors.of([], 40)).shape == (7, 0)
    assert not dot_products(a, b[2:3]).any()
    with pytest.raises(OptionError, match="40 and of 41"):
        dot_products(a, make(dimension=41))


def test_the_strongest_are_kept_in_their_order() -> None:
    row = SparseVector(np.array([2, 5, 9, 11], np.int32), np.array([1, 3, 2, 3], np.float32), 12)
    assert row.strongest(2).as_dict() == {5: 3, 11: 3}
    assert row.strongest(3).indices.tolist() == [5, 9, 11]
    assert row.strongest(9) is row
    assert row.strongest(None) is row


def test_other_things_are_no_sparse_vectors() -> None:
    assert len(as_rows(make()[0])) == 1
    assert len(as_rows([make()[0], make()[1]])) == 2
    with pytest.raises(OptionError, match=r"SparseEncoder\.encode gives, not ndarray"):
        as_rows(np.zeros((2, 3)))
