"""The application: a request in, the server with the least to do, its answer out, bytes unchanged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Message, Receive, Scope, Send

from embedrt.routing.bodies import Body
from embedrt.routing.fleet import Fleet
from embedrt.routing.forwarding import Asked, Forwarding
from embedrt.routing.headers import Headers, passed_on, value_of
from embedrt.routing.metrics import CONTENT_TYPE, FrontMetrics
from embedrt.routing.settings import FrontSettings
from embedrt.routing.upstream import Answer, BrokenError, Connection
from embedrt.server.background import Background
from embedrt.server.errors import ServeError, described
from embedrt.server.guard import METRICS, PROBES, is_ours, wanted_hosts
from embedrt.server.logs import log
from embedrt.server.request_ids import request_id

_SLACK_S = 5.0  # beyond a request's own time: the server says itself that it was too late


class Corked(Protocol):
    """What an answer is written to."""

    def cork(self) -> AbstractContextManager[None]:
        """Hold what is written in a `with` block, and send it in one piece at its end."""


class Client(Protocol):
    """Where a request came from: `embedrt.server.wire`'s connection."""

    watchers: set[Callable[[], None]]  # called when the connection is lost
    lost: bool
    corked: Corked
    transport: asyncio.Transport


@dataclass
class Call:
    """What is known of a request; log and metrics are written from it."""

    request_id: str
    began: float = field(default_factory=time.monotonic)
    status: int = 0
    server: str = ""
    error: str = ""


class FrontApp:
    """An ASGI application."""

    def __init__(self, settings: FrontSettings, fleet: Fleet) -> None:
        self._settings = settings
        self._fleet = fleet
        self.metrics = FrontMetrics()
        fleet.on_gone = self.metrics.forget
        self._forwarding = Forwarding(fleet, self.metrics)
        self._hosts = wanted_hosts(settings.edge)
        self.draining = False
        self.requests = 0  # in work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's own beginning and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Watch the servers from beginning to end; the first look comes before the first request."""
        await receive()
        await self._fleet.check()
        background = Background()
        watch = asyncio.create_task(
            background.task("the watch of servers", lambda: self._fleet.watch(self._settings.check_every_s))
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        self._fleet.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(request_id(value_of(scope["headers"], b"x-request-id") or b""))

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                if self.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        self.requests += 1
        try:
            if not await self._own(scope, send_on):
                await self._forward(scope, receive, send_on, call)
        except ServeError as exc:
            call.error = exc.kind
            if exc.kind != "gone":
                await send_error(scope, send_on, exc, call)
        except BrokenError as exc:  # within an answer: its client must not take it for whole
            call.error = "bad_gateway"
            log("an answer was cut off", level=30, server=call.server, reason=str(exc))
            await _cut_off(scope["embedrt.connection"])
        finally:
            self.requests -= 1
            self._report(scope, call)

    async def _own(self, scope: Scope, send: Send) -> bool:
        """Answer what is asked of the front itself."""
        path = scope["path"].rstrip("/")
        on_metrics_port = bool(self._settings.edge.metrics_port) and (
            (scope.get("server") or ("", 0))[1] == self._settings.edge.metrics_port
        )
        if path == "/health/live":
            await send_json(send, 200, {"status": "live"})
            return True
        if path in PROBES:
            if (reason := self.why_not_ready()) is None:
                await send_json(send, 200, {"status": "ready", "identities": self._fleet.agreement.settled})
            else:
                told = {"status": "not ready", "error": reason, "error_type": "Unhealthy"}
                await send_json(send, 503, told, [(b"retry-after", b"1")])
            return True
        if path == METRICS and on_metrics_port:
            await send_whole(send, 200, CONTENT_TYPE.encode(), self.metrics.page(self._fleet))
            return True
        if path == METRICS or on_metrics_port:
            raise ServeError("not_found", "the front's metrics are at its --metrics-port, a server's at the server")
        return False

    def why_not_ready(self) -> str | None:
        """The reason, or None when requests are taken."""
        return "the front is going down" if self.draining else self._fleet.why_not_ready()

    async def _forward(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        headers: Headers = scope["headers"]
        host = (value_of(headers, b"host") or b"").decode("latin-1")
        if self._hosts is not None and not is_ours(host, self._hosts):
            raise ServeError(
                "wrong_host",
                "at the loopback the front answers to localhost and to IP addresses only, so that no web page can "
                "reach it by a name of its own; start it with --allowed-hosts NAME",
            )
        edge, client = self._settings.edge, scope["embedrt.connection"]
        async with there(client):
            said = value_of(headers, b"content-length")
            chunked = value_of(headers, b"transfer-encoding") is not None
            length = int(said) if said is not None and said.isdigit() else None if chunked else 0
            expect = (value_of(headers, b"expect") or b"").decode("latin-1")
            body = Body(receive, length, self._settings.body_bytes, edge.idle_timeout_s, expect)
            try:
                async with asyncio.timeout(edge.body_timeout_s):
                    await body.begin()
            except TimeoutError:
                raise ServeError(
                    "slow_body",
                    f"the body did not come within {edge.body_timeout_s:g} s (body_timeout_s)",
                    headers={"Connection": "close"},
                ) from None
            onward = [row for row in passed_on(headers) if row[0] not in (b"content-length", b"x-request-id")]
            onward.append((b"x-request-id", call.request_id.encode("latin-1")))
            asked = Asked(scope["method"], _target(scope), onward, body, self._time_of(headers))
            async with self._forwarding.answered(asked) as (server, connection, answer):
                call.server = server.name
                await self._pass_back(client, connection, answer, send)

    async def _pass_back(self, client: Client, connection: Connection, answer: Answer, send: Send) -> None:
        """Send an answer on as it comes: what is there in one piece with its head."""
        pieces = connection.pieces()
        piece = await self._next(pieces)
        with client.corked.cork():
            await send({"type": "http.response.start", "status": answer.status, "headers": passed_on(answer.headers)})
            await send({"type": "http.response.body", "body": piece, "more_body": not connection.ended})
        while not connection.ended:
            piece = await self._next(pieces)
            await send({"type": "http.response.body", "body": piece, "more_body": not connection.ended})

    async def _next(self, pieces: AsyncIterator[bytes]) -> bytes:
        limit = self._settings.edge.answer_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await anext(pieces, b"")
        except TimeoutError:
            raise BrokenError(f"nothing came for {limit:g} s") from None

    def _time_of(self, headers: Headers) -> float:
        """Seconds until an answer must begin; what is no number the server refuses."""
        try:
            asked = float(value_of(headers, b"x-request-timeout") or b"nan")
        except ValueError:
            asked = math.nan
        return _SLACK_S + (asked if 0 < asked <= 3600 else self._settings.edge.request_timeout_s)

    def _report(self, scope: Scope, call: Call) -> None:
        seconds = time.monotonic() - call.began
        if scope["path"].rstrip("/") in (*PROBES, METRICS):
            return
        if call.server:
            self.metrics.requests.labels(call.server, str(call.status)).inc()
            self.metrics.seconds.labels(call.server).observe(seconds)
        if call.error:
            self.metrics.refused.labels(call.error).inc()
        facts = {"method": scope["method"], "status": call.status, "server": call.server or "none"}
        facts |= {"error": call.error} if call.error else {}
        log("request", **facts, ms=round(seconds * 1e3, 2), id=call.request_id)


@contextlib.asynccontextmanager
async def there(client: Client) -> AsyncIterator[None]:
    """Work for as long as the client is there: ServeError, "gone", once it is not."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(0 if client.lost else None) as limit:

            def leave() -> None:
                limit.reschedule(loop.time())

            client.watchers.add(leave)
            try:
                yield
            finally:
                client.watchers.discard(leave)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ServeError("gone", "the client left") from None


def _target(scope: Scope) -> bytes:
    """Path and query as they came."""
    query: bytes = scope["query_string"]
    raw: bytes = scope["raw_path"]
    return raw + b"?" + query if query else raw


async def _cut_off(client: Client) -> None:
    """End the client's connection in the middle of an answer."""
    ended = asyncio.Event()
    client.watchers.add(ended.set)
    client.transport.abort()
    if not client.lost:
        await ended.wait()


async def send_error(scope: Scope, send: Send, error: ServeError, call: Call) -> None:
    """The error in the shape of the API that was called."""
    status, body = described(error, scope["path"])
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send_json(send, status, body, [*headers, (b"x-request-id", call.request_id.encode("latin-1"))])


async def send_json(send: Send, status: int, body: object, headers: Headers | None = None) -> None:
    """A value as a JSON answer."""
    await send_whole(send, status, b"application/json", json.dumps(body).encode(), headers)


async def send_whole(send: Send, status: int, kind: bytes, body: bytes, headers: Headers | None = None) -> None:
    """An answer that is there."""
    fixed = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
