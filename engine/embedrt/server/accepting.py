"""Which of several workers takes a connection: one that has no more of them than the others.

All accept from one socket. Whoever wakes up first would take all that wait, as libuv does, and some clients would share
a worker with more others than the rest do, for as long as they stay.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, MutableSequence
from typing import Any

_LEFT_TO_OTHERS_S = 0.002  # then it is taken all the same: the others may be busy, or gone
_NO_ROOM_S = 0.05  # without a file for another connection
SERVES_NOT = -1


class Accounts:
    """How many connections each worker has.

    Args:
        held: by number of the worker, in memory that all of them share; SERVES_NOT of one that takes none.
        number: of this one.
    """

    def __init__(self, held: MutableSequence[int], number: int) -> None:
        self._held = held
        self._number = number

    def tell(self, count: int) -> None:
        """This worker has so many."""
        self._held[self._number] = count

    def others_have_fewer(self) -> bool:
        """Whether there is a worker that should rather have the next one."""
        return any(SERVES_NOT < count < self._held[self._number] for count in self._held)


class Acceptor:
    """Takes connections one by one, each in a turn of the event loop of its own; what `create_server` gives.

    Args:
        loop: of this worker.
        listener: that all workers share.
        make: makes the protocol of a connection.
        accounts: of this worker and the others.
        options: of `connect_accepted_socket`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        accounts: Accounts,
        **options: Any,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._make = make
        self._accounts = accounts
        self._options = options
        self._coming: set[asyncio.Task[Any]] = set()
        self._later: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        accounts.tell(0)
        loop.add_reader(listener, self._look)

    def close(self) -> None:
        """Take no more."""
        self._loop.remove_reader(self._listener)
        if self._later is not None:
            self._later.cancel()
        self._accounts.tell(SERVES_NOT)

    async def wait_closed(self) -> None:
        """It is."""

    def _look(self) -> None:
        if self._accounts.others_have_fewer():
            self._pause(_LEFT_TO_OTHERS_S)
        else:
            self._take()

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._later = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._later = None
        self._loop.add_reader(self._listener, self._look)
        self._take()

    def _take(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker has it, or the client has gone
        except OSError:
            self._pause(_NO_ROOM_S)
            return
        connected = self._loop.connect_accepted_socket(self._make, accepted, **self._options)
        task = self._loop.create_task(connected)
        self._coming.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._coming.discard(task)
        if not task.cancelled():
            task.exception()  # a handshake that failed is the client's affair


def accept_in_turns(loop: asyncio.AbstractEventLoop, listener: socket.socket, accounts: Accounts) -> None:
    """Have the loop's `create_server` take an Acceptor for this listener."""
    create = loop.create_server

    async def create_server(make: Any, *, sock: socket.socket, backlog: int, **options: Any) -> Any:
        if sock is not listener:
            return await create(make, sock=sock, backlog=backlog, **options)
        return Acceptor(loop, listener, make, accounts, **options)

    loop.create_server = create_server  # type: ignore[method-assign,assignment]
