"""Groups of a file's vectors: k-means, or HDBSCAN, both of scikit-learn, on vectors of length 1."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.errors import DependencyError, OptionError
from embedrt.pooling import l2_normalize
from embedrt.progress import Progress
from embedrt.vectors.centred import add_by_group
from embedrt.vectors.nearest import blocks
from embedrt.vectors.rows import Floats

NOISE = -1  # the cluster of texts that HDBSCAN puts in none
_BLOCK_ROWS = 16384
_FEW = 20_000  # rows: k-means on all of them, beyond it in mini-batches
_SAMPLE = 100_000  # rows that centres are found on
_CHOICE_SAMPLE, _SILHOUETTE_SAMPLE = 5_000, 2_000  # rows that k is chosen on
_CANDIDATES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50)
_HDBSCAN_ROWS, _HDBSCAN_DIMENSIONS = 50_000, 20


@dataclass(frozen=True)
class How:
    """What is asked for."""

    method: str = "kmeans"  # or hdbscan
    k: int | None = None  # None: chosen by silhouette
    min_size: int = 10  # of a cluster; hdbscan
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """Which cluster each row is in; the largest is cluster 0."""

    labels: NDArray[np.int64]  # (N,) NOISE: in none
    scores: Floats  # (N,) cosine to the cluster's centre; 0 for noise
    sizes: tuple[int, ...]
    told: str  # how they were made, in words

    def central(self, cluster: int, count: int) -> list[int]:
        """The rows nearest to a cluster's centre."""
        rows = np.flatnonzero(self.labels == cluster)
        return [int(row) for row in rows[np.argsort(-self.scores[rows], kind="stable")][:count]]


def import_sklearn() -> Any:
    """scikit-learn's `cluster`; DependencyError says how to install it."""
    try:
        from sklearn import cluster, decomposition, metrics
    except ImportError as exc:
        raise DependencyError("this needs scikit-learn: pip install 'embedrt[analyze]'") from exc
    del decomposition, metrics
    return cluster


def check(how: How, num_distinct: int) -> None:
    """Refuse what cannot be made of so many different texts.

    Raises:
        OptionError: there are fewer of them than clusters asked for.
    """
    if how.k is not None and how.k > num_distinct:
        raise OptionError(f"-k {how.k:,} is over the number of different texts, {num_distinct:,}")


def find_clusters(vectors: Floats, how: How, progress: Progress) -> Clusters:
    """Put each row (N, D) into a cluster.

    Args:
        vectors: may be mapped from a file; a sample of them is held.

    Raises:
        DependencyError: scikit-learn is missing.
        OptionError: there are too many rows for the method.
    """
    import_sklearn()
    if how.method == "hdbscan":
        return _hdbscan(vectors, how, progress)
    sample = _sampled(vectors, _SAMPLE, how.seed)
    k, told = how.k, ""
    if k is None:
        k, told = choose_k(sample, how.seed, progress)
    with progress.step(f"k-means, {k:,} cluster{'s' * (k != 1)}", None):
        centres = _kmeans(sample, k, how.seed).cluster_centers_
        labels = np.concatenate([_assigned(rows, centres) for rows in _unit_blocks(vectors)])
    if len(sample) < len(vectors):
        told += f", centres of {len(sample):,} rows drawn by chance"
    return _ordered(vectors, labels, f"k-means with k = {k:,}{told}")


def choose_k(sample: Floats, seed: int, progress: Progress) -> tuple[int, str]:
    """The number of clusters with the largest mean silhouette (Rousseeuw, 1987) by cosine, and what to say of it.

    Args:
        sample: (N, D) rows of length 1, at least one.
    """
    from sklearn.metrics import silhouette_score

    rows = sample[:_CHOICE_SAMPLE]
    shown = rows[:_SILHOUETTE_SAMPLE]
    num_distinct = len(np.unique(shown, axis=0))
    candidates = [k for k in _CANDIDATES if k <= min(num_distinct - 1, len(shown) // 2)]
    if not candidates:
        return 1, " (too few different texts to choose more)"
    scores = {}
    apart = np.maximum(0, 1 - shown @ shown.T)  # (n, n), once for every k
    np.fill_diagonal(apart, 0)
    with progress.step("choosing k", len(candidates)) as advance:
        for k in candidates:
            labels = _assigned(shown, _kmeans(rows, k, seed, tries=1).cluster_centers_)
            if len(np.unique(labels)) > 1:
                scores[k] = float(silhouette_score(apart, labels, metric="precomputed"))
            advance(1)
    if not scores:
        return 1, " (too few different texts to choose more)"
    ranked = sorted(scores, key=lambda k: (-scores[k], k))
    told = f"chosen by silhouette, {scores[ranked[0]]:.3f}"
    if len(ranked) > 1:
        told += f"; the next best is {ranked[1]} with {scores[ranked[1]]:.3f}"
    return ranked[0], f" ({told})"


def _kmeans(rows: Floats, k: int, seed: int, tries: int = 3) -> Any:
    cluster = import_sklearn()
    if len(rows) <= _FEW:
        model = cluster.KMeans(n_clusters=k, n_init=tries, max_iter=100, random_state=seed)
    else:
        model = cluster.MiniBatchKMeans(n_clusters=k, n_init=tries, batch_size=4096, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer different vectors than clusters: empty ones are left out
        return model.fit(rows)


def _assigned(rows: Floats, centres: Floats) -> NDArray[np.int64]:
    """The nearest centre of each row, by Euclidean distance, as k-means has it."""
    return np.asarray((rows @ centres.T - (centres * centres).sum(axis=1) / 2).argmax(axis=1), np.int64)


def _hdbscan(vectors: Floats, how: How, progress: Progress) -> Clusters:
    """On the first principal components: density says little in hundreds of dimensions, and takes long to find."""
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    if len(vectors) > _HDBSCAN_ROWS:
        raise OptionError(f"--method hdbscan takes at most {_HDBSCAN_ROWS:,} texts, not {len(vectors):,}; use kmeans")
    if len(vectors) < max(2, how.min_size):
        raise OptionError(f"--min-size {how.min_size:,} is over the number of texts, {len(vectors):,}")
    with progress.step("hdbscan", None):
        rows = l2_normalize(np.asarray(vectors))
        width = min(_HDBSCAN_DIMENSIONS, *rows.shape)
        if width < rows.shape[1]:
            rows = PCA(width, random_state=how.seed).fit_transform(rows)
        labels = HDBSCAN(min_cluster_size=how.min_size, copy=True).fit_predict(rows)
    return _ordered(vectors, np.asarray(labels, np.int64), f"HDBSCAN on {width} principal components")


def _ordered(vectors: Floats, labels: NDArray[np.int64], told: str) -> Clusters:
    """Number the clusters by size, and score rows by their centres; empty clusters vanish."""
    found, sizes = np.unique(labels[labels >= 0], return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    place = np.full(int(labels.max(initial=0)) + 2, NOISE)  # the last place is noise's, at index -1
    place[found[order]] = np.arange(len(found))
    labels = place[labels]
    centres = np.zeros((len(found), vectors.shape[1]), np.float64)
    parts = list(blocks(len(vectors), _BLOCK_ROWS))
    for part, rows in zip(parts, _unit_blocks(vectors), strict=True):
        inside = labels[part] != NOISE
        add_by_group(centres, labels[part][inside], rows[inside])
    unit = l2_normalize(centres.astype(np.float32))
    scores = np.zeros(len(vectors), np.float32)
    for part, rows in zip(parts, _unit_blocks(vectors), strict=True):
        inside = labels[part] != NOISE
        scores[part][inside] = (rows[inside] * unit[labels[part][inside]]).sum(axis=1)
    return Clusters(labels, scores, tuple(int(size) for size in sizes[order]), told)


def _sampled(vectors: Floats, most: int, seed: int) -> Floats:
    """At most so many rows of length 1, drawn by chance, in another order than the file's."""
    order = np.random.default_rng(seed).permutation(len(vectors))[:most]
    return l2_normalize(np.asarray(vectors[np.sort(order)]))[np.random.default_rng(seed).permutation(len(order))]


def _unit_blocks(vectors: Floats) -> Iterator[Floats]:
    return (l2_normalize(np.asarray(vectors[part])) for part in blocks(len(vectors), _BLOCK_ROWS))
