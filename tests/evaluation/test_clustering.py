from __future__ import annotations

import numpy as np

from embedrt.evaluation.clustering import k_means
from embedrt.evaluation.scores import v_measure


def blobs(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), size)
    centres = 10 * rng.standard_normal((count, 16))
    return (centres[labels] + rng.standard_normal((len(labels), 16))).astype(np.float32), labels


def test_groups_that_lie_apart_are_found() -> None:
    vectors, labels = blobs(5, 40)
    found = [v_measure(labels.tolist(), k_means(vectors, 5, seed).tolist()) for seed in range(5)]
    assert max(found) == 1
    assert min(found) > 0.8


def test_a_seed_gives_the_same_clusters() -> None:
    vectors, _ = blobs(3, 30)
    np.testing.assert_array_equal(k_means(vectors, 3, 7), k_means(vectors, 3, 7))


def test_every_vector_is_in_the_cluster_of_the_nearest_mean() -> None:
    vectors, _ = blobs(4, 25)
    labels = k_means(vectors, 4, 1)
    means = np.stack([vectors[labels == k].mean(axis=0) for k in range(4)])
    distances = ((vectors[:, None] - means) ** 2).sum(axis=2)
    np.testing.assert_array_equal(distances.argmin(axis=1), labels)


def test_edges() -> None:
    same = np.ones((6, 3), np.float32)
    assert set(k_means(same, 3, 0).tolist()) <= {0, 1, 2}
    assert k_means(same[:1], 5, 0).tolist() == [0]
    assert k_means(same[:0], 2, 0).tolist() == []
