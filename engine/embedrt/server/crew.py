"""How many batches run at once. Pure: the caller holds a lock, and says what waits.

A text that is alone runs with all threads, which is fastest for it. Where there is more, two batches run side by side
with half of the threads each. Then no thread waits for another one at the end of each step, which costs the more the
more other programs, and the server's own event loop, need the processor too; and while one batch is made up, or its
rows are handed out, the other one computes.
"""

from __future__ import annotations


class Crew:
    """Counts what runs.

    Args:
        divides: whether two batches may share the threads.
    """

    def __init__(self, *, divides: bool) -> None:
        self.most = 2 if divides else 1
        self._whole = False
        self.running = 0
        self.crowded = False  # more than one request was there at once since a batch last began: others will come soon

    @property
    def parts(self) -> int:
        """In how many batches what waits is to be divided."""
        return self.most - self.running

    @property
    def is_free(self) -> bool:
        """Whether a batch may begin."""
        return self.running < self.most and not self._whole

    def begin(self, *, more: bool) -> bool:
        """A batch begins, where one may; whether it takes half of the threads only.

        Args:
            more: others wait behind it.
        """
        half = self.most > 1 and (more or self.crowded or self.running > 0)
        self.crowded = False
        self.running += 1
        self._whole = not half
        return half

    def end(self) -> None:
        """A batch has ended."""
        self.running -= 1
        self._whole = False
