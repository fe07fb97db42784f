"""No client takes all: of memory, the queue, threads and requests. Clients are known by the names of their keys."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedrt.server.pool import Pool
from tests.server.attacks import crowd
from tests.server.serving import Gate, Served, serving, wait_until
from tests.server.test_lifecycle import process

KEYS = "# of the staff\nmany:first-secret\nfew: second-secret\nnameless-secret\n"
MANY, FEW = "Authorization: Bearer first-secret", "Authorization: Bearer second-secret"


def key(header: str) -> dict[str, str]:
    name, _, value = header.partition(": ")
    return {name: value}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("keys") / "keys"
    found.write_text(KEYS)
    return found


@pytest.fixture(scope="module")
def shared(lookup_bundle: Path, file: Path) -> Iterator[Served]:
    with serving(lookup_bundle, variant="fp32", api_key_file=str(file)) as made:
        yield made


def port_of(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


def test_nine_stalled_uploads_leave_room_for_others(shared: Served):
    """Everyone else got 429 for 30 s."""
    head = b"POST /embed HTTP/1.1\r\nHost: localhost\r\n%b\r\nContent-Length: 28000000\r\n\r\n" % MANY.encode()
    with contextlib.ExitStack() as stack:
        for _ in range(9):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(shared))))
            sock.sendall(head + b'{"inputs":"')
        wait_until(lambda: shared.service.budget.held > 100e6)
        time.sleep(0.1)
        large = json.dumps({"inputs": ["the water " * 2000] * 100})
        assert shared.post("/embed", large.encode(), **key(FEW)).status_code == 200
        mine = shared.post("/embed", large.encode() + b" " * 25_000_000, **key(MANY))
        assert (mine.status_code, "three times what is left for others" in mine.text) == (429, True)
    wait_until(lambda: shared.service.budget.held == 0)


def test_a_query_goes_before_what_another_client_has_waiting(shared: Served):
    gate = Gate(shared.engine)
    texts = [f"stone {k} " + "water " * 28 for k in range(200)]
    try:
        with ThreadPoolExecutor(22) as pool:
            for k in range(20):  # each fills most of a batch
                pool.submit(shared.post, "/embed", {"inputs": texts[k * 7 : k * 7 + 7]}, **key(MANY))
            wait_until(lambda: len(gate.batches) == 1 and shared.engine.waiting_requests == 19)
            query = pool.submit(shared.post, "/embed", {"inputs": "bread"}, **key(FEW))
            wait_until(lambda: shared.engine.waiting_requests == 20)
            gate.let(2)
            assert query.result(10).status_code == 200
            assert [3 in batch for batch in gate.batches[:2]] == [False, True]
            gate.remove()
    finally:
        gate.remove()


def test_no_client_has_all_requests(lookup_bundle: Path, file: Path):
    with serving(lookup_bundle, variant="fp32", api_key_file=str(file), connections=40) as server:
        gate = Gate(server.engine)
        server.service.requests.limit = 8  # fewer than connections, as with one key from many addresses
        try:
            with ThreadPoolExecutor(12) as pool:
                waiting = [pool.submit(server.post, "/embed", {"inputs": f"{k}"}, **key(MANY)) for k in range(10)]
                wait_until(lambda: sum(one.done() for one in waiting) == 4)
                refused = [one.result() for one in waiting if one.done()]
                assert {one.status_code for one in refused} == {429}
                assert "6 of your requests are in work" in refused[0].text
                assert server.get("/health/ready").status_code == 200
                other = pool.submit(server.post, "/embed", {"inputs": "a"}, **key(FEW))
                gate.remove()
                assert other.result(10).status_code == 200
        finally:
            gate.remove()


def test_a_client_has_no_more_than_two_threads():
    pool = Pool(4)
    free, running = threading.Event(), []

    def work(client: str) -> str:
        running.append(client)
        assert free.wait(10)
        return client

    async def main() -> list[str]:
        tasks = [asyncio.create_task(pool.run("many", work, "many")) for _ in range(20)]
        await asyncio.sleep(0.05)
        tasks.append(asyncio.create_task(pool.run("few", work, "few")))
        while "few" not in running:
            await asyncio.sleep(0.01)
        assert running == ["many", "many", "few"]
        tasks.pop(3).cancel()
        free.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == ["many"] * 19 + ["few"]
    assert not pool._turns
    pool.stop()


def test_names_and_not_keys_are_logged_and_counted(shared: Served, caplog: pytest.LogCaptureFixture):
    logger = logging.getLogger("embedrt.server")
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.DEBUG)
    try:
        assert shared.post("/embed", {"inputs": "the water"}, **key(FEW)).status_code == 200
        assert shared.post("/embed", {"inputs": "a"}, Authorization="Bearer nameless-secret").status_code == 200
        assert shared.post("/embed", {"inputs": "a"}, Authorization="Bearer few").status_code == 401
        wait_until(lambda: sum(record.getMessage() == "request" for record in caplog.records) >= 3)
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(logging.NOTSET)
    facts = [record.fields for record in caplog.records if record.getMessage() == "request"]
    nameless = f"key-{hashlib.sha256(b'nameless-secret').hexdigest()[:8]}"
    assert {row.get("client") for row in facts} == {"few", nameless, None}
    page = shared.get("/metrics", **key(FEW)).text
    assert 'embedrt_client_requests_total{client="few"}' in page
    assert 'embedrt_client_tokens_total{client="few"}' in page
    assert not any("secret" in text for text in (page, str(facts)))


def test_rates_of_a_key(lookup_bundle: Path, file: Path):
    rates = ("many=3 requests/hour", "few=20 tokens/hour")
    with serving(lookup_bundle, variant="fp32", api_key_file=str(file), rates=rates) as server:
        found = [server.post("/embed", {"inputs": "a"}, **key(MANY)) for _ in range(4)]
        assert [one.status_code for one in found] == [200, 200, 200, 429]
        assert int(found[3].headers["retry-after"]) > 1000
        assert "3 requests/hour" in found[3].json()["error"]
        found = [server.post("/v1/embeddings", {"input": f"water stone {k}"}, **key(FEW)) for k in range(5)]
        assert [one.status_code for one in found] == [200, 200, 200, 200, 429]
        assert found[4].json()["error"]["code"] == "rate_limited"
        refused = server.post("/tokenize", {"inputs": "water stone"}, **key(FEW))
        assert (refused.status_code, "20 tokens/hour" in refused.text) == (429, True)


def test_keys_are_no_flag(cli, lookup_bundle: Path):
    assert "No such option" in cli.fails("serve", lookup_bundle, "--api-keys", "secret", code=2)


@pytest.mark.slow
def test_a_crowd_of_one_client_delays_others_little(tmp_path: Path, file: Path, minilm_bundle: Path):
    """64 connections of one-batch requests; the p99 of another client's single query was 774 ms."""
    with process(tmp_path, minilm_bundle, "--api-key-file", file) as server:
        crowded, computed = crowd(server.process.pid, server.port, MANY, FEW)
    assert min(crowded, computed) < 0.12, (crowded, computed)
