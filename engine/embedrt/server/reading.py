"""Which connections may read on: bodies that come side by side take turns, and what is short is heard in between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from uvicorn.protocols.http.flow_control import FlowControl

_AT_ONCE = 4  # pieces of bodies per turn of the event loop: each takes a fraction of a millisecond


class Turns:
    """Lets a few connections read on per turn of the event loop, in the order in which they asked.

    Without it, a loop with 64 bodies under way reads a piece of each in every turn, and a request that needs four turns
    (accept, read, answer, write) waits for 256 pieces. A connection whose client sends nothing holds no turn.
    """

    def __init__(self, at_once: int = _AT_ONCE) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[Callable[[], None]] = deque()
        self._planned = False

    def ask(self, loop: asyncio.AbstractEventLoop, go: Callable[[], None]) -> None:
        """Call it in this turn if there is room, or else in a later one."""
        if self._left and not self._waiting:
            self._left -= 1
            go()
        else:
            self._waiting.append(go)
        self._plan(loop)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._planned:
            self._planned = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._planned = False
        self._left = self._at_once
        while self._left and self._waiting:
            self._left -= 1
            self._waiting.popleft()()
        if self._left < self._at_once:
            self._plan(loop)


class FlowInTurns(FlowControl):
    """uvicorn's flow control of a connection; after a pause, reading goes on when it is the connection's turn."""

    def __init__(self, transport: asyncio.Transport, turns: Turns, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._turns = turns
        self._loop = loop
        self._asked = False  # it is in the queue
        self._wanted = False  # and still wants to read

    def pause_reading(self) -> None:
        """Read nothing more, whatever was asked before."""
        self._wanted = False
        super().pause_reading()

    def resume_reading(self) -> None:
        """Read on when it is its turn."""
        if not self.read_paused:
            return
        self._wanted = True
        if not self._asked:
            self._asked = True
            self._turns.ask(self._loop, self._go)

    def _go(self) -> None:
        self._asked = False
        if self._wanted:
            super().resume_reading()
