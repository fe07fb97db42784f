"""A request's body: its beginning is kept, so that another server can be tried, and the rest is passed through."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from embedrt.server.draining import drain
from embedrt.server.errors import ServeError

KEPT_BYTES = 64 * 1024


class Body:
    """One request's.

    Args:
        receive: gives its pieces.
        length: as the head says; None where it does not.
        limit: bytes that it may have.
        idle_s: that may pass between two pieces.
        expect: the header.
    """

    def __init__(self, receive: Receive, length: int | None, limit: int, idle_s: float, expect: str = "") -> None:
        self._receive = receive
        self.length = length
        self._limit = limit
        self._idle_s = idle_s
        self._expect = expect
        self.kept = b""  # its beginning
        self.whole = False  # nothing is left to come
        self.taken = 0  # bytes so far

    @property
    def is_kept(self) -> bool:
        """Whether all of it is kept, and can be sent again."""
        return self.whole and self.taken == len(self.kept)

    async def begin(self) -> None:
        """Wait for all of a short one, or for the beginning of a long one: ServeError, as `piece`."""
        if self.length is not None and self.length > self._limit:
            raise await self._too_large(self.length)
        kept = []
        while not self.whole and self.taken < KEPT_BYTES:
            kept.append(await self.piece())
        self.kept = b"".join(kept)
        if self.whole:
            self.length = self.taken

    async def piece(self) -> bytes:
        """The next piece, as it comes.

        Raises:
            ServeError: it does not come, the client has left, or it is more than there may be.
        """
        try:
            async with asyncio.timeout(self._idle_s):
                message: Message = await self._receive()
        except TimeoutError:
            raise ServeError(
                "slow_body",
                f"no more of the body came within {self._idle_s:g} s (idle_timeout_s)",
                headers={"Connection": "close"},
            ) from None
        if message["type"] == "http.disconnect":
            raise ServeError("gone", "the client left while sending")
        body: bytes = message.get("body", b"")
        self.taken += len(body)
        self.whole = not message.get("more_body", False)
        if self.taken > self._limit:
            raise await self._too_large(self.taken)
        return body

    async def _too_large(self, size: int) -> ServeError:
        whole = self.whole or await drain(self._receive, self._expect, self._limit, size)
        return ServeError(
            "too_large",
            f"the body may have {self._limit} bytes (body_mb), this has {size} or more; send fewer texts at once",
            headers={} if whole else {"Connection": "close"},
        )
