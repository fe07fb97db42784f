"""Tasks on vectors that are known: a model that looks texts up."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedrt.evaluation.compare import compare
from embedrt.evaluation.tasks import Bitext, Clusters, Prompts, Retrieval, Similarity
from embedrt.progress import NullProgress


class Lookup:
    """Gives each text its vector; remembers how it was asked."""

    similarity_fn_name = "cosine"
    executor = "none"

    def __init__(self, vectors: Mapping[str, list[float]], variant: str = "fp32") -> None:
        self.vectors, self.variant = vectors, variant
        self.asked: list[dict[str, Any]] = []
        self.is_open = True

    def encode_detailed(self, texts, **options):
        assert self.is_open
        self.asked.append(options)
        return SimpleNamespace(embeddings=np.array([self.vectors[text] for text in texts], np.float32))

    def identify(self, **options) -> str:
        return f"{self.variant}-identity"

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.is_open = False


VECTORS = {"a": [1, 0], "b": [0.9, 0.1], "c": [0, 1], "d": [0.1, 0.9], "e": [-1, 0.1]}


def values(metrics) -> dict[str, float]:
    return {metric.name: metric.over(np.arange(metric.num_items)) for metric in metrics}


def test_similarity_is_the_rank_correlation() -> None:
    task = Similarity("pairs", ["a", "a", "a"], ["b", "d", "e"], np.array([5.0, 3.0, 0.0]))
    assert values(task.measure(Lookup(VECTORS), Prompts())) == {"Spearman": pytest.approx(100)}  # type: ignore[arg-type]
    assert (task.size, task.num_texts) == ("3 pairs", 6)


def test_retrieval_ranks_the_corpus_for_each_query() -> None:
    task = Retrieval("qrels", ["a", "c"], ["e", "b", "d"], [{1: 1.0}, {1: 1.0}])
    model = Lookup(VECTORS)
    found = values(task.measure(model, Prompts(query={"kind": "query", "task": "t"})))  # type: ignore[arg-type]
    assert found == {"nDCG@10": pytest.approx(50 * (1 + 1 / np.log2(3))), "recall@10": pytest.approx(100)}
    assert model.asked == [{"kind": "query", "task": "t"}, {"kind": "document"}]


def test_bitext_counts_what_is_mined_and_what_is_nearest() -> None:
    task = Bitext("x, y", ["a", "c", "e"], ["b", "d", "a"])  # the third is no translation
    model = Lookup({**VECTORS, "a": [1, 0], "e": [-1, 0.1]})
    found = values(task.measure(model, Prompts({"prompt": "p"})))  # type: ignore[arg-type]
    assert model.asked == [{"prompt": "p"}]
    # "a" is nearest to "a" of the other side, which stands beside "e": wrong; "c" has "d"; "e" has nothing near.
    assert found["accuracy, A to B"] == pytest.approx(100 / 3)
    assert 0 < found["F1 of mining"] < 100


def test_a_text_that_is_there_twice_is_right_in_either_place() -> None:
    task = Bitext("x, y", ["a", "b", "c"], ["a", "a", "d"])
    found = values(task.measure(Lookup(VECTORS), Prompts()))  # type: ignore[arg-type]
    assert found["accuracy, A to B"] == 100


def test_clusters() -> None:
    task = Clusters("labels", ["a", "b", "c", "d"], ["x", "x", "y", "y"])
    assert values(task.measure(Lookup(VECTORS), Prompts())) == {"V-measure": pytest.approx(100)}  # type: ignore[arg-type]


def test_variants_are_compared_on_the_same_items_and_closed() -> None:
    rng = np.random.default_rng(3)
    texts = [f"t{i}" for i in range(60)]
    vectors = {text: rng.standard_normal(8).tolist() for text in texts}
    noisy = {text: (np.array(vector) + 0.8 * rng.standard_normal(8)).tolist() for text, vector in vectors.items()}
    gold = np.array([np.dot(vectors[a], vectors[b]) for a, b in zip(texts[:30], texts[30:], strict=True)])
    models = [Lookup(vectors), Lookup(noisy, "int8"), Lookup(vectors, "bf16")]
    task = Similarity("pairs", texts[:30], texts[30:], gold)
    found = compare(models, [task], Prompts(), NullProgress(), num_samples=50)  # type: ignore[arg-type]
    assert not any(model.is_open for model in models)
    first, second, third = found.tasks[0].metrics[0].scores
    assert first.to_first is None
    assert second.to_first is not None
    assert second.to_first.value == pytest.approx(second.value.value - first.value.value)
    assert second.to_first.high < 0, "much worse, whatever the sample"
    assert third.to_first is not None
    assert (third.to_first.low, third.to_first.value, third.to_first.high) == (0, 0, 0)
    assert [item.split(" ")[0] for item in found.losses(0.5)] == ["int8"]
    assert found.losses(100) == []
    assert found.to_json()["tasks"][0]["metrics"][0]["scores"][1]["variant"] == "int8"
