"""Servers that do not answer, say 503, break off, or send nonsense: what is tried again, and what never is."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.routing.fronting import Fake, fake, free_port, fronting, says, whole
from tests.server.serving import wait_until

SOON = {"check_every_s": 0.05, "check_timeout_s": 0.5}
NEVER = {"check_every_s": 3600, "check_timeout_s": 0.5}
BROKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"


def breaks_off(connection: socket.socket, head: bytes) -> bool:
    """Close without a byte."""
    return False


def test_a_server_that_is_not_there_is_left_out() -> None:
    with fake(says(b"here")) as there, fronting(f"http://127.0.0.1:{free_port()}", there.url, **SOON) as front:
        assert [front.post("/embed", {}).text for _ in range(4)] == ["here"] * 4


def test_no_server_at_all_is_said_at_once() -> None:
    with fronting(f"http://127.0.0.1:{free_port()}", **SOON) as front:
        answer = front.post("/v1/embeddings", {})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["error"]["message"] == "none of 1 servers is ready; the front's log says why"


def test_a_server_that_hangs_is_left_out_in_time() -> None:
    """It takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent, fake(says(b"here")) as there:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with fronting(url, there.url, **SOON) as front:
            assert front.post("/embed", {}).text == "here"
            assert time.monotonic() - begin < 10
            assert "no answer from /health/ready" in front.server(url).why_out


def test_a_server_comes_back() -> None:
    with fake(says(b"here")) as server, fronting(server.url, **SOON) as front:
        server.ready = False
        wait_until(lambda: front.server(server.url).why_out == "a test says so")
        assert front.post("/embed", {}).status_code == 503
        server.ready = True
        wait_until(lambda: front.server(server.url).why_out is None)
        assert front.post("/embed", {}).text == "here"


def test_refused_connections_go_to_the_next() -> None:
    """A server dies between two looks of the watch: its clients notice nothing."""
    with fake(says(b"a")) as first, fake(says(b"b")) as second, fronting(first.url, second.url, **NEVER) as front:
        assert {front.post("/embed", {}).text for _ in range(2)} == {"a", "b"}
        first.close()
        assert [front.post("/embed", {}).text for _ in range(4)] == ["b"] * 4


def test_503_goes_to_the_next_and_the_last_one_is_passed_on() -> None:
    no = says(b"going down", b"503 No", b"Retry-After: 7")
    with fake(no) as first, fake(says(b"b")) as second, fronting(first.url, second.url, **NEVER) as front:
        assert front.post("/embed", {"inputs": "x"}).text == "b"
        assert second.bodies == [b'{"inputs":"x"}']
        assert len(first.heads) == 1
        assert front.post("/embed", {}).text == "b"
        assert len(first.heads) == 1  # it is out until the watch has looked
    with fake(no) as first, fronting(first.url, **NEVER) as front:
        answer = front.post("/embed", {})
        assert (answer.status_code, answer.text, answer.headers["retry-after"]) == (503, "going down", "7")


@pytest.mark.parametrize("status", [b"429 Many", b"500 Bug", b"400 Bad", b"404 Not"])
def test_other_answers_are_final(status: bytes) -> None:
    no = says(b"no", status)
    with fake(no) as first, fake(no) as second, fronting(first.url, second.url, **NEVER) as front:
        assert front.post("/embed", {}).status_code == int(status[:3])
        assert len(first.heads) + len(second.heads) == 1


def test_a_request_that_ends_its_server_is_not_sent_to_the_others() -> None:
    with fake(breaks_off) as first, fake(breaks_off) as second, fronting(first.url, second.url, **NEVER) as front:
        for server in (first, second):  # connections that are new: nothing was kept
            front.server(server.url).upstream.close()
        answer = front.post("/v1/embeddings", {})
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "bad_gateway"
        assert len(first.heads) + len(second.heads) == 1


def test_a_kept_connection_that_was_closed_costs_one_more_try_and_no_more() -> None:
    with contextlib.ExitStack() as stack:
        fakes = [stack.enter_context(fake(breaks_off)) for _ in range(3)]
        front = stack.enter_context(fronting(*(made.url for made in fakes), **NEVER))
        for server in front.app._fleet.servers.values():
            (connection,) = server.upstream._idle
            assert connection.used
        assert front.post("/embed", {}).status_code == 502
        assert sum(len(made.heads) for made in fakes) == 2


def test_a_long_body_is_not_sent_twice() -> None:
    with fake(breaks_off) as first, fake(says(b"b")) as second, fronting(first.url, second.url, **NEVER) as front:
        assert front.post("/embed", b"x" * 200_000).status_code == 502
        assert not second.heads


def test_an_answer_that_breaks_off_is_no_whole_one_for_the_client() -> None:
    def half(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(BROKEN)
        return False

    with fake(half) as server, fronting(server.url, **NEVER) as front:
        with pytest.raises(httpx.TransportError):
            front.post("/embed", {})
        wait_until(lambda: front.server(server.url).load.requests == 0)

    def half_in_chunks(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        return False

    with fake(half_in_chunks) as server, fronting(server.url, **NEVER) as front, pytest.raises(httpx.TransportError):
        front.post("/embed", {})


def test_an_answer_that_stops_coming_ends() -> None:
    def stops(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(BROKEN)
        time.sleep(5)
        return False

    with fake(stops) as server, fronting(server.url, edge={"answer_timeout_s": 0.3}, **NEVER) as front:
        begin = time.monotonic()
        with pytest.raises(httpx.TransportError):
            front.post("/embed", {})
        assert time.monotonic() - begin < 4


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 80_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["no HTTP", "a long head", "no length"],
)  # fmt: skip
def test_nonsense_is_a_bad_gateway(answer: bytes) -> None:
    def nonsense(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(answer)
        return False

    with fake(nonsense) as server, fronting(server.url, **NEVER) as front:
        assert front.post("/embed", {}).status_code == 502
        assert front.client.get("/health/live").status_code == 200


def test_more_than_was_asked_for_is_never_another_clients_answer() -> None:
    def twice(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(whole(b"mine") + whole(b"not yours"))
        return True

    with fake(twice) as server, fronting(server.url, **NEVER) as front:
        assert [front.post("/embed", {}).text for _ in range(3)] == ["mine"] * 3


def test_an_answer_before_the_body_has_ended_is_passed_on() -> None:
    """A server refuses by the head alone, and closes."""

    class Early(Fake):
        def _serve(self, connection: socket.socket) -> None:
            with connection:
                head = connection.recv(65536)
                if head.startswith(b"GET /health"):
                    connection.sendall(whole(b'{"status": "ready", "identities": {"m": "abc"}}'))
                    head = connection.recv(65536)
                if head:
                    connection.sendall(whole(b"too large", b"413 No", b"Connection: close"))
                    time.sleep(0.5)

    server = Early(says(b""))
    try:
        with fronting(server.url, **NEVER) as front:
            answer = front.post("/embed", b"x" * 3_000_000)
            assert (answer.status_code, answer.text) == (413, "too large")
    finally:
        server.close()


def test_times_run_out() -> None:
    def sleeps(connection: socket.socket, head: bytes) -> bool:
        time.sleep(3)
        return False

    with fake(sleeps) as server, fronting(server.url, **NEVER) as front:
        front.app._time_of = lambda headers: 0.2  # type: ignore[method-assign]
        assert front.post("/v1/embeddings", {}).status_code == 504


def test_a_server_without_identities_gets_nothing() -> None:
    with fake(says(b"a")) as server:
        server.identities = {}
        with fronting(server.url, **SOON) as front:
            assert front.post("/embed", {}).status_code == 503
            assert "too old" in front.server(server.url).why_out


def test_a_slow_server_gets_fewer_requests() -> None:
    def slow(connection: socket.socket, head: bytes) -> bool:
        time.sleep(0.05)
        connection.sendall(whole(b"slow"))
        return True

    with fake(slow) as first, fake(says(b"fast")) as second, fronting(first.url, second.url, **NEVER) as front:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: front.post("/embed", {}).text, range(100)))
        assert found.count("fast") > 2 * found.count("slow")
