"""Bytes that requests hold in the process: one account for all of them."""

from __future__ import annotations

from typing import Protocol

from embedrt.server.errors import ServeError
from embedrt.server.shares import Shares


class Holder(Protocol):
    """A request with an account of its own."""

    held: int
    client: str


class ByteBudget:
    """Bodies, what they become when they are read, and the rows of their answers. Used from the event loop only.

    Args:
        limit: bytes of all requests together.
        shared: no client gets all of it.
    """

    def __init__(self, limit: int, *, shared: bool = False) -> None:
        self._limit = limit
        self._shared = shared
        self._shares = Shares(limit)

    @property
    def held(self) -> int:
        """Bytes that all requests hold."""
        return self._shares.total

    def hold(self, holder: Holder, size: int) -> None:
        """Count `size` more bytes for a request.

        Raises:
            ServeError: 429, all together are too many. A request that is alone is let in: limits of its own bound it.
        """
        others = self.held - holder.held
        if others and self.held + size > self._limit:
            raise _overloaded(
                f"requests that hold {self.held} bytes are being worked on, this one needs {size} more and the limit "
                f"(inflight_mb) is {self._limit}"
            )
        if others and self._shared and not self._shares.allows(holder.client, size):
            raise _overloaded(
                f"your requests hold {self._shares.held(holder.client)} of {self._limit} bytes (inflight_mb), this one "
                f"needs {size} more, and a client may hold three times what is left for others"
            )
        self._shares.take(holder.client, size)
        holder.held += size

    def free(self, holder: Holder, size: int) -> None:
        """Count so many bytes less for a request."""
        self._shares.give(holder.client, size)
        holder.held -= size

    def release(self, holder: Holder) -> None:
        """A request has been answered."""
        self._shares.give(holder.client, holder.held)
        holder.held = 0


def _overloaded(message: str) -> ServeError:
    return ServeError("overloaded", f"{message}; try again in 1 s", headers={"Retry-After": "1"})
