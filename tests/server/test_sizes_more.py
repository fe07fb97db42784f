"""What a request becomes is reckoned before the work, and refused where it is too much."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from embedrt import Embedder
from embedrt.server import answers
from embedrt.server.answers import to_json
from embedrt.server.openai import base64_entry, numbers_entry
from embedrt.server.sizes import BASE64_BYTES, FLOAT_BYTES, size_of_rows, size_of_tokens
from tests.server.serving import Gate, Served, serving, wait_until

FLOATS = arrays.arrays(np.float32, (3, 7), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@dataclass
class Holder:
    held: int = 0


@given(FLOATS)
def test_no_answer_is_larger_than_reckoned(rows: np.ndarray):
    size = size_of_rows([4, 4, 4], [0, 1, 2], 7, written=7, each=FLOAT_BYTES)
    assert len(to_json(rows)) <= size.answer
    assert sum(len(numbers_entry(2047, row)) + 1 for row in rows) <= size.answer
    tokens = size_of_tokens([3], [0], 7)
    assert len(to_json(rows[None])) <= tokens.answer + 2
    packed = size_of_rows([4, 4, 4], [0, 1, 2], 7, written=7, each=BASE64_BYTES)
    assert sum(len(base64_entry(2047, row)) + 1 for row in rows) <= packed.answer + 3 * 2  # base64's padding


def test_requests_of_too_many_tokens_or_bytes_are_refused_before_they_run(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", request_tokens=40, answer_mb=0.001) as server:
        gate = Gate(server.engine)  # nothing could run
        long = ["the water stone " * 3 + word for word in ("light", "river", "house", "bread")]
        for path, body, name in (
            ("/embed", {"inputs": long}, "request_tokens"),
            ("/v1/embeddings", {"input": long}, "request_tokens"),
            ("/similarity", {"inputs": {"source_sentence": "a", "sentences": long}}, "request_tokens"),
            ("/embed", {"inputs": ["stone"] * 9}, "answer_mb"),
            ("/v1/embeddings", {"input": ["stone"] * 9}, "answer_mb"),
            ("/embed_all", {"inputs": ["stone"] * 3}, "answer_mb"),
        ):
            refused = server.post(path, body)
            assert (refused.status_code, name in refused.text) == (413, True), refused.text
        assert gate.batches == []
        gate.remove()
        base64 = server.post("/v1/embeddings", {"input": ["stone"] * 7, "encoding_format": "base64"})
        assert base64.status_code == 200  # takes less than as floats
        assert server.post("/v1/embeddings", {"input": ["stone"] * 7}).status_code == 413
        wait_until(lambda: server.service.budget.held == 0)


def test_rows_are_counted_while_they_are_made(served: Served, lookup_bundle: Path):
    del served
    with serving(lookup_bundle, variant="fp32", answer_mb=50) as server:
        body = {"inputs": [f"stone {i}" for i in range(500)]}
        held: list[int] = []
        original = server.engine.run

        async def run(*given: object) -> object:
            held.append(server.service.budget.held)
            return await original(*given)  # type: ignore[arg-type]

        server.engine.run = run  # type: ignore[method-assign,assignment]
        assert server.post("/embed_all", body).status_code == 200
        rows = 500 * 4 * 8 * 4  # texts, tokens, numbers, bytes
        assert held[0] > rows + len(json.dumps(body))
        wait_until(lambda: server.service.budget.held == 0)


def test_more_ids_than_tokens_are_refused_before_they_are_read(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", token_ids="own", request_tokens=1000, request_texts=10) as server:
        refused = server.post("/embed", b'{"inputs": [' + b"1," * 40_000 + b"1]}")
        assert (refused.status_code, "request_tokens" in refused.text) == (413, True), refused.text


def test_answers_in_pieces_are_the_same(served: Served, library: Embedder, monkeypatch: pytest.MonkeyPatch):
    texts = [f"stone {'water ' * (i % 9)}{i}" for i in range(60)]
    wanted = library.encode(texts, output_value="token_embeddings")
    whole = [served.post(path, {"inputs": texts}) for path in ("/embed", "/embed_all")]
    openai = served.post("/v1/embeddings", {"input": texts})
    assert all("content-length" in answer.headers for answer in (*whole, openai))
    monkeypatch.setattr(answers, "_SLICE_NUMBERS", 24)
    monkeypatch.setattr(answers, "_PIECE_BYTES", 300)
    for path, one in zip(("/embed", "/embed_all"), whole, strict=True):
        pieces = served.post(path, {"inputs": texts})
        assert pieces.headers["transfer-encoding"] == "chunked"
        assert pieces.content == one.content
        assert pieces.headers["x-embedrt-tokens"] == one.headers["x-embedrt-tokens"]
    for row, right in zip(pieces.json(), wanted, strict=True):
        assert np.array_equal(np.array(row, np.float32), right)
    assert served.post("/v1/embeddings", {"input": texts}).json() == openai.json()


def test_clients_of_http_1_0_get_the_length(served: Served, monkeypatch: pytest.MonkeyPatch):
    body = json.dumps({"inputs": [f"stone {i}" for i in range(60)]})
    whole = served.post("/embed", body.encode()).content
    monkeypatch.setattr(answers, "_SLICE_NUMBERS", 24)
    monkeypatch.setattr(answers, "_PIECE_BYTES", 300)
    host, port = served.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert int(answer.headers["Content-Length"]) == len(whole)
    assert answer.read() == whole
    connection.close()
