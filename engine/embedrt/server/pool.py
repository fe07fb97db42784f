"""Threads for what takes long: reading bodies and tokenizing. No client has all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PER_CLIENT = 2


@dataclass
class _Turns:
    """Of one client."""

    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_PER_CLIENT))
    users: int = 0


class Pool:
    """Runs functions in threads, and of one client at most two at once. Used from the event loop only."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="embedrt-tokenize")
        self._holds = asyncio.Semaphore(1)
        self._turns: dict[str, _Turns] = {}

    async def alone(self, client: str, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """The same for what holds the GIL all the while: of these one runs at a time.

        The event loop gets the GIL when its turn comes, after every thread that has asked before: four that each hold
        it for 60 ms would make it wait for all of them.
        """
        async with self._holds:
            return await self.run(client, function, *args, **named)

    async def run(self, client: str, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What the function gives."""
        turns = self._turns.setdefault(client, _Turns())
        turns.users += 1
        try:
            async with turns.free:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, lambda: function(*args, **named))
        finally:
            turns.users -= 1
            if not turns.users:
                self._turns.pop(client, None)

    def stop(self) -> None:
        """Let what runs end, and begin nothing more."""
        self._threads.shutdown(cancel_futures=True)
