"""Which waiting texts run next. Pure: token counts and clock values in, batches of items out; no threads, no I/O.

A request is *interactive* when all its texts fit one batch, else *bulk*. Within each class clients take turns: the one
goes next for whom least was run, so that a query waits for a batch of each other client and not for all that they have
sent. Each client's requests go in the order of arrival plus estimated work, so that a short one passes a longer one
that came a little earlier, and none is passed forever. Interactive goes before bulk; while bulk waits, every
`bulk_every`-th batch is bulk's. A batch holds texts of one class only. So an interactive request waits for the batch
that runs, at most one of bulk, and for what other interactive requests are ahead of it.

A batch begins with the longest waiting text of the request whose turn it is, and is filled with the texts nearest
to it in length, of whatever requests, under the same limits as `embedrt.batching.plan_groups`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from embedrt.server.shares import Shares

_SHORT_S = 0.001  # a hundredth of what /health/live may wait


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


def is_short(num_tokens: Sequence[int], seconds_per_token: float) -> bool:
    """Whether a request that is alone runs so shortly that nothing else need be heard meanwhile.

    Args:
        num_tokens: of each of its texts.
        seconds_per_token: what a token costs about.
    """
    return sum(num_tokens) * seconds_per_token <= _SHORT_S


class QueueFullError(Exception):
    """The request's class has no room; `waiting_tokens` are before it."""

    def __init__(self, waiting_tokens: int, limit: int, *, shared: bool = False) -> None:
        own = " and a client may have three times what it leaves for others" * shared
        super().__init__(
            f"{waiting_tokens} tokens{' of yours' * shared} wait already, the queue holds {limit} (queue_tokens){own}"
        )
        self.waiting_tokens = waiting_tokens
        self.limit = limit


@dataclass
class _Request:
    """A request's texts that wait, longest first; those in `taken` went with somebody's batch already."""

    key: tuple[float, int]  # order within its client's line
    client: Hashable
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
class _Line:
    """The waiting requests of one client in one class."""

    served: int  # tokens that were run for it, beginning where those were that came before it
    turns: list[tuple[float, int]] = field(default_factory=list)  # heap of keys; stale ones are skipped
    requests: int = 0


@dataclass
class _Class:
    """The waiting requests of one class."""

    shares: Shares  # of clients, in tokens
    requests: dict[int, _Request] = field(default_factory=dict)
    lines: dict[Hashable, _Line] = field(default_factory=dict)  # of clients that have a request waiting
    shelves: dict[Hashable, dict[int, deque[Item]]] = field(default_factory=dict)  # lane -> length -> items
    served: int = 0  # tokens of the line that was last chosen, as it was chosen: where newcomers begin

    @property
    def tokens(self) -> int:
        return self.shares.total

    def next_request(self) -> _Request | None:
        """The first in line of the client that had least."""
        chosen: tuple[int, tuple[float, int]] | None = None
        for line in self.lines.values():
            while line.turns[0][1] not in self.requests:
                heapq.heappop(line.turns)
            if chosen is None or (line.served, line.turns[0]) < chosen:
                chosen = line.served, line.turns[0]
        if chosen is None:
            return None
        self.served = chosen[0]
        return self.requests[chosen[1][1]]

    def put(self, number: int, request: _Request) -> None:
        self.requests[number] = request
        line = self.lines.setdefault(request.client, _Line(self.served))
        line.requests += 1
        heapq.heappush(line.turns, request.key)
        self.shares.take(request.client, request.tokens)

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
        self.shares.give(request.client, item.num_tokens)
        self.lines[request.client].served += item.num_tokens
        if not request.waiting:
            self._remove(item.request)

    def _remove(self, number: int) -> _Request:
        request = self.requests.pop(number)
        line = self.lines[request.client]
        line.requests -= 1
        if not line.requests:
            del self.lines[request.client]
        return request

    def forget(self, number: int) -> bool:
        if number not in self.requests:
            return False
        request = self._remove(number)
        self.shares.give(request.client, request.tokens)
        if not self.requests:  # nothing stale outlives an empty class
            self.shelves.clear()
        return True


class BatchQueue:
    """Requests that wait, and the batches to make of them. Not safe for threads: the caller holds a lock."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self._interactive = _Class(Shares(limits.queue_tokens))
        self._bulk = _Class(Shares(limits.queue_tokens))
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
        client: Hashable = None,
        seconds_per_token: float = 0.001,
    ) -> None:
        """Let a request wait.

        Args:
            request: a number not in use; later ones are larger.
            num_tokens: of each of its texts, at least one.
            now, deadline: clock values in seconds.
            lane: only texts of equal lanes share a batch.
            client: whose it is; clients take turns, each with as many tokens.
            seconds_per_token: what a token costs about; turns the request's size into time for its place in line.

        Raises:
            QueueFullError: too many tokens of its class wait, or too many of its client's.
        """
        chosen = self._interactive if self.is_interactive(num_tokens) else self._bulk
        total = sum(num_tokens)
        own = chosen.shares.held(client)
        # One request may be as large as the queue: a client of which nothing waits finds as much room again.
        room = self.limits.queue_tokens * (1 if own else 2)
        if chosen.tokens and chosen.tokens + total > room:
            raise QueueFullError(chosen.tokens, self.limits.queue_tokens)
        if own and not chosen.shares.allows(client, total):
            raise QueueFullError(chosen.shares.held(client), self.limits.queue_tokens, shared=True)
        items = [Item(request, i, n) for i, n in enumerate(num_tokens)]
        key = (now + total * seconds_per_token, request)
        order = sorted(items, key=lambda item: -item.num_tokens)
        chosen.put(request, _Request(key, client, deadline, lane, order, set(range(len(items))), total))
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

    def next_batch(self, parts: int = 1) -> list[Item]:
        """The items to run next, taken out of the queue; empty when nothing waits.

        Args:
            parts: so many batches begin side by side, and each leaves the others their part of what waits. A text that
                is longer than that goes with all there is: the others would be done long before it.
        """
        interactive, bulk = self._interactive.next_request(), self._bulk.next_request()
        if interactive is not None and (bulk is None or self._since_bulk < self.limits.bulk_every - 1):
            self._since_bulk += bulk is not None
            return self._fill(self._interactive, interactive, parts)
        self._since_bulk = 0
        return self._fill(self._bulk, bulk, parts) if bulk is not None else []

    def _fill(self, chosen: _Class, first: _Request, parts: int) -> list[Item]:
        limits = self.limits
        seed, lane = first.longest(), first.lane
        part = math.ceil(chosen.tokens / parts)
        most_tokens = limits.batch_tokens if parts == 1 or seed.num_tokens > part else min(limits.batch_tokens, part)
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
                if cost > most_tokens or count > limits.batch_texts or padding > (limits.overhead_tokens or 0):
                    break
                chosen.take(item)
                batch.append(item)
                longest, total = widest, total + length
        return batch
