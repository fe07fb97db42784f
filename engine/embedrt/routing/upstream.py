"""Connections to one server: HTTP/1.1, kept open, each proven before it gets a request, bodies in pieces."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import httptools

from embedrt.routing.address import Address
from embedrt.routing.headers import Headers

_READ_BYTES = 64 * 1024
_HEAD_BYTES = 64 * 1024  # of an answer
_READY_BYTES = 1024 * 1024  # of an answer to /health/ready
_IDLE_S = 20.0  # that a connection is kept without a request: less than the 75 s after which servers close it


class UnreachableError(Exception):
    """Nothing was sent: the server takes no connection, is not ready, or is another than it should be."""


class BrokenError(Exception):
    """The connection ended, or what came was no HTTP, before an answer was whole."""


@dataclass
class Answer:
    """What a server has answered, as far as it is there."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    whole: bool = False


class Connection:
    """One connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer = reader, writer
        self._host = host.encode("ascii")
        self._answer = Answer()
        self._pieces: list[bytes] = []
        self._in_head = True
        self._keep = False
        self._bare = False  # the answer has no body whatever its head says
        self._spoilt = False
        self.used = False  # it was kept from before
        self.kept = False  # it was taken back
        self.begun = False  # something of an answer has come
        self.idle_since = time.monotonic()

    @property
    def usable(self) -> bool:
        """Whether it can take a request, as far as can be seen."""
        return not (self._reader.at_eof() or self._writer.is_closing() or time.monotonic() > self.idle_since + _IDLE_S)

    async def ask(self, method: str, target: bytes, headers: Headers, body: bytes = b"") -> None:
        """Send a request's head, to which Host is added, and the beginning of its body."""
        self._bare, self._spoilt, self.begun, self.kept = method == "HEAD", False, False, False
        lines = [method.encode("ascii") + b" " + target + b" HTTP/1.1", b"host: " + self._host]
        lines += [name + b": " + value for name, value in headers]
        await self.send(b"\r\n".join((*lines, b"", body)))

    async def send(self, data: bytes) -> None:
        """Send bytes, once those before them have mostly gone: BrokenError where they cannot be."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, ssl.SSLError) as exc:
            raise BrokenError(str(exc)) from exc

    async def head(self) -> Answer:
        """The answer's status and headers: BrokenError where none come."""
        self._answer, self._pieces, self._in_head, self._keep = Answer(), [], True, False
        self._parser = httptools.HttpResponseParser(self)
        taken = 0
        while self._in_head:
            taken += await self._read()
            if self._in_head and taken > _HEAD_BYTES:
                raise BrokenError(f"the head of the answer has more than {_HEAD_BYTES} bytes")
        return self._answer

    async def pieces(self) -> AsyncIterator[bytes]:
        """The answer's body: BrokenError where it ends too early."""
        while True:
            while self._pieces:
                yield self._pieces.pop(0)
            if self._answer.whole:
                return
            await self._read()

    async def _read(self) -> int:
        try:
            data = await self._reader.read(_READ_BYTES)
        except (OSError, ssl.SSLError) as exc:
            raise BrokenError(str(exc)) from exc
        if not data:
            raise BrokenError("the connection was closed")
        self.begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._keep = False
            if not self._answer.whole:
                raise BrokenError(f"what came is no HTTP: {exc}") from exc
        return len(data)

    @property
    def reusable(self) -> bool:
        """Whether it may have another request after this answer."""
        return self._answer.whole and self._keep and not self._spoilt and not self._writer.is_closing()

    @property
    def ended(self) -> bool:
        """Whether `pieces` has nothing left to wait for."""
        return self._answer.whole and not self._pieces

    def spoil(self) -> None:
        """Have it closed after this answer: the request was not sent to its end."""
        self._spoilt = True

    def close(self) -> None:
        """End it at once: the server gives up what it does for it."""
        self._writer.transport.abort()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Something begins; behind a whole answer it is one that nobody has asked for."""
        if self._answer.whole:
            raise BrokenError("more came than was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._answer.status = self._parser.get_status_code()
        if self._answer.status < 200:
            self._answer.headers.clear()
            return
        self._keep = self._parser.should_keep_alive() and not self._bare
        self._in_head = False
        self._answer.whole = self._bare

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """All of it is there."""
        self._answer.whole = not self._in_head


class Upstream:
    """The connections to one server.

    Args:
        address: where it is.
        against: why a server that tells these identities gets no request, or None.
        connect_s: time to connect, and time for the answer whether it is ready.
    """

    def __init__(
        self, address: Address, against: Callable[[dict[str, str]], str | None], connect_s: float = 5.0
    ) -> None:
        self.address = address
        self._against = against
        self._connect_s = connect_s
        self._idle: list[Connection] = []

    async def connection(self) -> Connection:
        """One that can be used: kept from before, or new and proven; UnreachableError where there is none.

        A process keeps its models for as long as it runs, so that a connection is proven once. A server that was
        started anew is another process: nothing is sent to it before it has told what it serves.
        """
        while self._idle:
            found = self._idle.pop()
            if found.usable:
                return found
            found.close()
        made, told = await self.ask()
        if (wrong := self._against(told)) is not None:
            made.close()
            raise UnreachableError(wrong)
        return made

    async def ask(self) -> tuple[Connection, dict[str, str]]:
        """A connection, and the identities that the server behind it tells: UnreachableError if it is not ready."""
        if self._idle and self._idle[-1].usable:
            made = self._idle.pop()
        else:
            try:
                made = Connection(*await self.address.connect(self._connect_s), self.address.server_name)
            except TimeoutError as exc:
                raise UnreachableError(f"no connection within {self._connect_s:g} s") from exc
            except (OSError, ssl.SSLError) as exc:
                raise UnreachableError(getattr(exc, "strerror", None) or str(exc)) from exc
        try:
            async with asyncio.timeout(self._connect_s):
                told = await _ready(made)
        except BaseException as exc:
            made.close()
            if isinstance(exc, TimeoutError):
                raise UnreachableError(f"no answer from /health/ready within {self._connect_s:g} s") from exc
            if isinstance(exc, BrokenError):
                raise UnreachableError(f"/health/ready: {exc}") from exc
            raise
        return made, told

    def keep(self, connection: Connection) -> None:
        """Take a connection back after an answer."""
        if connection.reusable:
            connection.used = connection.kept = True
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def prune(self) -> None:
        """Close those that are of no use anymore."""
        for connection in self._idle:
            if not connection.usable:
                connection.close()
        self._idle = [connection for connection in self._idle if connection.usable]

    def close(self) -> None:
        """Close those that are not at work."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()


async def _ready(connection: Connection) -> dict[str, str]:
    await connection.ask("GET", b"/health/ready", [])
    answer = await connection.head()
    body = bytearray()
    async for piece in connection.pieces():
        body += piece
        if len(body) > _READY_BYTES:
            raise BrokenError(f"more than {_READY_BYTES} bytes")
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    found = told if isinstance(told, dict) else {}
    if answer.status != 200:
        raise UnreachableError(str(found.get("error") or f"/health/ready answers {answer.status}")[:500])
    identities = found.get("identities")
    if not isinstance(identities, dict) or not identities or not all(isinstance(v, str) for v in identities.values()):
        raise UnreachableError("it does not tell its identities: this is no embedrt, or one that is too old")
    return identities
