"""What a connection may do before anybody knows whose it is: sizes, counts and times of requests and answers.

uvicorn and httptools bound none of them. Here every wait of a connection has an end: for a request's head, between two
pieces of its body that nobody wants anymore, and for a client to take its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from embedrt.server.door import Door, client_of
from embedrt.server.intake import PIECE_BYTES
from embedrt.server.logs import log
from embedrt.server.reading import FlowInTurns, Turns

_LARGE_PIECE = 16 * 1024
_SMALL_PIECE = 4 * 1024  # read at once of what may be a body in chunks, of which these may be 700: half a millisecond
_MANY_CHUNKS = 256  # in one piece: a tenth of a millisecond and more
_SAY_EVERY_S = 5.0
_DRAIN_PAUSE_S = 0.02
_DRAINED_AT_ONCE = 4


@dataclass(frozen=True)
class WireLimits:
    """Of one connection."""

    head_bytes: int = 64 * 1024  # request line and headers
    url_bytes: int = 16 * 1024
    headers: int = 128
    framing_bytes: int = 32 * 1024  # of a body beside what is in it (sizes of chunks, trailers) and a quarter of that
    pipelined: int = 16  # requests that wait for the answer to one before them
    head_s: float = 10.0  # from its first byte, or from the connection's beginning
    stall_s: float = 10.0  # without taking any of an answer
    answer_s: float = 120.0  # for all of an answer, once the client has fallen behind
    drain_bytes: int = 32_000_000  # of a body after its answer, so that clients that read only then see it
    drain_s: float = 5.0


class Corked:
    """A transport that can hold what is written, and then send it in one piece: each piece costs a system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send it, or hold it; where the client has left, neither: uvloop takes it for a bug."""
        if self._held is not None:
            self._held.append(data)
        elif not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and close."""
        self._send()
        self._transport.close()

    @contextlib.contextmanager
    def cork(self) -> Iterator[None]:
        """Hold what is written in a `with` block, and send it at the end."""
        self._held = []
        try:
            yield
        finally:
            self._send()

    def _send(self) -> None:
        held, self._held = self._held, None
        if held:
            self.write(b"".join(held))


class TooMuchError(Exception):
    """A request breaks a limit: status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Wire:
    """What all connections of a process share."""

    def __init__(self, limits: WireLimits, door: Callable[[], Door]) -> None:
        self.limits = limits
        self._make_door = door
        self._door: Door | None = None
        self.open: dict[int, BoundedProtocol] = {}
        self.told: Callable[[int], None] = lambda _: None  # of the number of these, when it changes
        self.buffer = memoryview(bytearray(PIECE_BYTES))
        self.turns = Turns()
        self.draining: set[int] = set()  # connections of which bodies are read that nobody wants anymore
        self.numbers = itertools.count(1)
        self.refused = 0  # connections without an answer but 503, and those closed for others
        self._said = -_SAY_EVERY_S

    @property
    def door(self) -> Door:
        """Made when the first connection comes: what the process has open by then is known."""
        if self._door is None:
            self._door = self._make_door()
        return self._door

    def full(self, now: float, client: str, *, closed: bool) -> None:
        """Say, not too often, that there is no room."""
        self.refused += 1
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            shares = self.door.shares
            log(
                "connections are full", level=30, open=shares.total, limit=shares.limit, of_client=shares.held(client),
                reason="idle ones are closed for new ones" if closed else "none is idle: new ones get 503",
                cure="raise connections, or the limit on open files (ulimit -n)",
            )  # fmt: skip


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits.

    Args:
        wire: limits, and what all connections share.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None, *, wire: Wire
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._wire = wire
        self._number = next(wire.numbers)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._in_head = True
        self._begun = False  # something of a head is there
        self._in_body = False
        self._chunked = False
        self._messages = 0
        self._head_bytes = 0  # of the head that is being read
        self._framing_bytes = 0  # of the body that is being read
        self._chunks = 0  # of it in the piece that is being parsed
        self._drained_bytes = 0
        self.watchers: set[Callable[[], None]] = set()
        self.lost = False
        self._behind_since: float | None = None  # the client takes an answer more slowly than it is made

    # Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self.transport = self.corked = Corked(transport)  # type: ignore[assignment]
        self.flow = FlowInTurns(transport, self._wire.turns, self.loop)
        address = client_of(self.client[0]) if self.client else ""
        entry = self._wire.door.enter(self._number, address)
        if entry.closes is not None and (other := self._wire.open.get(entry.closes)) is not None:
            other.transport.abort()
        if not entry.allowed or entry.closes is not None:
            self._wire.full(self.loop.time(), address, closed=entry.allowed)
        if not entry.allowed:
            self._refuse(503, "too many connections are open", b"retry-after: 1\r\n")
            return
        self._wire.open[self._number] = self
        self._wire.told(len(self._wire.open))
        self._after("head", self._wire.limits.head_s, self._late_head)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.lost = True
        for watcher in tuple(self.watchers):
            watcher()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._wire.open.pop(self._number, None) is not None:
            self._wire.told(len(self._wire.open))
        self._wire.draining.discard(self._number)
        self._wire.door.leave(self._number)
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Nobody has asked for anything for a while."""
        super().timeout_keep_alive_handler()
        self._after("closing", self._wire.limits.stall_s, self.transport.abort)

    # Bytes that come

    @property
    def piece_bytes(self) -> int:
        """So much is read at once; of a body's first piece in the same turn as of its head."""
        return PIECE_BYTES - _SMALL_PIECE if self._in_body and not self._chunked else _SMALL_PIECE

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes from the client, of which nothing is kept."""
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        try:
            self._take(data)
        except TooMuchError as exc:
            self._refuse(exc.status, str(exc))

    def _take(self, part: bytes | memoryview) -> None:
        limits = self._wire.limits
        if self._in_head and "head" not in self._timers:
            self._after("head", limits.head_s, self._late_head)
        before = (self._messages, self._in_head)
        self._chunks = 0
        if self._in_body:
            self._framing_bytes += len(part)  # less what `on_body` finds in it
        self._parse(part)
        if (self._messages, self._in_head) == before and self._in_head:
            self._head_bytes += len(part)
        if self._in_head and self._head_bytes > limits.head_bytes:
            raise TooMuchError(431, f"the request's head has more than {limits.head_bytes} bytes")
        if self._in_body and self._framing_bytes > limits.framing_bytes:
            most = f"{limits.framing_bytes} bytes, and a quarter of what is in them,"
            raise TooMuchError(400, f"the body's chunks have more than {most} around them")
        if self._in_body and self._chunks > _MANY_CHUNKS:  # others have their turn before the rest
            self.flow.pause_reading()
            self.flow.resume_reading()

    def _parse(self, part: bytes | memoryview) -> None:
        """Give the bytes to the parser, which calls back and keeps none of them."""
        raise NotImplementedError

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["embedrt.connection"] = self  # type: ignore[typeddict-unknown-key]
        self._in_head, self._in_body, self._begun = True, False, True
        self._head_bytes = self._framing_bytes = self._drained_bytes = 0
        if "head" not in self._timers:  # it came behind the end of another request
            self._after("head", self._wire.limits.head_s, self._late_head)

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        super().on_url(url)
        if len(self.url) > self._wire.limits.url_bytes:
            raise TooMuchError(414, f"the request's address has more than {self._wire.limits.url_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        if len(self.headers) >= self._wire.limits.headers:
            raise TooMuchError(431, f"the request has more than {self._wire.limits.headers} headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        if len(self.pipeline) >= self._wire.limits.pipelined:
            raise TooMuchError(429, f"more than {self._wire.limits.pipelined} requests wait on this connection")
        self._in_head, self._in_body, self._begun = False, True, False
        self._chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        self._cancel("head")
        self._wire.door.works(self._number)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._framing_bytes -= len(body) + len(body) // 4
        self._chunks += 1
        if self.cycle.response_complete:
            self._drained_bytes += len(body)
            if self._drained_bytes > self._wire.limits.drain_bytes:
                self.transport.abort()
            else:
                self.flow.pause_reading()
                self._drain_on()
            return
        if self.cycle.body:
            super().on_body(body)
        else:
            self.cycle.body = body  # type: ignore[assignment]  # uvicorn would copy it twice: into an array, and out of it
            super().on_body(b"")
        if len(self.cycle.body) > _LARGE_PIECE:  # the next one waits until this is taken, or both were copied into one
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._messages += 1
        self.scope["embedrt.whole"] = True  # type: ignore[typeddict-unknown-key]
        self._in_head, self._in_body = True, False
        self._head_bytes = 0
        self._cancel("drain")
        self._wire.draining.discard(self._number)
        super().on_message_complete()

    # Bytes that go

    def on_response_complete(self) -> None:
        """An answer was written, if not yet sent."""
        if not self.flow.write_paused:
            self._behind_since = None
        if self.transport.is_closing():
            self._after("closing", self._wire.limits.stall_s, self.transport.abort)
        elif self._in_body:  # the answer did not wait for all of it
            self._after("drain", self._wire.limits.drain_s, self.transport.abort)
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wire.door.waits(self._number)

    def pause_writing(self) -> None:
        """The client takes less than it is sent."""
        super().pause_writing()
        limits, now = self._wire.limits, self.loop.time()
        if self._behind_since is None:
            self._behind_since = now
        left = self._behind_since + limits.answer_s - now
        self._after("behind", max(0.0, min(limits.stall_s, left)), self.transport.abort)

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self._cancel("behind")
        if self.cycle is None or self.cycle.response_complete:
            self._behind_since = None
        super().resume_writing()

    # Ends

    def _drain_on(self) -> None:
        """Read on soon, if not too many connections do: what nobody wants takes no time from what is wanted."""
        draining = self._wire.draining
        if self._number in draining or len(draining) < _DRAINED_AT_ONCE:
            draining.add(self._number)
            self._after("slow drain", _DRAIN_PAUSE_S, self._read_on)
        else:
            self._after("slow drain", 2 * _DRAIN_PAUSE_S, self._drain_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _late_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:  # the answer before it comes first
            self._after("head", self._wire.limits.head_s, self._late_head)
        elif self._begun:
            self._refuse(408, f"the request's head did not come within {self._wire.limits.head_s:g} s")
        else:
            self.transport.close()
            self._after("closing", self._wire.limits.stall_s, self.transport.abort)

    def _refuse(self, status: int, reason: str, *headers: bytes) -> None:
        """Close; with an answer where no other one is under way."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            content = reason.encode()
            fixed = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(
                content
            )
            self.transport.write(STATUS_LINE[status] + fixed + b"".join(headers) + b"\r\n" + content)
        self.transport.close()
        self._after("closing", self._wire.limits.stall_s, self.transport.abort)

    def _after(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        """Act later, unless the timer of that name is set anew or cancelled before."""
        self._cancel(name)
        self._timers[name] = self.loop.call_later(seconds, act)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
