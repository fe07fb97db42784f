"""Batching, limits, deadlines, vanishing clients and health, on a held executor where the order matters."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server import prepare
from tests.server.serving import Gate, Served, serving, wait_until

FEW = {"batch_tokens": 16, "queue_tokens": 400}


def vectors(answer: object) -> np.ndarray:
    return np.array([row["embedding"] for row in answer.json()["data"]], dtype=np.float32)


def test_requests_that_wait_are_run_together(served: Served, gate: Gate, library: Embedder):
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(served.post, "/v1/embeddings", {"input": "stone"})
        wait_until(lambda: len(gate.batches) == 1)
        texts = ["water", "light", "river", "house", "bread", "paper", "the", "a"]
        rest = [pool.submit(served.post, "/v1/embeddings", {"input": text}) for text in texts]
        wait_until(lambda: served.engine.waiting_requests == len(texts))
        gate.let(2)
        assert first.result().status_code == 200
        for text, answer in zip(texts, rest, strict=True):
            assert np.array_equal(vectors(answer.result()), library.encode([text]))
    assert gate.batches == [[3], [3] * 8]


def test_a_query_behind_a_huge_request_waits_for_two_batches_at_most(served: Served, gate: Gate, library: Embedder):
    many = [f"water stone {i}" for i in range(2000)]
    with ThreadPoolExecutor(2) as pool:
        bulk = pool.submit(served.post, "/v1/embeddings", {"input": many})
        wait_until(lambda: len(gate.batches) == 1)
        query = pool.submit(served.post, "/v1/embeddings", {"input": "stone"})
        wait_until(lambda: served.engine.waiting_requests == 2)
        gate.let(2)
        assert query.result(10).status_code == 200
        assert len(gate.batches) <= 3
        assert not bulk.done()
        gate.remove()
        assert np.array_equal(vectors(bulk.result(30)), library.encode(many))


def test_equal_texts_are_embedded_once(served: Served, gate: Gate):
    gate.let(100)
    assert served.post("/v1/embeddings", {"input": ["stone"] * 50 + ["water"]}).status_code == 200
    assert gate.batches == [[3, 3]]


def test_a_full_queue_answers_429_with_retry_after(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", **FEW) as server, ThreadPoolExecutor(2) as pool:
        gate = Gate(server.engine)
        running = pool.submit(server.post, "/v1/embeddings", {"input": [f"{i} {i}" for i in range(90)]})
        wait_until(lambda: gate.batches)
        refused = server.post("/v1/embeddings", {"input": [f"{i} {i} stone" for i in range(50)]})
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert "the queue holds 400" in refused.json()["error"]["message"]
        waiting = pool.submit(server.post, "/v1/embeddings", {"input": "stone"})  # a query still finds room
        gate.remove()
        assert waiting.result().status_code == running.result().status_code == 200


def test_late_requests_are_dropped_before_they_are_computed(served: Served, gate: Gate):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(served.post, "/v1/embeddings", {"input": "stone"})
        wait_until(lambda: len(gate.batches) == 1)
        late = served.post("/v1/embeddings", {"input": "the water"}, X_Request_Timeout="0.05")
        assert late.status_code == 504
        assert late.json()["error"]["code"] == "timeout"
        assert served.engine.waiting_requests == 0
        gate.let(5)
        assert first.result().status_code == 200
    assert gate.batches == [[3]]


def test_work_of_vanished_clients_is_dropped(served: Served, gate: Gate):
    body = json.dumps({"input": "the water"}).encode()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(served.post, "/v1/embeddings", {"input": "stone"})
        wait_until(lambda: len(gate.batches) == 1)
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(
                b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            wait_until(lambda: served.engine.waiting_requests == 1)
        wait_until(lambda: served.engine.waiting_requests == 0)
        gate.let(5)
        assert first.result().status_code == 200
    assert gate.batches == [[3]]


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "inf", "1e9"])
def test_a_timeout_must_be_a_number_of_seconds(served: Served, given: str):
    assert served.post("/v1/embeddings", {"input": "a"}, X_Request_Timeout=given).status_code == 400


def test_large_bodies_are_refused_said_or_found_out(lookup_bundle: Path):
    with serving(lookup_bundle, body_mb=0.01) as server:
        said = server.post("/embed", b"x" * 20_000)
        assert (said.status_code, said.json()["error_type"]) == (413, "Validation")
        assert "10000 bytes" in said.json()["error"]
        found = server.client.post("/embed", content=(b"x" * 1000 for _ in range(20)))
        assert found.status_code == 413
        assert server.post("/embed", {"inputs": "a"}).status_code == 200


def test_bodies_in_flight_are_bounded(served: Served, lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", inflight_mb=0.001) as server, ThreadPoolExecutor(1) as pool:
        gate = Gate(server.engine)
        first = pool.submit(server.post, "/embed", {"inputs": "stone " * 140})
        wait_until(lambda: gate.batches)
        assert server.post("/embed", {"inputs": "stone " * 140}).status_code == 429
        gate.remove()
        assert first.result().status_code == 200
        assert server.post("/embed", {"inputs": "stone " * 140}).status_code == 200


def test_slow_bodies_get_408(lookup_bundle: Path):
    with serving(lookup_bundle, body_timeout_s=0.1) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b'POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"inp')
            assert b" 408 " in sock.recv(4096).splitlines()[0]


def test_a_stuck_executor_turns_readiness_off_and_on_again(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", stall_timeout_s=0.05) as server, ThreadPoolExecutor(1) as pool:
        assert server.get("/health/ready").status_code == 200
        gate = Gate(server.engine)
        stuck = pool.submit(server.post, "/embed", {"inputs": "stone"})
        wait_until(lambda: server.get("/health/ready").status_code == 503)
        assert "has not returned" in server.get("/health").json()["error"]
        assert server.get("/health/live").status_code == 200
        gate.remove()
        assert stuck.result().status_code == 200
        assert server.get("/health").status_code == 200


def test_nothing_is_ready_before_the_models_are(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    hold = threading.Event()
    monkeypatch.setattr("embedrt.server.models.warm_up", lambda *_: hold.wait(20))
    with serving(lookup_bundle, ready=False) as server:
        assert server.get("/health/live").status_code == 200
        assert server.get("/health/ready").status_code == 503
        refused = server.post("/v1/embeddings", {"input": "a"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        hold.set()
        wait_until(lambda: server.get("/health/ready").status_code == 200)
        assert server.post("/v1/embeddings", {"input": "a"}).status_code == 200


def test_a_failing_executor_is_an_error_and_the_next_request_works(served: Served, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(served.engine.embedder, "embed_tokens", broken)
        failed = served.post("/v1/embeddings", {"input": ["a", "stone"]})
        assert (failed.status_code, failed.json()["error"]["type"]) == (500, "server_error")
        assert "secret" not in failed.text
        patch.setattr(
            served.engine.embedder, "embed_tokens", lambda ids, _: [np.full(8, np.nan, np.float32) for _ in ids]
        )
        assert "NaN" in served.post("/v1/embeddings", {"input": "a"}).json()["error"]["message"]
    assert served.post("/v1/embeddings", {"input": "a"}).status_code == 200


def test_a_large_request_is_tokenized_in_slices(served: Served, library: Embedder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prepare, "_SLICE_TEXTS", 7)
    texts = [f"water {i % 23}" for i in range(50)]
    assert np.array_equal(vectors(served.post("/v1/embeddings", {"input": texts})), library.encode(texts))


def test_several_models_in_one_process(lookup_bundle: Path, library: Embedder):
    for share in (True, False):
        with serving(f"one={lookup_bundle}", f"two={lookup_bundle}", variant="fp32", share_threads=share) as server:
            assert [row["id"] for row in server.get("/v1/models").json()["data"]][::3] == ["one", "two"]
            with ThreadPoolExecutor(8) as pool:
                bodies = [{"input": f"stone {i}", "model": ("one", "two:query")[i % 2]} for i in range(40)]
                answers = list(pool.map(lambda body: server.post("/v1/embeddings", body), bodies))
            for i, answer in enumerate(answers):
                encode = library.encode_query if i % 2 else library.encode
                assert np.array_equal(vectors(answer), encode([f"stone {i}"]))
                assert answer.headers["x-embedrt-model"] == ("one", "two")[i % 2]
