"""Where bytes of connections are read to: one place for all of them, since they are parsed before the next come.

Else uvloop reads up to 256 KB into new memory, whose pages cost more than the bytes do, and goes on with the same
connection for as long as there is more, up to 8 MB of it. It does so for every asyncio.Protocol, as uvicorn's is, even
for one that is a BufferedProtocol too; so this stands before it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

PIECE_BYTES = 64 * 1024  # read at once at most


class Parsing(Protocol):
    """A protocol that keeps nothing of what it is given."""

    @property
    def piece_bytes(self) -> int:
        """So much is read at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """As of asyncio.Protocol, like all the others."""

    def connection_lost(self, exc: Exception | None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def data_received(self, data: memoryview) -> None: ...

    def eof_received(self) -> None: ...


class Intake(asyncio.BufferedProtocol):
    """What the event loop knows of a connection.

    Args:
        protocol: what the connection is.
        buffer: of PIECE_BYTES.
    """

    def __init__(self, protocol: Parsing, buffer: memoryview) -> None:
        self.protocol = protocol
        self._buffer = buffer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self.protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """It takes less than it is sent."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """It has taken most of it."""
        self.protocol.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        del sizehint
        return self._buffer[: self.protocol.piece_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        self.protocol.data_received(self._buffer[:nbytes])

    def eof_received(self) -> None:
        """The client sends no more."""
        self.protocol.eof_received()
