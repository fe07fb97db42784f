"""Who holds how much of what there is only so much of. Pure: names and whole numbers.

A client may hold up to three times what it leaves free for others. So one client alone may have three quarters, two
have three sevenths each, and there is always room for one who comes anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

_TIMES_FREE = 3


class Shares:
    """One account per client of something that there is `limit` of."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._held: Counter[Hashable] = Counter()

    def held(self, client: Hashable) -> int:
        """What a client holds."""
        return self._held[client]

    def allows(self, client: Hashable, size: int) -> bool:
        """Whether a client may take so much more."""
        free = self.limit - self.total - size
        return self._held[client] + size <= _TIMES_FREE * free

    def take(self, client: Hashable, size: int) -> None:
        """Count it, allowed or not."""
        self._held[client] += size
        self.total += size

    def give(self, client: Hashable, size: int) -> None:
        """Count it back."""
        self._held[client] -= size
        self.total -= size
        if not self._held[client]:
            del self._held[client]  # no client that has gone is remembered

    def largest(self) -> Hashable:
        """The client that holds most; None where nobody holds anything."""
        return max(self._held, key=self._held.__getitem__, default=None)
