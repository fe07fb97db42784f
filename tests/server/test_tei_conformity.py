"""What text-embeddings-inference's published description (docs/openapi.json, 1.7) promises its clients, as far as an
embedding model has it: paths, fields, types and statuses. The schemas are written for what is asserted here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest

from embedrt import Embedder
from tests.server.serving import Served, serving

COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
VECTOR = {"type": "array", "items": {"type": "number"}, "minItems": 1}


def record(required: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **others}}


def rows(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


def or_null(of: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [of, {"type": "null"}]}


INFO = record(
    {
        "model_id": TEXT,
        "model_dtype": TEXT,
        "model_type": record({"embedding": record({"pooling": TEXT})}),
        "max_concurrent_requests": COUNT,
        "max_input_length": COUNT,
        "max_batch_tokens": COUNT,
        "max_client_batch_size": COUNT,
        "auto_truncate": {"type": "boolean"},
        "tokenization_workers": COUNT,
        "version": TEXT,
    },
    model_sha=or_null(TEXT),
    max_batch_requests=or_null(COUNT),
    sha=or_null(TEXT),
    docker_label=or_null(TEXT),
)
TOKEN = record({"id": COUNT, "text": TEXT, "special": {"type": "boolean"}}, start=or_null(COUNT), stop=or_null(COUNT))
ERROR = record(
    {"error": TEXT, "error_type": {"enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]}}
)
LIST = record(
    {
        "object": {"const": "list"},
        "data": rows(
            record({"object": {"const": "embedding"}, "embedding": {"anyOf": [VECTOR, TEXT]}, "index": COUNT})
        ),
        "model": TEXT,
        "usage": record({"prompt_tokens": COUNT, "total_tokens": COUNT}),
    }
)
ANSWERED = [
    ("/embed", {"inputs": "a"}, rows(VECTOR)),
    ("/embed", {"inputs": ["a", [4, 5], "stone"]}, rows(VECTOR)),
    ("/embed", {"inputs": [4, 5]}, rows(VECTOR)),
    ("/embed", {"inputs": ["a"], "normalize": False, "truncate": True, "truncation_direction": "Left",
                "prompt_name": None}, rows(VECTOR)),
    ("/embed", {"inputs": "a", "prompt_name": "query", "truncate": None}, rows(VECTOR)),
    ("/embed_all", {"inputs": ["a", "stone"], "truncate": False, "truncation_direction": "Right"}, rows(rows(VECTOR))),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]},
                     "parameters": {"truncation_direction": "Right", "truncate": False, "prompt_name": None}},
     rows({"type": "number"})),
    ("/tokenize", {"inputs": "the water", "add_special_tokens": True, "prompt_name": None}, rows(rows(TOKEN))),
    ("/tokenize", {"inputs": ["a", "b"]}, rows(rows(TOKEN))),
    ("/decode", {"ids": [4, 5], "skip_special_tokens": True}, rows(TEXT)),
    ("/decode", {"ids": [[4, 5], [6]]}, rows(TEXT)),
    ("/embeddings", {"input": "a", "model": None, "user": None}, LIST),
    ("/v1/embeddings", {"input": ["a", "b"], "encoding_format": "base64"}, LIST),
    ("/invocations", {"inputs": "a"}, rows(VECTOR)),
    ("/", {"inputs": "a"}, rows(VECTOR)),
]  # fmt: skip


@pytest.fixture(scope="module")
def splade(export_outputs: Callable[..., tuple[Path, Path]]) -> Iterator[Served]:
    with serving(export_outputs("splade", variants=("fp32", "int8"))[1], token_ids="own") as made:
        yield made


@pytest.mark.parametrize(("path", "body", "schema"), ANSWERED, ids=[f"{i}{row[0]}" for i, row in enumerate(ANSWERED)])
def test_answers(taking_ids: Served, path: str, body: dict[str, Any], schema: dict[str, Any]):
    answer = taking_ids.post(path, body)
    assert answer.status_code == 200, answer.text
    jsonschema_rs.validate(schema, answer.json())


SPARSE = rows(record({"index": COUNT, "value": {"type": "number"}}))


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": "a"},
        {"inputs": ["a", "fox dog"], "truncate": True, "truncation_direction": "Left", "prompt_name": None},
        {"inputs": ["a", [4, 5]], "truncate": None},
    ],
)
def test_sparse_vectors(splade: Served, body: dict[str, Any]):
    answer = splade.post("/embed_sparse", body)
    assert answer.status_code == 200, answer.text
    jsonschema_rs.validate(rows(SPARSE), answer.json())
    assert len(answer.json()) == (1 if isinstance(body["inputs"], str) else 2)


def test_a_sparse_model_embeds_nothing_else(splade: Served):
    for path in ("/embed", "/embed_all"):
        answer = splade.post(path, {"inputs": "a"})
        jsonschema_rs.validate(ERROR, answer.json())
        assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")
    jsonschema_rs.validate(INFO, splade.get("/info").json())


def test_info(served: Served):
    jsonschema_rs.validate(INFO, served.get("/info").json())


@pytest.mark.parametrize(
    ("path", "body", "status", "error_type"),
    [
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": "stone " * 50, "truncate": False}, 413, "Validation"),
        ("/embed", {"inputs": [[999]]}, 422, "Tokenizer"),
        ("/decode", {"ids": [[999]]}, 422, "Tokenizer"),
        ("/tokenize", {"inputs": []}, 400, "Empty"),
        ("/embed_sparse", {"inputs": "a", "truncate": True}, 424, "Backend"),
        ("/predict", {"inputs": "a"}, 424, "Backend"),
        ("/rerank", {"query": "a", "texts": ["b"]}, 424, "Backend"),
    ],
)
def test_errors(taking_ids: Served, path: str, body: dict[str, Any], status: int, error_type: str):
    answer = taking_ids.post(path, body)
    jsonschema_rs.validate(ERROR, answer.json())
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type)


def test_a_model_that_fails_is_424(served: Served, monkeypatch: pytest.MonkeyPatch):
    nothing = np.full(8, np.nan, np.float32)
    monkeypatch.setattr(served.engine.embedder, "embed_tokens", lambda ids, _: [nothing for _ in ids])
    answer = served.post("/embed", {"inputs": "a"})
    jsonschema_rs.validate(ERROR, answer.json())
    assert (answer.status_code, answer.json()["error_type"]) == (424, "Backend")


def test_paths_that_are_read(served: Served):
    for path in ("/health", "/ping", "/metrics", "/info", "/api-doc/openapi.json"):
        assert served.get(path).status_code == 200
    assert served.get("/api-doc/openapi.json").json() == served.get("/openapi.json").json()


def test_tokens_are_slices_of_the_text_and_special_tokens_of_none(tiny_bundle: Path):
    """A WordPiece tokenizer: its spelling is in small letters and with ##; the slices are the text's own."""
    text = "Hello, jumping Foxes!"
    with serving(tiny_bundle, variant="int8") as server, Embedder(tiny_bundle, variant="int8") as library:
        (tokens,) = server.post("/tokenize", {"inputs": text}).json()
        assert [token["id"] for token in tokens] == library.tokenize(text)[0]
    special = [token for token in tokens if token["special"]]
    assert [token["token"] for token in special] == [tokens[0]["token"], tokens[-1]["token"]]
    for token in special:
        assert (token["start"], token["stop"], token["text"]) == (None, None, token["token"])
    for token in tokens[1:-1]:
        assert token["text"] == text[token["start"] : token["stop"]]
    assert "".join(token["text"] for token in tokens[1:-1]) == text.replace(" ", "")
