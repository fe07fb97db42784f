"""A lock that threads get in the order of asking."""

from __future__ import annotations

import threading


class FairLock:
    """Mutual exclusion without overtaking: models that share threads take turns batch by batch."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._next_ticket = 0
        self._serving = 0

    def __enter__(self) -> None:
        with self._free:
            ticket = self._next_ticket
            self._next_ticket += 1
            while ticket != self._serving:
                self._free.wait()

    def __exit__(self, *_: object) -> None:
        with self._free:
            self._serving += 1
            self._free.notify_all()
