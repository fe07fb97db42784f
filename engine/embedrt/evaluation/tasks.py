"""What vectors are judged by: tasks with their texts and what is right, to metrics over their items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.evaluation.clustering import k_means
from embedrt.evaluation.estimate import Statistic, mean_of
from embedrt.evaluation.scores import ndcg, recall, spearman, v_measure_of
from embedrt.similarity import SIMILARITIES, pairwise
from embedrt.vectors.nearest import nearest
from embedrt.vectors.pairs import pairs_between

if TYPE_CHECKING:
    from embedrt.embedder import Embedder

PLACES = 10  # of a ranking that count
NUM_CLUSTERINGS = 5  # that a V-measure is the mean of: one alone depends on where it began
_SEED = 20251126


@dataclass(frozen=True)
class Prompts:
    """Keywords of `Embedder.encode_detailed` for each role of a text."""

    alike: Mapping[str, Any] = field(default_factory=dict)  # texts that are compared with their like
    query: Mapping[str, Any] = field(default_factory=lambda: {"kind": "query"})
    document: Mapping[str, Any] = field(default_factory=lambda: {"kind": "document"})


@dataclass(frozen=True)
class Metric:
    """A score from 0 to 100, over items that can be drawn again."""

    name: str
    num_items: int
    over: Statistic


class Task(Protocol):
    """Texts, and what is right."""

    @property
    def name(self) -> str:
        """What it is called, e.g. its file."""

    @property
    def size(self) -> str:
        """What it has, in words."""

    @property
    def num_texts(self) -> int:
        """How many texts are embedded."""

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """Embed the texts and judge the vectors; the first metric is the task's main one."""


@dataclass(frozen=True)
class Similarity:
    """Pairs of texts and how alike people found them."""

    name: str
    first: Sequence[str]
    second: Sequence[str]
    gold: NDArray[np.float64]  # (N,)

    @property
    def size(self) -> str:
        """Pairs."""
        return f"{len(self.gold):,} pairs"

    @property
    def num_texts(self) -> int:
        """Both sides."""
        return 2 * len(self.gold)

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """Spearman's correlation of the model's own similarity with the scores."""
        vectors = _encode(model, [*self.first, *self.second], prompts.alike)
        a, b = np.split(vectors, 2)
        scores = pairwise(model.similarity_fn_name, a, b).astype(np.float64)
        return [Metric("Spearman", len(self.gold), spearman(scores, self.gold))]


@dataclass(frozen=True)
class Retrieval:
    """Queries, a corpus, and which of it answers which query."""

    name: str
    queries: Sequence[str]
    corpus: Sequence[str]
    relevance: Sequence[Mapping[int, float]]  # of each query: row of the corpus -> how relevant

    @property
    def size(self) -> str:
        """Queries and texts."""
        return f"{len(self.queries):,} queries, {len(self.corpus):,} texts"

    @property
    def num_texts(self) -> int:
        """Queries and texts."""
        return len(self.queries) + len(self.corpus)

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """nDCG@10 and recall@10 of the ranking by the model's own similarity."""
        queries = _encode(model, self.queries, prompts.query)
        corpus = _encode(model, self.corpus, prompts.document)
        ranked = nearest(queries, corpus, PLACES, SIMILARITIES[model.similarity_fn_name]).rows.tolist()
        scores = {"nDCG@10": ndcg, "recall@10": recall}
        return [
            Metric(name, len(self.queries), mean_of(100 * score(ranked, self.relevance, k=PLACES)))
            for name, score in scores.items()
        ]


@dataclass(frozen=True)
class Bitext:
    """Two lists of texts; those in the same place translate each other."""

    name: str
    first: Sequence[str]
    second: Sequence[str]

    @property
    def size(self) -> str:
        """Pairs."""
        return f"{len(self.first):,} translations"

    @property
    def num_texts(self) -> int:
        """Both sides."""
        return 2 * len(self.first)

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """F1 of the pairs mined by margin; and how often the nearest text of the other side is the right one.

        A text that is there twice is right in either place.
        """
        vectors = _encode(model, [*self.first, *self.second], prompts.alike)
        a, b = np.split(vectors, 2)
        return [
            self._mined(a, b),
            self._accuracy("accuracy, A to B", a, b, self.second),
            self._accuracy("accuracy, B to A", b, a, self.first),
        ]

    def _accuracy(
        self, name: str, queries: NDArray[np.float32], corpus: NDArray[np.float32], texts: Sequence[str]
    ) -> Metric:
        found = nearest(queries, corpus, 1).rows[:, 0]
        right = np.array([texts[row] == texts[i] for i, row in enumerate(found)], np.float64)
        return Metric(name, len(texts), mean_of(100 * right))

    def _mined(self, a: NDArray[np.float32], b: NDArray[np.float32]) -> Metric:
        pairs = pairs_between(a, b)
        found, right = np.zeros(len(a)), np.zeros(len(a))
        for i, j in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
            found[i] = 1
            right[i] = self.first[j] == self.first[i] or self.second[j] == self.second[i]
        # 2 * right / (found + expected), of the drawn lines
        return Metric("F1 of mining", len(a), lambda i: float(200 * right[i].sum() / (found[i].sum() + len(i))))


@dataclass(frozen=True)
class Clusters:
    """Texts and the groups that people put them in."""

    name: str
    texts: Sequence[str]
    labels: Sequence[str]

    @property
    def size(self) -> str:
        """Texts and groups."""
        return f"{len(self.texts):,} texts, {len(set(self.labels)):,} labels"

    @property
    def num_texts(self) -> int:
        """Texts."""
        return len(self.texts)

    def measure(self, model: Embedder, prompts: Prompts) -> list[Metric]:
        """V-measure of k-means with as many clusters as there are labels, the mean of several beginnings."""
        vectors = _encode(model, self.texts, prompts.alike)
        names, labels = np.unique(np.asarray(self.labels), return_inverse=True)
        clusterings = [k_means(vectors, len(names), _SEED + start) for start in range(NUM_CLUSTERINGS)]

        def over(items: NDArray[np.int64]) -> float:
            return 100 * float(np.mean([v_measure_of(labels[items], clusters[items]) for clusters in clusterings]))

        return [Metric("V-measure", len(labels), over)]


def _encode(model: Embedder, texts: Sequence[str], keywords: Mapping[str, Any]) -> NDArray[np.float32]:
    """Vectors (N, D); texts over the limit are cut, or what the keywords say."""
    found: NDArray[np.float32] = model.encode_detailed(texts, **keywords).embeddings
    return found
