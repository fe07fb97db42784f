from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from embedrt.evaluation.scores import f1_of_pairs, ndcg, recall, spearman, v_measure


def test_spearman_is_scipys_times_100() -> None:
    rng = np.random.default_rng(0)
    scores, gold = rng.standard_normal(50), rng.integers(0, 6, 50).astype(float)
    items = rng.integers(0, 50, 80)
    expected = stats.spearmanr(scores[items], gold[items]).statistic
    assert spearman(scores, gold)(items) == pytest.approx(100 * expected)


def test_ndcg_is_scikit_learns() -> None:
    rng = np.random.default_rng(1)
    gains = rng.integers(0, 4, (9, 30)).astype(float)
    scores = rng.standard_normal((9, 30))
    ranked = np.argsort(-scores, axis=1).tolist()
    found = ndcg(ranked, [{j: gain for j, gain in enumerate(row) if gain} for row in gains], k=10)
    np.testing.assert_allclose(found, [metrics.ndcg_score([g], [s], k=10) for g, s in zip(gains, scores, strict=True)])


@pytest.mark.parametrize(
    ("ranked", "relevant", "expected"),
    [
        ([3, 1, 2], {3: 1.0}, (1.0, 1.0)),
        ([1, 3, 2], {3: 1.0}, (1 / np.log2(3), 1.0)),
        ([1, 2, 4], {3: 1.0}, (0.0, 0.0)),
        ([1], {}, (0.0, 0.0)),
        ([], {3: 1.0}, (0.0, 0.0)),
        ([1, 2], {1: 0.0, 2: -1.0}, (0.0, 0.0)),  # judged, and not relevant
        ([5, 6], {5: 1.0, 6: 1.0, 7: 1.0, 8: 1.0}, (None, 0.5)),
    ],
)
def test_ndcg_and_recall_by_hand(
    ranked: list[int], relevant: dict[int, float], expected: tuple[float | None, float]
) -> None:
    if expected[0] is not None:
        assert ndcg([ranked], [relevant])[0] == pytest.approx(expected[0])
    assert recall([ranked], [relevant])[0] == pytest.approx(expected[1])


def test_only_the_first_places_count() -> None:
    assert ndcg([[1, 2, 3]], [{3: 1.0}], k=2)[0] == recall([[1, 2, 3]], [{3: 1.0}], k=2)[0] == 0


def test_f1_of_pairs() -> None:
    assert f1_of_pairs([(0, 0), (1, 2)], [(0, 0), (1, 1), (2, 2)]) == pytest.approx(2 / 5)
    assert f1_of_pairs([], []) == 0


@pytest.mark.parametrize("seed", range(5))
def test_v_measure_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, clusters = rng.integers(0, 4, 60), rng.integers(0, 6, 60)
    assert v_measure(labels.tolist(), clusters.tolist()) == pytest.approx(metrics.v_measure_score(labels, clusters))


def test_v_measure_at_its_ends() -> None:
    assert v_measure(["a", "a", "b"], [1, 1, 0]) == pytest.approx(1)
    assert v_measure(["a", "b"], [0, 0]) == 0
    assert v_measure(["a", "a"], [0, 0]) == 1
    assert v_measure([], []) == 0
