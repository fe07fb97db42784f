from __future__ import annotations

import numpy as np
import pytest

from embedrt.vectors import centred as module
from embedrt.vectors.centred import FEW, add_by_group, centred


def drawn(num_rows, width=8, seed=2):
    return np.random.default_rng(seed).standard_normal((num_rows, width)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("block_rows", [7, 16384])
def test_each_group_loses_its_own_mean(monkeypatch, block_rows):
    monkeypatch.setattr(module, "_BLOCK_ROWS", block_rows)
    rows, groups = drawn(60), np.arange(60) % 3
    found = centred(rows, groups)
    for group in range(3):
        own = unit(rows)[groups == group]
        np.testing.assert_allclose(found[groups == group], own - own.mean(axis=0), atol=1e-6)


def test_small_groups_share_a_mean():
    groups = np.array([0] * 20 + [1] * (FEW - 1) + [2] * (FEW - 1))
    rows = drawn(len(groups))
    rest = unit(rows)[20:]
    np.testing.assert_allclose(centred(rows, groups)[20:], rest - rest.mean(axis=0), atol=1e-6)


def test_where_small_groups_are_few_together_the_mean_of_all_is_theirs():
    groups = np.array([0] * 20 + [1, 2, 2])
    rows = unit(drawn(len(groups)))
    np.testing.assert_allclose(centred(rows, groups)[20:], rows[20:] - rows.mean(axis=0), atol=1e-6)


def test_no_rows():
    assert centred(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)).shape == (0, 4)


def test_what_the_groups_differ_by_is_gone_and_the_rest_stays():
    """Rows of two meanings in two languages: the nearest other row is of the same meaning, not of the same language."""
    meaning, language = np.repeat([0, 1], 40), np.tile([0, 1], 40)
    rows = np.eye(8, dtype=np.float32)[meaning] + 3 * np.eye(8, dtype=np.float32)[4 + language] + 0.05 * drawn(80)

    def nearest_means_the_same(vectors):
        alike = unit(vectors) @ unit(vectors).T
        other_language = language[:, None] != language
        best = np.where(other_language, alike, -2).max(axis=1)
        wrong = np.where((meaning[:, None] != meaning) & ~other_language, alike, -2).max(axis=1)
        return (best > wrong).mean()

    assert nearest_means_the_same(rows) == 0
    assert nearest_means_the_same(centred(rows, language)) == 1


@pytest.mark.parametrize("count", [0, 1, 500])
def test_sums_by_group_are_those_of_add_at(count: int) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((count, 5)).astype(np.float32)
    groups = rng.integers(0, 7, count) * 2  # some have no rows
    found, wanted = np.ones((14, 5)), np.ones((14, 5))
    add_by_group(found, groups, rows)
    np.add.at(wanted, groups, rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-14)  # another order of float64 sums
