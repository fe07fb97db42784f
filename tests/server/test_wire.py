"""What a connection may do before anybody knows whose it is: each attack is one that worked once."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.attacks import ask, post
from tests.server.serving import Served, serving, wait_until
from tests.server.test_lifecycle import process

HEAD = b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def quick(lookup_bundle: Path) -> Iterator[Served]:
    """Impatient."""
    times = {"header_timeout_s": 0.4, "idle_timeout_s": 0.4, "answer_timeout_s": 1.5, "body_timeout_s": 2.0}
    with serving(lookup_bundle, variant="fp32", body_mb=1, **times) as made:
        yield made


def port_of(served: Served) -> int:
    return int(served.url.rpartition(":")[2])


def connected(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(served)), timeout=20)


def received(sock: socket.socket) -> bytes:
    """All until the server closes."""
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            data += part
    return bytes(data)


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (HEAD + b"X: " + b"a" * 100_000, 431, b"more than 65536 bytes"),
        (HEAD + b"".join(b"X-%d: a\r\n" % i for i in range(200)), 431, b"more than 128 headers"),
        (b"GET /" + b"a" * 20_000, 414, b"more than 16384 bytes"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 300_000, 400, b"chunks have more than"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 2_000_000, 400, b"chunks have more than"),
        (b"GET /a b c\r\n\r\n", 400, b"Invalid HTTP"),
    ],
)
def test_what_is_too_large_is_refused_by_name(quick: Served, request_: bytes, status: int, said: bytes):
    found, answer = ask(port_of(quick), request_)
    assert (found, said in answer) in ((status, True), (0, False))  # or reset, while the rest was still sent


@pytest.mark.parametrize(("size", "total"), [(1, 6_000), (16, 150_000), (100, 900_000), (65536, 900_000)])
def test_chunks_as_clients_make_them_are_taken(quick: Served, size: int, total: int):
    body = b'{"inputs":"a"' + b" " * total + b"}"
    parts = [body[k : k + size] for k in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    head = HEAD.replace(b"Host", b"Connection: close\r\nHost")
    assert ask(port_of(quick), head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")[0] == 200


def test_small_chunks_of_many_clients_take_turns(quick: Served, monkeypatch: pytest.MonkeyPatch):
    """64 clients that sent a million each held up everybody for seconds."""
    asked: list[object] = []
    turns = quick.service.wire.turns
    monkeypatch.setattr(turns, "ask", lambda loop, go: (asked.append(go), go()))
    body = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert ask(port_of(quick), body + b"1\r\n \r\n" * 300_000)[0] in (0, 400)
    assert asked


def test_a_head_without_end_is_not_kept(served: Served):
    """100 MB of one header took 5.4 s of everybody's time."""
    with connected(served) as sock:
        sock.sendall(HEAD + b"X: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 100_000_000:
                sent += sock.send(b"a" * 65536)
        assert sent < 50_000_000
    assert served.get("/health/live").status_code == 200


def test_trailers_are_bounded_too(quick: Served):
    body = b'{"inputs":"a"}'
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body)
    assert ask(port_of(quick), chunked.replace(b"Host", b"Connection: close\r\nHost") + b"X: a\r\n\r\n")[0] == 200
    found, answer = ask(port_of(quick), chunked + b"".join(b"X-%d: a\r\n" % i for i in range(200)))
    assert (found, b"128 headers" in answer) in ((431, True), (0, False))


@pytest.mark.parametrize(
    ("begin", "status"),
    [(b"", None), (b"GET /hea", 408), (b"\r\n\r\n", None), (HEAD + b"X: a\r\n", 408)],
)
def test_a_head_has_its_time(quick: Served, begin: bytes, status: int | None):
    """However the client drips."""
    with connected(quick) as sock:
        sock.sendall(begin)
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(100):
                time.sleep(0.02)
                if begin:
                    sock.sendall(b"\r\n" if begin.isspace() else b"a")
        answer = received(sock)
    assert time.monotonic() - began < 10
    assert answer.startswith(b"HTTP/1.1 %d" % status) if status and answer else not answer


def test_a_second_head_on_a_connection_has_its_time_too(quick: Served):
    with connected(quick) as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        assert b"408 Request Timeout" in received(sock)


def test_a_body_that_stops_coming(quick: Served):
    with connected(quick) as sock:
        sock.sendall(HEAD + b'Content-Length: 100\r\n\r\n{"inputs":')
        answer = received(sock)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"nothing of it for 0.4 s" in answer
    wait_until(lambda: quick.service.budget.held == 0)


def test_a_body_that_drips(quick: Served):
    with connected(quick) as sock:
        sock.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        with contextlib.suppress(OSError):
            for _ in range(40):
                sock.sendall(b" ")
                time.sleep(0.1)
        assert b"408" in received(sock)


def test_clients_that_do_not_read_are_let_go(lookup_bundle: Path):
    """20 of them held 513 MB."""
    times = {"idle_timeout_s": 0.4, "answer_timeout_s": 1.5}
    with serving(lookup_bundle, variant="fp32", **times) as server, contextlib.ExitStack() as stack:
        request = post("/embed_all", json.dumps({"inputs": ["stone " * 40 + str(i) for i in range(1500)]}).encode())
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port_of(server)))
            sock.sendall(request)
        wait_until(lambda: server.service.budget.held > 0)
        wait_until(lambda: server.service.budget.held == 0)


def test_a_client_that_reads_too_slowly_is_let_go(lookup_bundle: Path):
    """It takes something now and then, so that only the time for all of the answer ends it."""
    times = {"idle_timeout_s": 5.0, "answer_timeout_s": 1.0}
    with serving(lookup_bundle, variant="fp32", **times) as server, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port_of(server)))
        sock.sendall(post("/embed_all", json.dumps({"inputs": [f"stone {i}" for i in range(2000)] * 12}).encode()[:]))
        ended = False
        with contextlib.suppress(ConnectionResetError):
            for _ in range(100):
                if not sock.recv(4096):
                    break
                time.sleep(0.05)
        ended = True
        assert ended
        wait_until(lambda: server.service.budget.held == 0)


def test_the_rest_of_a_body_is_not_read_without_end(lookup_bundle: Path):
    """After an early answer: 401, 415 or 413."""
    with serving(lookup_bundle, variant="fp32", api_keys=("one",), body_mb=1) as server, connected(server) as sock:
        sock.sendall(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 100_000_000:
                sent += sock.send(b" " * 65536)
        assert sent < 20_000_000
    with serving(lookup_bundle, variant="fp32", api_keys=("one",), body_mb=1) as server:
        found, answer = ask(port_of(server), post("/embed", b" " * 900_000))
        assert (found, b"an API key is needed" in answer) == (401, True)  # a client that sends all of it first sees it


def test_requests_that_wait_on_one_connection_are_bounded(served: Served):
    with connected(served) as sock:
        sock.sendall(b"GET /info HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
        assert received(sock).count(b"HTTP/1.1 200") <= 20
    with connected(served) as sock:
        sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 15)
        sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert received(sock).count(b"HTTP/1.1 200") == 16


@pytest.mark.parametrize("count", [120])
def test_idle_sockets_take_no_ones_place(tmp_path: Path, lookup_bundle: Path, count: int):
    """With `ulimit -n 64`."""
    with process(tmp_path, lookup_bundle, "--variant", "fp32", files=64) as server, contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5))
        for _ in range(5):
            assert httpx.get(f"{server.url}/health/live", timeout=10).status_code == 200
            assert httpx.post(f"{server.url}/embed", json={"inputs": "a"}, timeout=10).status_code == 200
        (event, *_) = server.events("connections are full")
        assert event["reason"] == "idle ones are closed for new ones"
        assert "ulimit -n" in str(event["cure"])


def test_connections_at_work_keep_their_place(lookup_bundle: Path):
    with serving(lookup_bundle, variant="fp32", connections=8) as server, contextlib.ExitStack() as stack:
        busy = [stack.enter_context(connected(server)) for _ in range(6)]
        for sock in busy:
            sock.sendall(HEAD + b'Content-Length: 14\r\n\r\n{"inputs":')
        time.sleep(0.2)
        refused, answer = ask(port_of(server), b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (refused, b"too many connections" in answer, b"retry-after: 1" in answer) == (503, True, True)
        for sock in busy:
            sock.sendall(b'"a"}')
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        assert server.get("/health/live").status_code == 200


def test_clients_that_leave_while_their_requests_wait_are_no_errors(tmp_path: Path, lookup_bundle: Path):
    """One after the other is answered to nobody."""
    one = HEAD + b'Content-Length: 14\r\n\r\n{"inputs":"a"}'
    with process(tmp_path, lookup_bundle, "--variant", "fp32") as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leave by a reset
                sock.sendall(one * 16)
        assert httpx.post(f"{server.url}/embed", json={"inputs": "a"}, timeout=10).status_code == 200
        assert [row for row in server.events() if row["level"] == "error"] == []
