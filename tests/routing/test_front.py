"""A front before real servers: bytes unchanged, one identity behind a name, and limits of its own."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from embedrt import Embedder
from tests.routing.fronting import fronting
from tests.server.serving import Gate, Served, serving, wait_until

BODY = {"input": ["light river", "a stone"], "encoding_format": "base64"}


def test_answers_are_the_servers_own(one: Served, two: Served) -> None:
    with fronting(one.url, two.url) as front:
        direct = one.post("/v1/embeddings", BODY)
        for _ in range(2):  # either server
            through = front.post("/v1/embeddings", BODY, x_request_id="abc")
            assert through.content == direct.content
            assert through.headers["x-embedrt-identity"] == direct.headers["x-embedrt-identity"]
            assert through.headers["x-request-id"] == "abc"
            assert through.headers.get_list("date") == [through.headers["date"]]
        assert {server.load.chosen for server in front.app._fleet.servers.values()} == {1, 2}
        assert all(server.load.tokens == 0 for server in front.app._fleet.servers.values())


def test_paths_queries_errors_and_pages_pass(one: Served) -> None:
    with fronting(one.url) as front:
        for path in ("/v1/models", "/info?model=lookup", "/docs", "/v1/models/nobody", "/no%20path?a=%26&b"):
            through, direct = front.client.get(path), one.get(path)
            assert (through.status_code, through.content) == (direct.status_code, direct.content), path
        assert front.post("/v1/embeddings", b"{").status_code == 400
        assert (
            front.client.head("/v1/models").headers["content-length"] == one.get("/v1/models").headers["content-length"]
        )
        assert front.client.request("HEAD", "/info").status_code == 200
        assert front.client.get("/info").status_code == 200  # the connection is in order after HEAD


@pytest.mark.parametrize("size", [10, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size_and_framing_arrive(one: Served, size: int, chunked: bool) -> None:
    texts = ["light " * 5] * (size // 40 + 1)
    body = str(texts[:2000]).replace("'", '"').encode()
    body = b'{"inputs":' + body + b" " * max(0, size - len(body)) + b"}"
    with fronting(one.url) as front:
        content = iter([body[k : k + 50_000] for k in range(0, len(body), 50_000)]) if chunked else body
        headers = {"content-type": "application/json"}
        through = front.client.post("/embed", content=content, headers=headers)
        assert through.status_code == 200, through.text[:300]
        assert through.content == one.post("/embed", body, content_type="application/json").content


def test_a_server_of_another_identity_gets_nothing(one: Served, two: Served, other: Served) -> None:
    """A rolling update that would put two identities behind a name: the newcomer is refused, and said so."""
    with fronting(one.url, two.url, check_every_s=0.05) as front:
        identity = front.post("/embed", {"inputs": "a"}).headers["x-embedrt-identity"]
        assert front.app._fleet.agreement.settled == one.get("/health/ready").json()["identities"]
    with fronting(one.url, other.url, identities={"lookup": identity}) as front:
        for _ in range(4):
            assert front.post("/embed", {"inputs": "a"}).headers["x-embedrt-identity"] == identity
        assert "--identity" in front.server(other.url).why_out
        page = front.app.metrics.page(front.app._fleet).decode()
        assert f'embedrt_front_server_differs{{server="{other.url}"}} 1.0' in page
        assert f'embedrt_front_server_ready{{server="{other.url}"}} 0.0' in page
        assert f'embedrt_front_server_ready{{server="{one.url}"}} 1.0' in page


def test_servers_that_differ_and_no_pin_serve_nothing(one: Served, other: Served) -> None:
    with fronting(one.url, other.url) as front:
        answer = front.post("/v1/embeddings", BODY)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "not_ready"
        assert front.client.get("/health/ready").status_code == 503
        assert front.client.get("/health/live").status_code == 200


def test_a_new_process_at_the_same_address_is_asked_before_it_gets_a_request(
    one: Served, other: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks of the watch a server is replaced by one with another model."""
    with fronting(one.url, check_every_s=3600) as front:
        assert front.post("/embed", {"inputs": "a"}).status_code == 200
        server = front.server(one.url)
        wait_until(lambda: server.load.requests == 0)  # the connection was taken back
        server.upstream.close()  # as the end of the process would
        monkeypatch.setattr(server.upstream, "address", type(server.upstream.address)(
            one.url, "127.0.0.1", int(other.url.rpartition(":")[2]), server_name="localhost:1"))  # fmt: skip
        before = other.service.metrics.page(other.service.models).count(b'route="/embed"')
        assert front.post("/embed", {"inputs": "a"}).status_code == 503
        assert "must not be mixed" in server.why_out
        assert other.service.metrics.page(other.service.models).count(b'route="/embed"') == before


def test_the_front_tells_its_servers_identities(one: Served) -> None:
    """A front may stand before fronts."""
    with fronting(one.url) as inner, fronting(inner.url) as outer:
        assert outer.post("/embed", {"inputs": "a"}).status_code == 200
        assert outer.client.get("/health/ready").json() == one.get("/health/ready").json()


def test_queries_go_where_fewest_tokens_are(one: Served, two: Served) -> None:
    """Both executors are held; a long request is at one server, so that queries go to the other."""
    gates = [Gate(one.engine), Gate(two.engine)]
    with fronting(one.url, two.url) as front, ThreadPoolExecutor(8) as pool:
        try:
            loads = [server.load for server in front.app._fleet.servers.values()]
            assert [load.tokens for load in loads] == [0, 0]
            bulk = pool.submit(front.post, "/embed", {"inputs": ["light river"] * 500})
            servers = list(front.app._fleet.servers.values())
            wait_until(lambda: sum(server.load.requests for server in servers) == 1)
            queries = [pool.submit(front.post, "/embed", {"inputs": "a"}) for _ in range(3)]
            wait_until(lambda: sum(server.load.requests for server in servers) == 4)
            assert sorted(server.load.requests for server in servers) == [1, 3]
        finally:
            for gate in gates:
                gate.remove()
        assert all(done.result().status_code == 200 for done in [bulk, *queries])
        wait_until(lambda: all(server.load.tokens == 0 for server in servers))


def test_a_client_that_goes_away_frees_its_server(one: Served) -> None:
    gate = Gate(one.engine)
    with fronting(one.url) as front:
        try:
            with socket.create_connection(("127.0.0.1", front.port)) as client:
                client.sendall(
                    b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 14\r\n\r\n" + b'{"inputs":"a"}'
                )
                wait_until(lambda: one.engine.running_for() > 0)
                client.sendall(b"POST /embed")  # and something of another one
            server = front.server(one.url)
            wait_until(lambda: server.load.requests == 0)
            wait_until(lambda: one.service.requests.total == 0)  # its server gave up as well
        finally:
            gate.remove()


def test_bodies_over_the_limit_and_slow_ones_are_refused(one: Served) -> None:
    edge = {"body_mb": 0.1, "idle_timeout_s": 0.2}
    with fronting(one.url, edge=edge) as front:
        answer = front.post("/v1/embeddings", b"x" * 200_000, content_type="application/json")
        assert answer.status_code == 413
        assert "body_mb" in answer.json()["error"]["message"]
        pieces = iter([b"x" * 50_000] * 4)
        assert front.post("/embed", b"{}").status_code == 422  # the connection is in order
        assert front.client.post("/embed", content=pieces).status_code == 413
        with socket.create_connection(("127.0.0.1", front.port)) as client:
            client.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{")
            client.settimeout(10)
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_heads_are_bounded_as_the_servers_are(one: Served) -> None:
    with fronting(one.url) as front, socket.create_connection(("127.0.0.1", front.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000)
        client.settimeout(10)
        assert client.recv(4096).startswith(b"HTTP/1.1 431 ")


def test_a_page_of_another_name_cannot_reach_the_loopback(one: Served) -> None:
    with fronting(one.url) as front:
        assert front.client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 421
    with fronting(one.url, edge={"allowed_hosts": ("models.example",)}) as front:
        assert front.client.get("/v1/models", headers={"Host": "models.example"}).status_code == 200


def test_metrics_are_at_a_port_of_their_own(one: Served) -> None:
    with fronting(one.url) as front:
        assert front.client.get("/metrics").status_code == 404
    with fronting(one.url, edge={"metrics_port": 1}) as front:
        object.__setattr__(front.app._settings.edge, "metrics_port", front.port)  # as if it were that port
        page = front.client.get("/metrics")
        assert page.status_code == 200
        assert "embedrt_front_outstanding_tokens" in page.text
        assert front.client.get("/v1/models").status_code == 404


def test_a_front_that_goes_down_is_not_ready_and_closes_connections(one: Served) -> None:
    with fronting(one.url) as front:
        front.app.draining = True
        assert front.client.get("/health/ready").status_code == 503
        answer = front.post("/embed", {"inputs": "a"})
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"


def test_the_same_bits_as_the_library(one: Served, two: Served, lookup_bundle: str) -> None:
    with fronting(one.url, two.url) as front, Embedder(lookup_bundle, variant="fp32", num_threads=1) as library:
        texts = ["light river", "a stone", "water"]
        found = front.post("/embed", {"inputs": texts}).json()
        assert found == [[float(str(v)) for v in row] for row in library.encode(texts)]


def test_an_end_is_quick_with_idle_connections(one: Served) -> None:
    begin = time.monotonic()
    with fronting(one.url) as front:
        httpx.get(front.url + "/v1/models")
        front.client.get("/v1/models")
    assert time.monotonic() - begin < 10


def test_a_server_of_another_identity_than_pinned_does_not_start(one: Served, lookup_bundle: Path) -> None:
    """What keeps two identities from one name where there is no front: Kubernetes then never finds the pod ready."""
    identity = one.get("/health/ready").json()["identities"]["lookup"]
    with serving(lookup_bundle, variant="fp32", identity=(f"lookup={identity}",)) as same:
        assert same.get("/health/ready").status_code == 200
    with (
        pytest.raises(AssertionError, match=f"lookup must be {identity}"),
        serving(lookup_bundle, variant="int8", identity=(f"lookup={identity}",)),
    ):
        pass


def test_a_server_tells_the_identities_that_its_answers_have(one: Served) -> None:
    told = one.get("/health/ready").json()["identities"]
    assert told == {row["id"]: row["identity"] for row in one.get("/v1/models").json()["data"]}
    for name, identity in told.items():
        assert one.post("/v1/embeddings", {"model": name, "input": "a"}).headers["x-embedrt-identity"] == identity
