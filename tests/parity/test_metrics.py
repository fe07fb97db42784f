from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from embedrt.errors import NonFiniteError, OptionError
from embedrt.parity import metrics
from embedrt.parity.metrics import (
    MIN_RANK_TEXTS,
    compare,
    correlation,
    cosine_distances,
    is_normalized,
    length_buckets,
    mean_pairwise_cosine,
    normalized,
    ranks,
    spearman_of_similarities,
    top_overlap,
)


def random_vectors(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def test_hand_computed_cosines() -> None:
    reference = np.array([[1, 0], [0, 2]], dtype=np.float32)
    candidate = np.array([[3, 4], [0, 2]], dtype=np.float32)  # cosines 0.6 and 1
    found = compare(reference, candidate)
    assert found.num_texts == 2
    assert found.cosine.mean == pytest.approx(0.8)
    assert found.cosine.min == pytest.approx(0.6)
    assert found.cosine.p01 == pytest.approx(0.604)  # linear: 1 % of the way from 0.6 to 1
    assert found.max_abs_diff == pytest.approx(0.8)  # (0.6, 0.8) - (1, 0)
    assert found.max_norm_error == pytest.approx(4)  # length 5 for 1
    # center (0.5, 0.5): (0.5, -0.5) with (0.1, 0.3), and (-0.5, 0.5) with itself
    assert found.centered is not None
    assert found.centered.min == pytest.approx(-0.1 / np.sqrt(0.5 * 0.1))
    assert found.spearman is None
    assert found.top10_overlap is None


def test_equal_vectors_deviate_by_nothing() -> None:
    vectors = random_vectors(40)
    found = compare(vectors, vectors.copy())
    assert found.cosine.min == 1
    assert found.centered is not None
    assert found.centered.min == 1
    assert (found.max_abs_diff, found.max_norm_error) == (0, 0)
    assert found.spearman == pytest.approx(1, abs=1e-15)
    assert found.top10_overlap == 1


def test_only_the_length_error_sees_a_scale() -> None:
    vectors = random_vectors(30)
    found = compare(vectors, 2 * vectors)
    assert found.cosine.min == pytest.approx(1, abs=1e-12)
    assert found.max_norm_error == pytest.approx(1)


def test_zero_vectors_are_no_nan() -> None:
    reference = np.array([[0, 0], [0, 0], [1, 0], [0, 1]], dtype=np.float32)
    candidate = np.array([[0, 0], [1, 0], [0, 0], [0, 1]], dtype=np.float32)
    assert cosine_distances(normalized(reference), normalized(candidate)).tolist() == [0, 1, 1, 0]
    found = compare(reference, candidate)
    numbers = [found.cosine.mean, found.cosine.p01, found.cosine.min, found.max_abs_diff, found.max_norm_error]
    assert found.centered is not None
    assert np.isfinite([*numbers, found.centered.mean, found.centered.p01, found.centered.min]).all()
    assert found.cosine.min == 0
    assert found.max_norm_error == 1


def test_tiny_and_huge_vectors_are_normalized() -> None:
    rows = np.array([[1e-30, 0], [3e38, 3e38]], dtype=np.float32)
    assert np.linalg.norm(normalized(rows), axis=1) == pytest.approx([1, 1])


def test_small_distances_do_not_cancel() -> None:
    angle = 1e-9
    a, b = np.array([[1.0, 0.0]]), np.array([[np.cos(angle), np.sin(angle)]])
    assert cosine_distances(a, b)[0] == pytest.approx(angle**2 / 2, rel=1e-6)


def test_centering_uses_the_whole_corpus_center_for_a_part() -> None:
    reference, candidate = random_vectors(50), random_vectors(50) + 0.1 * random_vectors(50, seed=1)
    center = metrics.corpus_center(reference)
    parts = [compare(reference[i : i + 1], candidate[i : i + 1], center=center) for i in range(50)]
    whole = compare(reference, candidate)
    assert whole.centered is not None
    assert whole.centered.min == pytest.approx(min(part.centered.min for part in parts if part.centered))


def test_one_text_has_no_centered_cosine() -> None:
    vectors = random_vectors(1)
    assert compare(vectors, vectors).centered is None


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3))),
        (np.zeros((2, 3)), np.zeros((2, 4))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(reference: np.ndarray, candidate: np.ndarray) -> None:
    with pytest.raises(OptionError, match=r"must both be \(N, D\)"):
        compare(reference, candidate)


def test_nan_is_refused_by_text() -> None:
    good, bad = random_vectors(3), random_vectors(3)
    bad[2, 1] = np.nan
    with pytest.raises(NonFiniteError, match="text 2"):
        compare(good, bad)
    with pytest.raises(OptionError, match="reference of text 2"):
        compare(bad, good)


def test_ranks_share_ties() -> None:
    assert ranks(np.array([30.0, 10.0, 20.0, 10.0, 10.0])).tolist() == [5, 2, 4, 2, 2]


def test_correlation_of_constants() -> None:
    constant, other = np.ones(4), np.arange(4.0)
    assert correlation(constant, constant) == 1
    assert correlation(constant, other) == 0
    assert correlation(other, -other) == -1


def test_spearman_by_hand() -> None:
    # Similarities 1.0 (0, 1), 0.0 (0, 2), 0.0 (1, 2) against 0.0, 1.0, 0.0: ranks 3, 1.5, 1.5 and 1.5, 3, 1.5.
    a = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    b = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert spearman_of_similarities(a, b) == pytest.approx(-0.5)


@pytest.mark.parametrize("count", [25, 130])
def test_spearman_against_scipy(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = pytest.importorskip("scipy.stats")
    monkeypatch.setattr(metrics, "_CHUNK_ROWS", 32)  # so that 130 rows are several chunks, the last one partial
    a = normalized(random_vectors(count))
    a[3] = a[4]  # exact ties
    b = normalized(a + 0.3 * random_vectors(count, seed=1))
    pairs = list(combinations(range(count), 2))
    expected = stats.spearmanr([a[i] @ a[j] for i, j in pairs], [b[i] @ b[j] for i, j in pairs]).statistic
    assert spearman_of_similarities(a, b) == pytest.approx(expected, abs=1e-6)


def test_ranks_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).integers(0, 20, size=200).astype(np.float64)
    assert ranks(values).tolist() == stats.rankdata(values).tolist()


def test_top_overlap_by_hand() -> None:
    def at(*degrees: float) -> np.ndarray:
        radians = np.deg2rad(degrees)
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)

    a, b = at(0, 10, 50, 65), at(0, 10, 25, 65)
    # Nearest of 0, 1, 2, 3: in `a` 1, 0, 3, 2; in `b` 1, 0, 1, 2. Three of four agree.
    assert top_overlap(a, b, k=1) == 0.75
    assert top_overlap(a, b) == 1  # fewer than ten others: all of them


@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_chunks_do_not_change_ranks(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normalized(random_vectors(60)), normalized(random_vectors(60, seed=1))
    near = [np.argsort(-(v @ v.T) + 9 * np.eye(60), axis=1)[:, :10] for v in (a, b)]
    expected = np.mean([len({*x} & {*y}) / 10 for x, y in zip(*near, strict=True)])
    monkeypatch.setattr(metrics, "_CHUNK_ROWS", chunk)
    assert top_overlap(a, b) == pytest.approx(expected)


def test_rank_metrics_need_texts_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    few, enough = random_vectors(MIN_RANK_TEXTS - 1), random_vectors(MIN_RANK_TEXTS)
    assert compare(few, few).spearman is None
    assert compare(enough, enough).spearman is not None
    monkeypatch.setattr(metrics, "MAX_RANK_TEXTS", 30)
    sizes = []
    monkeypatch.setattr(metrics, "spearman_of_similarities", lambda a, b: float(sizes.append(len(a)) or 1))
    many = random_vectors(100)
    compare(many, many)
    assert sizes == [30]


def test_mean_pairwise_cosine() -> None:
    assert mean_pairwise_cosine(np.array([[1, 0], [0, 5], [0, 1]])) == pytest.approx(1 / 3)
    vectors = random_vectors(20)
    unit = normalized(vectors)
    expected = np.mean([unit[i] @ unit[j] for i, j in combinations(range(20), 2)])
    assert mean_pairwise_cosine(vectors) == pytest.approx(expected)
    assert mean_pairwise_cosine(vectors[:1]) == 0


def test_is_normalized() -> None:
    assert is_normalized(np.array([[1, 0], [0.6, 0.8], [0, 0]], dtype=np.float32))
    assert not is_normalized(np.array([[1, 0], [0.7, 0.8]], dtype=np.float32))


def test_buckets_at_their_edges() -> None:
    counts = [1, 8, 9, 32, 33, 128, 129, 512, 513]
    found = {bucket.label: bucket.indices for bucket in length_buckets(counts, 512)}
    assert found == {"1-8": (0, 1), "9-32": (2, 3), "33-128": (4, 5), "129-512": (6, 7), "cut at 512": (8,)}


@pytest.mark.parametrize(
    ("max_tokens", "labels"),
    [
        (128, ["1-8", "9-32", "33-128", "cut at 128"]),
        (100, ["1-8", "9-32", "33-100", "cut at 100"]),
        (8192, ["1-8", "9-32", "33-128", "129-512", "513-8192", "cut at 8192"]),
    ],
)
def test_buckets_follow_the_limit(max_tokens: int, labels: list[str]) -> None:
    assert [b.label for b in length_buckets([2, 20, 99, 101, 300, 700, 9000], max_tokens)] == labels


def test_empty_buckets_are_left_out() -> None:
    assert [bucket.label for bucket in length_buckets([3, 200], 512)] == ["1-8", "129-512"]
