"""The server's long-lived threads and tasks: none of them ends unseen.

One that raises is reported in the log and in a metric, what it held is answered by `on_crash`, and it is started again
after a pause. One that fails again and again turns readiness off, until it has worked for a while.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from embedrt.server.logs import LOGGER

_PAUSE_S = 0.05  # before a start again, times 2 for every crash in a row
_LONGEST_PAUSE_S = 5.0
_LIVED_WELL_S = 30.0  # without a crash: the next one is again the first in a row
_TOO_MANY = 3  # crashes in a row that turn readiness off


@dataclass(frozen=True)
class _Crashes:
    """Crashes in a row of one piece of work."""

    count: int
    last: float  # clock value in seconds
    error: str  # the last one's type

    def are_over(self, now: float) -> bool:
        return now - self.last > _LIVED_WELL_S


class Background:
    """Starts and watches them.

    Args:
        on_crash: told the name of what crashed, in its thread; for a metric.
        clock: seconds.
    """

    def __init__(
        self, on_crash: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._told = on_crash
        self._clock = clock
        self._crashes: dict[str, _Crashes] = {}
        self._lock = threading.Lock()

    def thread(
        self, name: str, work: Callable[[], None], on_crash: Callable[[BaseException], None] | None = None
    ) -> threading.Thread:
        """Run `work` in a thread of its own until it returns; `on_crash` answers what it held when it raised."""

        def run() -> None:
            while (pause := self._attempt(name, work, on_crash)) is not None:
                time.sleep(pause)

        made = threading.Thread(target=run, name=f"embedrt-{name}", daemon=True)
        made.start()
        return made

    async def task(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Await `work` until it returns or is cancelled."""
        while True:
            try:
                await work()
            except Exception as exc:
                await asyncio.sleep(self.crashed(name, exc))
            else:
                return

    def crashed(self, name: str, exc: BaseException) -> float:
        """Report that something raised which must not; seconds to wait before it is tried again."""
        now = self._clock()
        with self._lock:
            before = self._crashes.get(name)
            count = 1 if before is None or before.are_over(now) else before.count + 1
            self._crashes[name] = _Crashes(count, now, type(exc).__name__)
        try:
            if self._told is not None:
                self._told(name)
            LOGGER.error("%s crashed (%d in a row) and goes on", name, count, exc_info=exc)
        except Exception:  # no memory for it, say: what is reported matters less than that it goes on
            pass
        return float(min(_LONGEST_PAUSE_S, _PAUSE_S * 2 ** min(count - 1, 10)))

    def why_not_ready(self) -> str | None:
        """What fails again and again; None when nothing does."""
        now = self._clock()
        for name, crashes in tuple(self._crashes.items()):
            if crashes.count >= _TOO_MANY and not crashes.are_over(now):
                return f"{name} crashed {crashes.count} times in a row, the last time by {crashes.error}"
        return None

    def _attempt(
        self, name: str, work: Callable[[], None], on_crash: Callable[[BaseException], None] | None
    ) -> float | None:
        """Run once: None when it has ended well, else the pause before the next time."""
        try:
            work()
        except BaseException as exc:  # SystemExit too: in a thread it would end it without a word
            pause = self.crashed(name, exc)
            try:
                if on_crash is not None:
                    on_crash(exc)
            except BaseException as second:
                pause = self.crashed(name, second)
            return pause
        return None
