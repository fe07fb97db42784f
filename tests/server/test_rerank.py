"""Rerankers over HTTP: TEI's, Cohere's and Jina's shapes, a reranker beside an embedder, limits and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Reranker
from tests import tiny
from tests.conftest import Rerankers
from tests.server.serving import Served, serving

DOCUMENTS = list(tiny.CORPUS)


@pytest.fixture(scope="module")
def served(rerankers: Rerankers, tiny_bundle: Path) -> Iterator[Served]:
    """An embedder first, and two models of pairs."""
    names = [f"{name}={rerankers.bundle(name)}" for name in ("bert", "labels")]
    with serving(tiny_bundle, *names, request_texts=64) as made:
        yield made


@pytest.fixture(scope="module")
def reranker(rerankers: Rerankers) -> Iterator[Reranker]:
    with Reranker(rerankers.bundle("bert"), num_threads=1) as made:
        yield made


def test_tei_ranks(served: Served, reranker: Reranker) -> None:
    answer = served.post("/rerank", {"query": "fox", "texts": DOCUMENTS, "return_text": True})
    assert answer.status_code == 200, answer.text
    wanted = reranker.rank("fox", DOCUMENTS, return_documents=True)
    assert [(one["index"], one["text"]) for one in answer.json()] == [(w["corpus_id"], w["text"]) for w in wanted]
    np.testing.assert_allclose([one["score"] for one in answer.json()], [w["score"] for w in wanted], atol=1e-6)
    raw = served.post("/rerank", {"query": "fox", "texts": DOCUMENTS, "raw_scores": True}).json()
    logits = reranker.rank("fox", DOCUMENTS, activation_fn="identity")
    np.testing.assert_allclose([one["score"] for one in raw], [w["score"] for w in logits], atol=1e-5)
    assert set(raw[0]) == {"index", "score"}


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_coheres_and_jinas_shape(served: Served, reranker: Reranker, path: str) -> None:
    body = {
        "model": "bert",
        "query": "fox",
        "documents": [DOCUMENTS[0], {"text": DOCUMENTS[1]}, DOCUMENTS[2]],
        "top_n": 2,
    }
    answer = served.post(path, {**body, "return_documents": True})
    assert answer.status_code == 200, answer.text
    wanted = reranker.rank("fox", DOCUMENTS[:3], top_k=2)
    found = answer.json()["results"]
    assert [(one["index"], one["document"]["text"]) for one in found] == [
        (w["corpus_id"], DOCUMENTS[w["corpus_id"]]) for w in wanted
    ]
    np.testing.assert_allclose([one["relevance_score"] for one in found], [w["score"] for w in wanted], atol=1e-6)
    assert answer.json()["usage"]["total_tokens"] > 0


def test_predictions(served: Served, rerankers: Rerankers) -> None:
    with Reranker(rerankers.bundle("labels"), num_threads=1) as reranker:
        pairs = [["fox", "dog"], ["fox", "fox"]]
        soft = reranker.predict(pairs, activation_fn="softmax")
        answer = served.post("/predict", {"inputs": pairs, "model": "labels"}).json()
        for row, wanted in zip(answer, soft, strict=True):
            assert [one["score"] for one in row] == pytest.approx(sorted(wanted, reverse=True), abs=1e-6)
            assert row[0]["label"] == reranker.labels[int(wanted.argmax())]
        (single, raw) = (
            served.post("/predict", {"inputs": pairs[0], "model": "labels", "raw_scores": raw}).json()
            for raw in (False, True)
        )
        assert single == answer[0]
        logits = reranker.predict(pairs[0], activation_fn="identity")
        assert [one["score"] for one in raw] == pytest.approx(sorted(logits, reverse=True), abs=1e-5)


def test_embeddings_go_on_beside_them(served: Served) -> None:
    assert served.post("/embed", {"inputs": "fox"}).status_code == 200
    assert served.post("/v1/embeddings", {"input": "fox", "model": served.engine.name}).status_code == 200
    assert served.get("/metrics").status_code == served.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/rerank", {"query": "fox", "texts": []}, 400, "texts must not be empty"),
        ("/v1/rerank", {"query": "fox", "documents": []}, 400, "documents must not be empty"),
        ("/v2/rerank", {"query": "fox"}, 400, "documents must not be empty"),
        ("/rerank", {"query": "fox " * 80, "texts": ["dog"]}, 413, "the query has 83 tokens"),
        ("/rerank", {"query": "fox", "texts": ["dog " * 80], "truncate": False}, 413, "has 84 tokens, the model takes"),
        ("/rerank", {"query": "fox", "texts": ["dog"] * 65}, 413, "64"),
        ("/rerank", {"query": "fox", "texts": ["dog"], "model": "labels"}, 424, "has 3 labels and ranks nothing"),
        ("/rerank", {"query": "fox", "texts": ["dog"], "model": "nobody"}, 404, "there is no model"),
        ("/predict", {"inputs": "fox"}, 422, "inputs must be a pair of texts, or a list of pairs"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "must be a pair of texts"),
        ("/embed", {"inputs": "fox", "model": "bert"}, 424, "scores pairs of texts and embeds none"),
    ],
)
def test_bad_requests(served: Served, path: str, body: dict[str, Any], status: int, message: str) -> None:
    answer = served.post(path, body)
    assert message in answer.text
    assert answer.status_code == status, answer.text


def test_an_embedder_is_no_reranker(served: Served) -> None:
    answer = served.post("/rerank", {"query": "a", "texts": ["b"], "model": served.engine.name})
    assert "is an embedding model" in answer.text
    assert answer.status_code == 424


def test_a_reranker_alone(rerankers: Rerankers) -> None:
    with serving(rerankers.bundle("bert")) as served:
        assert len(served.post("/rerank", {"query": "fox", "texts": DOCUMENTS}).json()) == len(DOCUMENTS)
        assert "scores pairs of texts and embeds none" in served.post("/embed", {"inputs": "fox"}).text
