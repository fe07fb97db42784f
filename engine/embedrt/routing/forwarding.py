"""One request to the server that is chosen for it, or to the next where nothing of it was done.

A request goes to another server where this one takes no connection, is not ready, or answers 503, which servers do
before they work. It goes once more where a connection that was kept from before ends without a byte of an answer: the
server has most likely closed it a moment ago. Otherwise it may have been the request that ended the server, and is
not tried on the others. A body over 64 KB is passed through and not kept, and so only goes to another server if no
connection was had.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import TypeVar

from embedrt.routing.bodies import Body
from embedrt.routing.fleet import Fleet, Server
from embedrt.routing.headers import Headers
from embedrt.routing.metrics import FrontMetrics
from embedrt.routing.policy import estimate_tokens
from embedrt.routing.upstream import Answer, BrokenError, Connection, UnreachableError
from embedrt.server.errors import ServeError
from embedrt.server.logs import log

T = TypeVar("T")


@dataclass
class Asked:
    """A request to be sent on.

    Attributes:
        method, target, headers: as they are sent, without Host and what frames the body.
        body: begun.
        timeout_s: until the answer begins.
    """

    method: str
    target: bytes
    headers: Headers
    body: Body
    timeout_s: float

    @property
    def tokens(self) -> int:
        """Estimated. A long body that does not say its length counts as far as it has come."""
        return estimate_tokens(self.body.length if self.body.length is not None else self.body.taken)

    @property
    def framed(self) -> Headers:
        """The headers, with how the body is framed."""
        if self.body.length is None:
            return [*self.headers, (b"transfer-encoding", b"chunked")]
        if self.body.length or self.method not in ("GET", "HEAD", "OPTIONS"):
            return [*self.headers, (b"content-length", b"%d" % self.body.length)]
        return self.headers

    def framing(self, piece: bytes) -> bytes:
        """A piece of the body as it is sent."""
        if self.body.length is not None or not piece:
            return piece
        return b"%x\r\n%b\r\n" % (len(piece), piece)


class Forwarding:
    """Sends requests on."""

    def __init__(self, fleet: Fleet, metrics: FrontMetrics) -> None:
        self._fleet = fleet
        self._metrics = metrics

    @contextlib.asynccontextmanager
    async def answered(self, asked: Asked) -> AsyncIterator[tuple[Server, Connection, Answer]]:
        """The beginning of an answer, for a block in which the rest of it is read.

        Raises:
            ServeError: no server takes it ("not_ready"), it comes too late ("timeout"), or the server ended before it
                had answered ("bad_gateway").
        """
        tried: set[str] = set()
        again = True  # a kept connection may break once
        while (server := self._fleet.choose(tried)) is not None:
            tried.add(server.name)
            with self._fleet.working(server, asked.tokens):
                try:
                    connection = await server.upstream.connection()
                except UnreachableError as exc:
                    self._fleet.take_out(server, str(exc))
                    self._metrics.again.labels("unreachable").inc()
                    continue
                try:
                    answer = await self._exchange(server, connection, asked, may_break=again)
                    if answer is None:
                        again = False
                        continue
                    if answer.status == 503 and asked.body.is_kept and self._fleet.has_other(tried):
                        self._fleet.take_out(server, "it answered 503")
                        self._metrics.again.labels("not ready").inc()
                        continue
                    yield server, connection, answer
                    server.upstream.keep(connection)
                    return
                finally:
                    if not connection.kept:
                        connection.close()
        raise ServeError("not_ready", self._fleet.why_not_ready() or "no other server takes it",
                         headers={"Retry-After": "1"})  # fmt: skip

    async def _exchange(
        self, server: Server, connection: Connection, asked: Asked, *, may_break: bool
    ) -> Answer | None:
        """The head of the answer; None where a kept connection broke that may."""
        try:
            async with asyncio.timeout(asked.timeout_s):
                return await self._send(connection, asked)
        except TimeoutError:
            raise ServeError("timeout", f"no server answered within {asked.timeout_s:g} s") from None
        except BrokenError as exc:
            server.upstream.close()  # what else is kept is proven anew
            log("connection broke", level=30, server=server.name, reason=str(exc))
            if may_break and connection.used and asked.body.is_kept and not connection.begun:
                self._metrics.again.labels("broken").inc()
                return None
            raise ServeError("bad_gateway", f"the server's connection ended before it had answered: {exc}") from exc

    async def _send(self, connection: Connection, asked: Asked) -> Answer:
        body = asked.body
        begin = asked.framing(body.kept)
        if body.whole and body.length is None:
            begin += b"0\r\n\r\n"
        try:
            await connection.ask(asked.method, asked.target, asked.framed, begin)
        except BrokenError:  # it may have answered before it had read all
            return await connection.head()
        if body.whole:
            return await connection.head()
        return await self._pass_through(connection, asked)

    async def _pass_through(self, connection: Connection, asked: Asked) -> Answer:
        """Send the rest of a body, and look for an answer that does not wait for all of it."""
        pump = asyncio.create_task(self._pump(connection, asked))
        head = asyncio.create_task(connection.head())
        try:
            await asyncio.wait({pump, head}, return_when=asyncio.FIRST_COMPLETED)
            if not head.done():
                with contextlib.suppress(BrokenError):  # as above
                    await pump
            answer = await head
            if not pump.done():
                connection.spoil()
            return answer
        finally:
            await _cancelled(pump)
            await _cancelled(head)

    async def _pump(self, connection: Connection, asked: Asked) -> None:
        while not asked.body.whole:
            await connection.send(asked.framing(await asked.body.piece()))
        if asked.body.length is None:
            await connection.send(b"0\r\n\r\n")


async def _cancelled(task: Awaitable[T]) -> None:
    """Cancel a task, and wait for its end; what it raised was seen, or is of no use anymore."""
    assert isinstance(task, asyncio.Task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
