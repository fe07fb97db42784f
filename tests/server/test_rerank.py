"""Rerankers over HTTP: TEI's, Cohere's and Jina's shapes, a reranker beside an embedder, limits and bad input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from embedrt import Reranker
from embedrt.pairs import PairCut
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


def test_a_classifier_reads_texts_alone(served: Served, rerankers: Rerankers) -> None:
    with Reranker(rerankers.bundle("labels"), num_threads=1) as reranker:
        wanted = reranker.predict([["fox"], ["fox", "dog"]], activation_fn="softmax")
    mixed = served.post("/predict", {"inputs": [["fox"], ["fox", "dog"]], "model": "labels"}).json()
    for row, scores in zip(mixed, wanted, strict=True):
        assert [one["score"] for one in row] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert served.post("/predict", {"inputs": "fox", "model": "labels"}).json() == mixed[0] != mixed[1]


def test_the_hubs_client_classifies(served: Served, rerankers: Rerankers) -> None:
    """huggingface_hub's shape: `parameters` beside the text, and a list in a list."""
    with Reranker(rerankers.bundle("labels"), num_threads=1) as reranker:
        logits = reranker.predict([["fox"]], activation_fn="identity")[0]
        soft, sigmoids = (reranker.predict([["fox"]], activation_fn=name)[0] for name in ("softmax", "sigmoid"))
        best = [reranker.labels[k] for k in np.argsort(-logits)]
    with serving(rerankers.bundle("labels")) as alone:
        for url in (f"{alone.url}/predict", alone.url):  # POST / is what the model is for
            client = InferenceClient(model=url)
            found = client.text_classification("fox")
            assert [one.label for one in found] == best
            assert [one.score for one in found] == pytest.approx(sorted(soft, reverse=True), abs=1e-6)
            (top,) = client.text_classification("fox", top_k=1, function_to_apply="sigmoid")
            assert (top.label, top.score) == (best[0], pytest.approx(max(sigmoids), abs=1e-6))
            raw = client.text_classification("fox", function_to_apply="none")
            assert [one.score for one in raw] == pytest.approx(sorted(logits, reverse=True), abs=1e-5)
        with pytest.raises(HfHubHTTPError, match="there is no field 'candidate_labels' in parameters"):
            client.zero_shot_classification("fox", candidate_labels=["a", "b"])
    both = {"inputs": "fox", "model": "labels", "raw_scores": True, "parameters": {"function_to_apply": "none"}}
    assert "leave one of them out" in served.post("/predict", both).text


def test_the_root_ranks_where_nothing_embeds(rerankers: Rerankers) -> None:
    with serving(rerankers.bundle("bert")) as alone:
        body = {"query": "fox", "texts": ["dog", "fox"]}
        for path in ("/", "/invocations"):
            assert alone.post(path, body).json() == alone.post("/rerank", body).json()
        assert alone.post("/", {"inputs": "fox"}).status_code == 422


def test_texts_are_cut_on_the_left_where_a_request_says_so(served: Served, reranker: Reranker) -> None:
    """Against the same tokens, given as short texts."""
    words = "dog stone " * 80 + "fox river"
    left = {"query": "fox", "texts": [words], "truncation_direction": "left", "raw_scores": True}
    plain = served.post("/rerank", {**left, "truncation_direction": "right"}).json()
    found = served.post("/rerank", left).json()
    kept = reranker.tokenizer([("fox", words)], "", PairCut(keep_end=True))
    assert found[0]["score"] == pytest.approx(float(reranker.score_tokens(kept)[0, 0]), abs=1e-5)
    assert found[0]["score"] != plain[0]["score"]
    pair = {"inputs": ["fox", words], "raw_scores": True, "truncation_direction": "Left"}
    assert served.post("/predict", pair).json()[0]["score"] == pytest.approx(found[0]["score"], abs=1e-5)


def test_documents_are_cut_at_their_own_limit(served: Served, reranker: Reranker) -> None:
    """So that a document of four words that are tokens has the score of its first two, and uses no more tokens."""
    one, two, three = (token for token in ("fox", "dog", "quick"))
    body = {"query": "fox", "documents": [f"{one} {two} {three}", f"{one} {two}"], "max_tokens_per_doc": 2}
    answer = served.post("/v2/rerank", {**body, "truncate": False}).json()
    first, second = (hit["relevance_score"] for hit in answer["results"])
    assert first == second
    whole = served.post("/v2/rerank", {**body, "max_tokens_per_doc": 50}).json()
    assert answer["usage"]["total_tokens"] < whole["usage"]["total_tokens"]


def test_embeddings_go_on_beside_them(served: Served) -> None:
    assert served.post("/embed", {"inputs": "fox"}).status_code == 200
    assert served.post("/v1/embeddings", {"input": "fox", "model": served.engine.name}).status_code == 200
    assert served.get("/metrics").status_code == served.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/rerank", {"query": "fox", "texts": []}, 400, "texts must not be empty"),
        ("/v1/rerank", {"query": "fox", "documents": []}, 400, "documents must not be empty"),
        ("/v2/rerank", {"query": "fox"}, 422, "the field 'documents' is missing"),
        ("/rerank", {"query": "fox " * 80, "texts": ["dog"]}, 413, "the query has 83 tokens"),
        ("/rerank", {"query": "fox", "texts": ["dog " * 80], "truncate": False}, 413, "has 84 tokens, the model takes"),
        ("/rerank", {"query": "a", "texts": ["b", "b", "dog " * 80], "truncate": False}, 413, "text 2: has 84 tokens"),
        ("/rerank", {"query": "fox", "texts": ["dog"] * 65}, 413, "64"),
        ("/rerank", {"query": "fox", "texts": ["dog"], "model": "labels"}, 424, "has 3 labels and ranks nothing"),
        ("/rerank", {"query": "fox", "texts": ["dog"], "model": "nobody"}, 404, "there is no model"),
        ("/predict", {"inputs": []}, 400, "inputs must not be empty"),
        ("/predict", {"inputs": [["a", "b", "c"]]}, 422, "inputs[0] must be a text in a list, or a pair of texts"),
        ("/predict", {"inputs": [["a"], "b"]}, 422, "inputs[1] must be a text in a list, or a pair of texts"),
        ("/predict", {"inputs": ["a", ["b"]]}, 422, "inputs[0] must be a text in a list, or a pair of texts"),
        ("/rerank", {"query": "a", "texts": ["b"], "top_n": 1}, 413, "top_n does not go with texts"),
        ("/rerank", {"query": "a", "documents": ["b"], "raw_scores": True}, 413, "does not go with documents"),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "max_chunks_per_doc": 9}, 413, "read in one piece"),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "priority": 3}, 413, "priority: requests are ordered"),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "max_tokens_per_doc": 0}, 422, "max_tokens_per_doc"),
        ("/v1/rerank", {"query": "a", "documents": ["b"], "raw_scores": True}, 400, "no field 'raw_scores'"),
        ("/embed", {"inputs": "fox", "model": "bert"}, 424, "bert gives scores of pairs of texts: /rerank or /predict"),
    ],
)
def test_bad_requests(served: Served, path: str, body: dict[str, Any], status: int, message: str) -> None:
    answer = served.post(path, body)
    assert message in answer.text
    assert answer.status_code == status, answer.text


def test_a_model_of_the_wrong_sort_is_the_requests_fault(served: Served) -> None:
    """As OpenAI's clients read it; they try again after a 500."""
    wrong = {"query": "a", "documents": ["b"], "model": served.engine.name}
    for path, body in (("/v1/rerank", wrong), ("/v1/embeddings", {"input": "a", "model": "bert"})):
        answer = served.post(path, body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["code"] == "wrong_model"


def test_an_embedder_is_no_reranker(served: Served) -> None:
    answer = served.post("/rerank", {"query": "a", "texts": ["b"], "model": served.engine.name})
    assert f"{served.engine.name} gives vectors: /embed or /v1/embeddings" in answer.text
    assert answer.status_code == 424


def test_a_reranker_alone(rerankers: Rerankers) -> None:
    with serving(rerankers.bundle("bert")) as served:
        assert len(served.post("/rerank", {"query": "fox", "texts": DOCUMENTS}).json()) == len(DOCUMENTS)
        assert (
            "bert gives scores of pairs of texts: /rerank or /predict" in served.post("/embed", {"inputs": "fox"}).text
        )
