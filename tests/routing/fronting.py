"""A front in a thread of the test's process, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx

from embedrt.routing.app import FrontApp
from embedrt.routing.run import make_front
from embedrt.routing.settings import FrontSettings
from embedrt.server.hosting import http_config, make_wire, protocol_on
from embedrt.server.settings import Settings
from tests.server.serving import hosted

IDENTITIES = {"m": "abc"}
READY = json.dumps({"status": "ready", "identities": IDENTITIES}).encode()
NOT_READY = json.dumps({"status": "not ready", "error": "a test says so"}).encode()


class Fronted:
    """A running front."""

    def __init__(self, app: FrontApp, url: str) -> None:
        self.app = app
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST JSON, or bytes as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.client.post(path, headers={k.replace("_", "-"): v for k, v in headers.items()}, **content)

    def server(self, url: str) -> Any:
        """What the front knows of a server."""
        return self.app._fleet.servers[url]


@contextmanager
def fronting(*servers: str, edge: dict[str, Any] | None = None, **settings: Any) -> Iterator[Fronted]:
    """A front before servers, for the length of a `with` block."""
    chosen = FrontSettings(servers, edge=replace(Settings(grace_s=1), **(edge or {})), **settings)
    app = make_front(chosen)
    protocol = protocol_on(make_wire(chosen.edge, lambda: chosen.edge.connections))
    with hosted(http_config(app, protocol, chosen.edge)) as url:
        made = Fronted(app, url)
        try:
            yield made
        finally:
            made.client.close()


class Fake:
    """A server by a script: what it does with each request that is no question about its health."""

    def __init__(self, answer: Callable[[socket.socket, bytes], bool]) -> None:
        self._answer = answer
        self.ready = True
        self.identities = dict(IDENTITIES)
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    more = connection.recv(65536)
                    if not more:
                        return
                    rest += more
                head, _, rest = rest.partition(b"\r\n\r\n")
                if head.startswith(b"GET /health/ready "):
                    body = READY.replace(b'{"m": "abc"}', json.dumps(self.identities).encode())
                    connection.sendall(whole(body) if self.ready else whole(NOT_READY, b"503 No"))
                    continue
                self.heads.append(head)
                length = next(
                    (int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line), 0
                )
                while len(rest) < length:
                    more = connection.recv(65536)
                    if not more:
                        return
                    rest += more
                self.bodies.append(rest[:length])
                rest = rest[length:]
                if not self._answer(connection, head):
                    return

    def drop(self) -> None:
        """Close every connection that is open."""
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        """Stop as a process that is killed."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()


@contextmanager
def fake(answer: Callable[[socket.socket, bytes], bool]) -> Iterator[Fake]:
    """A server by a script: `answer` is given the connection and a head, and says whether the connection goes on."""
    made = Fake(answer)
    try:
        yield made
    finally:
        made.close()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def whole(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """An answer."""
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body)
    return b"\r\n".join(lines)


def says(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> Callable[[socket.socket, bytes], bool]:
    """A script that always answers so."""

    def answer(connection: socket.socket, head: bytes) -> bool:
        connection.sendall(whole(body, status, *headers))
        return True

    return answer
