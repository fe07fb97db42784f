"""Mixed traffic, a fifth of it bad: no good answer is lost or mixed up, and memory stays."""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server.metrics import resident_bytes
from tests.server.serving import Served, serving, wait_until

WORDS = ["the", "water", "stone", "light", "river", "house", "bread", "paper", "안", "녕", "zzz", "a"]
CLIENTS = 8

BAD_BODIES = [
    (b'{"input": "a"', {400}),
    (b'{"input": [NaN]}', {400}),
    (b'{"input": [[1, 2], [NaN]]}', {400}),
    (b"", {400}),
    (b"\x00\xff", {400}),
    (b"[" * 5000, {400}),
    (b'{"input": {"a": 1}}', {400}),
    (b'{"input": 1}', {400}),
    (b'{"input": [1, 2, 99999]}', {400}),
    (b'{"input": [-1]}', {400}),
    (b'{"input": [1e400]}', {400}),
    (b'{"input": ["a", 7]}', {400}),
    (b'{"input": "a", "model": "nobody"}', {404}),
    (b'{"input": "a", "dimensions": 100}', {400}),
    (b"x" * 200_000, {413}),
]


@dataclass
class Tally:
    """What the clients saw."""

    good: int = 0
    bad: int = 0
    vanished: int = 0


def vanish(served: Served, rng: random.Random) -> None:
    """Leave in the middle of a header, of a body, or before the answer."""
    host, port = served.url.removeprefix("http://").split(":")
    body = json.dumps({"input": [" ".join(rng.choices(WORDS, k=20)) for _ in range(5)]}).encode()
    whole = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(whole[: rng.choice([10, len(whole) - len(body) // 2, len(whole)])])


def client(served: Served, library: Embedder, count: int, seed: int, tally: Tally, errors: list[str]) -> None:
    rng = random.Random(seed)
    with httpx.Client(base_url=served.url, timeout=60) as http:
        for _ in range(count):
            if rng.random() >= 0.2:
                check_good(http, library, rng)
                tally.good += 1
            elif rng.random() < 0.3:
                vanish(served, rng)
                tally.vanished += 1
            else:
                body, statuses = rng.choice(BAD_BODIES)
                try:
                    status = http.post("/v1/embeddings", content=body).status_code
                except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
                    status = 413 if len(body) > 100_000 else 0  # closed while we were still sending
                if status not in statuses:
                    errors.append(f"{body[:40]!r}: {status}")
                tally.bad += 1


def check_good(http: httpx.Client, library: Embedder, rng: random.Random) -> None:
    texts = [
        " ".join(rng.choices(WORDS, k=rng.choice([0, 1, 3, 9, 40]))) for _ in range(rng.choice([1, 1, 1, 2, 7, 30]))
    ]
    kind = rng.choice(["encode", "query", "document"])
    wanted = library.encode_detailed(texts, kind=kind).embeddings
    if rng.random() < 0.5:
        model = "lookup" if kind == "encode" else f"lookup:{kind}"
        answer = http.post("/v1/embeddings", json={"input": texts, "model": model})
        rows = [row["embedding"] for row in answer.json()["data"]]
    else:
        prompt = {} if kind == "encode" else {"prompt_name": kind}
        answer = http.post("/embed", json={"inputs": texts, **prompt})
        rows = answer.json()
    assert answer.status_code == 200
    assert np.array_equal(np.array(rows, np.float32), wanted), "an answer was mixed up"


def run_mixed(served: Served, library: Embedder, total: int, seed: int = 0) -> Tally:
    tally, errors = Tally(), []

    def guarded(number: int) -> None:
        try:
            client(served, library, total // CLIENTS, seed * 100 + number, tally, errors)
        except BaseException as exc:  # seen by the test, not by the thread
            errors.append(repr(exc))

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, Counter(errors).most_common(5)
    return tally


def settled(served: Served) -> None:
    """Nothing is left of anybody's request."""
    engine = served.engine
    wait_until(lambda: not engine.waiting_requests and not engine.batches._pending and not served.service.budget.held)
    assert engine.waiting_tokens == 0


def test_a_fifth_of_bad_requests_spoils_no_good_one(lookup_bundle: Path, library: Embedder):
    with serving(lookup_bundle, variant="fp32", body_mb=0.1, body_timeout_s=2) as served:
        tally = run_mixed(served, library, 400)
        settled(served)
        assert tally.good > 250
        assert tally.bad > 30
        assert tally.vanished > 8
        assert served.get("/health").status_code == 200


@pytest.mark.slow
def test_ten_thousand_mixed_requests_and_flat_memory(lookup_bundle: Path, library: Embedder):
    """After a first round that fills caches and arenas, 10,000 more requests must not grow the process by 48 MB.

    Client and server share this process, so that both are held to it.
    """
    with serving(lookup_bundle, variant="fp32", body_mb=0.1, body_timeout_s=2) as served:
        run_mixed(served, library, 2000, seed=1)
        settled(served)
        gc.collect()
        before = resident_bytes()
        tally = run_mixed(served, library, 10_000, seed=2)
        settled(served)
        gc.collect()
        assert tally.good + tally.bad + tally.vanished == 10_000
        assert resident_bytes() - before < 48e6
