"""text-embeddings-inference's API, and Hugging Face's client on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from embedrt import Embedder
from tests.server.serving import Gate, Served, wait_until

TEXTS = ["the water", "stone", "", "light river"]


def test_embed(served: Served, taking_ids: Served, library: Embedder):
    rows = served.post("/embed", {"inputs": TEXTS}).json()
    assert np.array_equal(np.array(rows, np.float32), library.encode(TEXTS))
    one = served.post("/", {"inputs": "the water", "normalize": True, "truncate": True}).json()
    assert np.array_equal(np.array(one, np.float32), library.encode(["the water"]))
    query = served.post("/embed", {"inputs": TEXTS, "prompt_name": "query"}).json()
    assert np.array_equal(np.array(query, np.float32), library.encode_query(TEXTS))
    short = served.post("/embed", {"inputs": TEXTS, "dimensions": 4}).json()
    assert np.array_equal(np.array(short, np.float32), library.encode(TEXTS, truncate_dim=4))
    ids = library.tokenize(TEXTS)
    for inputs in (
        ids,
        [TEXTS[0], ids[1], TEXTS[2], ids[3]],
        [ids[0], TEXTS[1], ids[2], ids[3]],
    ):  # of one sort, or not
        rows = taking_ids.post("/embed", {"inputs": inputs}).json()
        assert np.array_equal(np.array(rows, np.float32), library.encode(TEXTS))


def test_the_hugging_face_client(served: Served, library: Embedder):
    client = InferenceClient(model=served.url)
    for options in ({}, {"normalize": True, "truncate": True, "truncation_direction": "Right"}):
        vector = client.feature_extraction("the water", **options)
        assert np.array_equal(vector[0], library.encode("the water"))
    vector = client.feature_extraction("the water", prompt_name="document")
    assert np.array_equal(vector[0], library.encode_document("the water"))
    with pytest.raises(HfHubHTTPError, match="413"):
        client.feature_extraction("the water", prompt_name="nobody")


def test_token_embeddings(served: Served, library: Embedder):
    rows = served.post("/embed_all", {"inputs": TEXTS}).json()
    wanted = library.encode(TEXTS, output_value="token_embeddings")
    assert [np.shape(row) for row in rows] == [row.shape for row in wanted]
    for row, right in zip(rows, wanted, strict=True):
        assert np.array_equal(np.array(row, np.float32), right)


def test_similarity(served: Served, library: Embedder):
    body = {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}}
    scores = served.post("/similarity", body).json()
    vectors = library.encode(TEXTS)
    assert np.array_equal(np.array(scores, np.float32), library.similarity(vectors[:1], vectors[1:])[0])
    assert InferenceClient(model=f"{served.url}/similarity").sentence_similarity(TEXTS[0], TEXTS[1:]) == scores
    assert served.post("/similarity", body | {"parameters": {"prompt_name": "query"}}).json() != scores


def test_truncation_on_either_side(served: Served, library: Embedder):
    text = "water " + "stone " * 40 + "river"
    right = served.post("/embed", {"inputs": text, "truncate": True})
    assert np.array_equal(np.array(right.json(), np.float32), library.encode(["water " + "stone " * 29]))
    assert right.headers["x-embedrt-truncated"] == "1"
    left = served.post("/embed", {"inputs": text, "truncate": True, "truncation_direction": "Left"})
    assert np.array_equal(np.array(left.json(), np.float32), library.encode(["stone " * 29 + "river"]))
    refused = served.post("/embed", {"inputs": ["a", text], "truncate": False})
    assert refused.status_code == 413
    assert refused.json() == {"error": "text 1: has 44 tokens, the model takes 32", "error_type": "Validation"}


def test_tokenize_and_decode_belong_together(served: Served, library: Embedder):
    pieces = served.post("/tokenize", {"inputs": ["the water", "a"]}).json()
    assert [[piece["id"] for piece in row] for row in pieces] == library.tokenize(["the water", "a"])
    assert pieces[0][:2] == [
        {"id": 1, "text": "<s>", "special": True, "start": None, "stop": None, "token": "<s>"},
        {"id": 4, "text": "the", "special": False, "start": 0, "stop": 3, "token": "the"},
    ]
    bare = served.post("/tokenize", {"inputs": "the water", "add_special_tokens": False}).json()
    assert [piece["text"] for piece in bare[0]] == ["the", "water"]
    ids = [[piece["id"] for piece in row] for row in pieces]
    spelled = ["<s> the water </s>", "<s> a </s>"]  # this tokenizer does not mark its special tokens as such
    assert served.post("/decode", {"ids": ids}).json() == spelled
    assert served.post("/decode", {"ids": ids[0], "skip_special_tokens": False}).json() == spelled[:1]
    assert served.post("/decode", {"ids": [99999]}).status_code == 422


def test_info_says_what_is_served(served: Served, library: Embedder):
    info = served.get("/info").json()
    assert info["model_id"] == "tests/lookup"
    assert (info["max_input_length"], info["dimension"], info["identity"]) == (32, 8, library.identity)
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert served.get("/info?model=nobody").status_code == 404


def test_an_unnormalized_vector_is_what_the_pipeline_has_before_its_last_norm(served: Served, library: Embedder):
    """Haystack's embedders for TEI always send normalize=False."""
    raw = served.post("/embed", {"inputs": TEXTS, "normalize": False, "truncate": False})
    rows = np.array(raw.json(), np.float32)
    pooled = np.stack([row.mean(axis=0) for row in library.encode(TEXTS, output_value="token_embeddings")])
    assert np.array_equal(rows, pooled)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    assert not np.allclose(norms, 1)
    np.testing.assert_allclose(rows / norms, library.encode(TEXTS), atol=1e-6)
    plain = served.post("/embed", {"inputs": TEXTS, "normalize": True})
    assert plain.headers["x-embedrt-identity"] == library.identity
    assert raw.headers["x-embedrt-identity"] != library.identity
    short = served.post("/embed", {"inputs": TEXTS, "normalize": False, "dimensions": 4}).json()
    assert np.array_equal(np.array(short, np.float32), pooled[:, :4])


def test_unnormalized_and_normalized_requests_do_not_share_a_run(served: Served, gate: Gate, library: Embedder):
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(served.post, "/embed", {"inputs": "stone"})
        wait_until(lambda: len(gate.batches) == 1)
        bodies = [{"inputs": "the water", "normalize": normalize} for normalize in (False, True)]
        raw, plain = [pool.submit(served.post, "/embed", body) for body in bodies]
        wait_until(lambda: served.engine.waiting_requests == 2)
        gate.remove()
        assert first.result().status_code == 200
        wanted = library.encode(["the water"])
        assert np.array_equal(np.array(plain.result().json(), np.float32), wanted)
        assert not np.allclose(np.array(raw.result().json(), np.float32), wanted, atol=0.01)


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type"),
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"input": "a"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "nobody"}, 413, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 99}, 413, "Validation"),
        ("/embed", {"inputs": [[3, 4]]}, 422, "Tokenizer"),
        ("/embed", {"inputs": [1, "a"]}, 422, "Validation"),
        ("/embed_all", {"inputs": 3}, 422, "Validation"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, 422, "Validation"),
        ("/tokenize", {"inputs": [3]}, 422, "Validation"),
        ("/decode", {"ids": "a"}, 422, "Validation"),
        ("/decode", {"ids": []}, 400, "Empty"),
        ("/decode", {"ids": [99999]}, 422, "Tokenizer"),
    ],
)
def test_what_is_refused(served: Served, path: str, body: dict[str, object], status: int, error_type: str):
    answer = served.post(path, body)
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type), answer.text


def test_unknown_paths_and_methods(served: Served):
    assert served.get("/nowhere").status_code == 404
    wrong = served.get("/embed")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert served.get("/v1/nowhere").json()["error"]["code"] == "not_found"
