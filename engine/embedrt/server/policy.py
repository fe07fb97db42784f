"""Which waiting texts run next. Pure: token counts and clock values in, batches of items out; no threads, no I/O.

A request is *interactive* when all its texts fit one batch, else *bulk*. Each class is served in the order of
arrival plus estimated work, so that a short request passes a longer one that came a little earlier, and nobody
is passed forever. Interactive goes before bulk; while bulk waits, every `bulk_every`-th batch is bulk's. A batch
holds texts of one class only. So an interactive request waits for the batch that runs, at most one of bulk, and
for what other interactive requests are ahead of it.

A batch begins with the longest waiting text of the request whose turn it is, and is filled with the texts nearest
to it in length, of whatever requests, under the same limits as `embedrt.batching.plan_groups`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class QueueLimits:
    """What a batch and the queue may hold."""

    batch_tokens: int = 256  # padded tokens of a batch; a longer single text goes alone
    batch_texts: int = 256
    overhead_tokens: int | None = 24  # padding worth less than a batch of its own; None: the executor pads nothing
    queue_tokens: int = 1_000_000  # of each class; a single larger request is taken when its class is empty
    bulk_every: int = 4


@dataclass(frozen=True)
class Item:
    """One text of a request."""

    request: int
    index: int  # among the request's texts
    num_tokens: int


class QueueFullError(Exception):
    """The request's class has no room; `waiting_tokens` are before it."""

    def __init__(self, waiting_tokens: int, limit: int) -> None:
        super().__init__(f"{waiting_tokens} tokens wait already, the queue holds {limit}")
        self.waiting_tokens = waiting_tokens
        self.limit = limit


@dataclass
class _Request:
    """A request's texts that wait, longest first; those in `taken` went with somebody's batch already."""

    key: tuple[float, int]  # order within its class
    deadline: float
    lane: Hashable
    order: list[Item]
    waiting: set[int]
    tokens: int
    cursor: int = 0

    def longest(self) -> Item:
        while self.order[self.cursor].index not in self.waiting:
            self.cursor += 1
        return self.order[self.cursor]


@dataclass
class _Class:
    """The waiting requests of one class."""

    requests: dict[int, _Request] = field(default_factory=dict)
    turns: list[tuple[float, int]] = field(default_factory=list)  # heap of keys; stale ones are skipped
    shelves: dict[Hashable, dict[int, deque[Item]]] = field(default_factory=dict)  # lane -> length -> items
    tokens: int = 0

    def next_request(self) -> _Request | None:
        while self.turns:
            request = self.requests.get(self.turns[0][1])
            if request is not None:
                return request
            heapq.heappop(self.turns)
        return None

    def waits(self, item: Item) -> bool:
        request = self.requests.get(item.request)
        return request is not None and item.index in request.waiting

    def shelf(self, lane: Hashable, length: int) -> Iterator[Item]:
        """Items of that length that still wait, in order of arrival; what is stale is thrown away on the way."""
        lengths = self.shelves.get(lane, {})
        items = lengths.get(length)
        while items:
            item = items[0]
            if self.waits(item):
                yield item  # the caller takes it or stops
            if items and items[0] is item:
                items.popleft()
        lengths.pop(length, None)

    def take(self, item: Item) -> None:
        request = self.requests[item.request]
        request.waiting.remove(item.index)
        request.tokens -= item.num_tokens
        self.tokens -= item.num_tokens
        if not request.waiting:
            del self.requests[item.request]

    def forget(self, number: int) -> bool:
        request = self.requests.pop(number, None)
        if request is None:
            return False
        self.tokens -= request.tokens
        if not self.requests:  # nothing stale outlives an empty class
            self.turns.clear()
            self.shelves.clear()
        return True


class BatchQueue:
    """Requests that wait, and the batches to make of them. Not safe for threads: the caller holds a lock."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self._interactive = _Class()
        self._bulk = _Class()
        self._since_bulk = 0  # interactive batches since bulk had one, while bulk waited

    @property
    def waiting_tokens(self) -> int:
        """Tokens of all texts that wait."""
        return self._interactive.tokens + self._bulk.tokens

    @property
    def waiting_requests(self) -> int:
        """Requests of which at least one text waits."""
        return len(self._interactive.requests) + len(self._bulk.requests)

    def is_interactive(self, num_tokens: Sequence[int]) -> bool:
        """Whether a request of texts of `num_tokens` fits one batch, or is a single text."""
        return len(num_tokens) <= 1 or (
            sum(num_tokens) <= self.limits.batch_tokens and len(num_tokens) <= self.limits.batch_texts
        )

    def add(
        self,
        request: int,
        num_tokens: Sequence[int],
        *,
        now: float,
        deadline: float = math.inf,
        lane: Hashable = None,
        seconds_per_token: float = 0.001,
    ) -> None:
        """Let a request wait.

        Args:
            request: a number not in use; later ones are larger.
            num_tokens: of each of its texts, at least one.
            now, deadline: clock values in seconds.
            lane: only texts of equal lanes share a batch.
            seconds_per_token: what a token costs about; turns the request's size into time for its place in line.

        Raises:
            QueueFullError: too many tokens of its class wait.
        """
        chosen = self._interactive if self.is_interactive(num_tokens) else self._bulk
        total = sum(num_tokens)
        if chosen.tokens and chosen.tokens + total > self.limits.queue_tokens:
            raise QueueFullError(chosen.tokens, self.limits.queue_tokens)
        items = [Item(request, i, n) for i, n in enumerate(num_tokens)]
        key = (now + total * seconds_per_token, request)
        order = sorted(items, key=lambda item: -item.num_tokens)
        chosen.requests[request] = _Request(key, deadline, lane, order, set(range(len(items))), total)
        chosen.tokens += total
        heapq.heappush(chosen.turns, key)
        shelves = chosen.shelves.setdefault(lane, {})
        for item in items:
            shelves.setdefault(item.num_tokens, deque()).append(item)

    def drop(self, request: int) -> bool:
        """Forget what still waits of a request; False if nothing did."""
        return self._interactive.forget(request) or self._bulk.forget(request)

    def expire(self, now: float) -> list[int]:
        """Drop and return the requests whose deadline has come."""
        late = [
            number
            for chosen in (self._interactive, self._bulk)
            for number, request in chosen.requests.items()
            if request.deadline <= now
        ]
        for number in late:
            self.drop(number)
        return late

    def next_batch(self) -> list[Item]:
        """The items to run next, taken out of the queue; empty when nothing waits."""
        interactive, bulk = self._interactive.next_request(), self._bulk.next_request()
        if interactive is not None and (bulk is None or self._since_bulk < self.limits.bulk_every - 1):
            self._since_bulk += bulk is not None
            return self._fill(self._interactive, interactive)
        self._since_bulk = 0
        return self._fill(self._bulk, bulk) if bulk is not None else []

    def _fill(self, chosen: _Class, first: _Request) -> list[Item]:
        limits = self.limits
        seed, lane = first.longest(), first.lane
        batch = [seed]
        chosen.take(seed)
        longest, total = seed.num_tokens, seed.num_tokens
        lengths = sorted(chosen.shelves.get(lane, ()), key=lambda length: (abs(length - seed.num_tokens), length))
        for length in lengths:
            if limits.overhead_tokens is not None and abs(length - seed.num_tokens) > limits.overhead_tokens:
                break  # the rest is farther still
            widest = max(longest, length)
            for item in chosen.shelf(lane, length):
                count = len(batch) + 1
                cost = total + length if limits.overhead_tokens is None else widest * count
                padding = 0 if limits.overhead_tokens is None else widest * count - total - length
                if cost > limits.batch_tokens or count > limits.batch_texts or padding > (limits.overhead_tokens or 0):
                    break
                chosen.take(item)
                batch.append(item)
                longest, total = widest, total + length
        return batch
