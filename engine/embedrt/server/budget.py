"""Bytes that requests hold in the process: one account for all of them."""

from __future__ import annotations

from typing import Protocol

from embedrt.server.errors import ServeError


class Holder(Protocol):
    """A request with an account of its own."""

    held: int


class ByteBudget:
    """Bodies, what they become when they are read, and the rows of their answers. Used from the event loop only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    def hold(self, holder: Holder, size: int) -> None:
        """Count `size` more bytes for a request.

        Raises:
            ServeError: 429, all together are too many. A request that is alone is let in: limits of its own bound it.
        """
        others = self._held - holder.held
        if others and self._held + size > self._limit:
            raise ServeError("overloaded", f"requests that hold {self._held} bytes are being worked on, this one needs "
                             f"{size} more and the limit (inflight_mb) is {self._limit}; try again in 1 s",
                             headers={"Retry-After": "1"})  # fmt: skip
        self._held += size
        holder.held += size

    def release(self, holder: Holder) -> None:
        """A request has been answered."""
        self._held -= holder.held
        holder.held = 0
