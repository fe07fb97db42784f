"""The outermost layer: request ids, who may ask, headers of every answer, metrics, one log line per request."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedrt.server.answers import PiecesResponse
from embedrt.server.call import Call, Connection
from embedrt.server.door import client_of
from embedrt.server.errors import ServeError, described
from embedrt.server.guard import METRICS, PROBES, Guard
from embedrt.server.logs import LOGGER, log
from embedrt.server.packing import Packed, choose
from embedrt.server.request_ids import request_id
from embedrt.server.service import Service, json_response

_SLASHES = re.compile("/{2,}")


class Front:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, service: Service, routes: Sequence[BaseRoute] = ()) -> None:
        self._app = app
        self._plain = plain_routes(routes)
        self._service = service
        self._guard = Guard(service.settings, service.keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = one_spelling(scope["path"])
        headers = dict(scope["headers"])
        address = (scope.get("client") or ("",))[0]
        call = scope["embedrt.call"] = Call(request_id(headers.get(b"x-request-id", b"")), client=client_of(address))
        began = counted = False
        send_packed = self._packed(send, call, headers)

        async def send_on(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                call.status = message["status"]
                message["headers"] = [*message["headers"], *call.headers()]
                if self._service.health.draining:
                    message["headers"].append((b"connection", b"close"))
            await send_packed(message)

        try:
            call.key = self._guard.check(scope, headers)
            if call.key:
                call.client = f"key {call.key}"
            if scope["path"] not in PROBES:
                counted = self._enter(call)
            route = self._plain.get((scope["method"], scope["path"]))
            if route is None:
                await self._app(scope, receive, send_on)
            else:
                scope["route"] = route
                response: Response = await route.endpoint(Request(scope, receive))
                await _sent(response, scope, receive, send_on)
        except ServeError as exc:
            await error_response(Request(scope), exc)(scope, receive, send_on)
        except Exception as exc:  # a bug: the client learns no details, the log does
            call.error = "failed"
            LOGGER.error("unexpected %s", type(exc).__name__, exc_info=exc)
            if not began:
                failed = ServeError("failed", "internal error; the server's log has it under this X-Request-Id")
                await error_response(Request(scope), failed)(scope, receive, send_on)
        finally:
            self._service.budget.release(call)
            if counted:
                self._service.requests.give(call.client, 1)
            self._report(scope, call, headers)

    def _packed(self, send: Send, call: Call, headers: dict[bytes, bytes]) -> Send:
        """What sends answers, packed where the settings and the client want it."""
        least = self._service.settings.compress_kb * 1e3
        if not least:
            return send
        encoding = choose(headers.get(b"accept-encoding", b"").decode("latin-1"))
        return Packed(send, encoding, math.ceil(least), partial(self._service.pool.run, call.client))

    def _enter(self, call: Call) -> bool:
        """Count a request among those in work: ServeError, 429, where its client has its share, or its rate."""
        requests = self._service.requests
        if not requests.allows(call.client, 1):
            raise ServeError(
                "overloaded",
                f"{requests.held(call.client)} of your requests are in work, of {requests.total} in all; the limit "
                f"(connections) is {requests.limit}, and a client may have three times what it leaves for others",
                headers={"Retry-After": "1"},
            )
        self._service.meters.take(call.client, call.key, "requests", 1, time.monotonic())
        requests.take(call.client, 1)
        return True

    def _report(self, scope: Scope, call: Call, headers: dict[bytes, bytes]) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "") or "other"  # as it was declared: what clients make up fills no table
        seconds = time.monotonic() - call.started
        self._service.metrics.on_request(path, call, seconds)
        if self._service.traces is not None and path not in PROBES:
            self._service.traces.on_request(scope["method"], path, call, seconds, headers)
        level = logging.DEBUG if path in PROBES or path == METRICS else logging.INFO
        if not LOGGER.isEnabledFor(level):
            return
        facts: dict[str, Any] = {"method": scope["method"], "route": path, "status": call.status}
        if call.error:
            facts["error"] = call.error
        facts["ms"] = round(seconds * 1e3, 2)
        log("request", level=level, **facts, **call.facts(), id=call.request_id)


async def _sent(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Send an answer; head and body in one piece where the body is there."""
    if isinstance(response, PiecesResponse):
        await response(scope, receive, send)
        return
    connection: Connection = scope["embedrt.connection"]
    with connection.corked.cork():
        await response(scope, receive, send)


def plain_routes(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], Route]:
    """The routes of which the path is all that must be known: by method and path.

    Starlette's way to them, six layers with a match of each path before, takes a tenth of a short text's time.
    """
    return {
        (method, route.path): route
        for route in routes
        if isinstance(route, Route) and not route.param_convertors
        for method in route.methods or ()
    }


def error_response(request: Request, error: ServeError) -> Response:
    """The error in the shape of the API that was called."""
    call: Call = request.scope["embedrt.call"]
    call.error = error.kind
    status, body = described(error, request.scope["path"])
    return json_response(body, status, error.headers)


def http_error(request: Request, exc: Exception) -> Response:
    """Starlette's own errors (no such path, no such method) in our shape."""
    assert isinstance(exc, HTTPException)
    headers = dict(exc.headers or {})
    path = request.url.path[:200]
    if exc.status_code == 405:
        message = f"{request.method} is not allowed at {path}, but {headers.get('Allow', 'another method')}"
        return error_response(request, ServeError("method_not_allowed", message, headers=headers))
    return error_response(request, ServeError("not_found", f"there is no path {path}; see /docs", headers=headers))


def serve_error(request: Request, exc: Exception) -> Response:
    """A ServeError as an answer."""
    assert isinstance(exc, ServeError)
    return error_response(request, exc)


def one_spelling(path: str) -> str:
    """The path without a slash at its end and without empty parts, which clients make when they join URLs.

    A redirect instead would lose the body with some clients, and name http behind a proxy that ends TLS.
    """
    return _SLASHES.sub("/", path).rstrip("/") or "/"
