"""One model's requests that wait, and the threads that run them.

A request waits in the BatchQueue; a thread takes a batch whenever it is free, so nothing waits at an idle server, and
the rows go back to the event loop when a request's last text is done. A short request that is alone runs in the loop's
own thread: to wake another one and to be woken by it takes a fifth of its time.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from embedrt.errors import NonFiniteError
from embedrt.executors.library import take_half
from embedrt.server.background import Background
from embedrt.server.crew import Crew
from embedrt.server.errors import ServeError, overloaded, translate
from embedrt.server.pending import Pending, as_served, settle_in_loop
from embedrt.server.policy import BatchQueue, Item, QueueFullError, QueueLimits, is_short
from embedrt.server.watch import Watch

TOO_MANY_NUMBERS = (
    "the texts have more weights than an answer may hold (answer_mb); split the request, give max_active_dims, or "
    "raise answer_mb"
)
_STOPPED_WITHIN_S = 10.0
_WARM_S = 10.0  # since the last batch: later than that the weights may have left memory, and to read them takes long


class BatchListener(Protocol):
    """Told of every batch and every proof, in the thread that ran it."""

    def on_batch(self, model: str, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float) -> None:
        """A batch has run."""

    def on_proof(self, model: str, *, same: bool) -> None:
        """A parity text was embedded again."""

    def on_cache(self, model: str, hits: int, misses: int) -> None:
        """Texts of a request were looked up (in the loop's thread)."""


class Batches:
    """Runs requests of one model, from the event loop, in threads of its own.

    Args:
        name: of the model.
        variant: of the model, for messages.
        limits: of batches and queue.
        watch: looks at the model before each batch, and where nothing waits.
        turn: held while a batch runs; models that share threads share it.
        divides: whether two batches may run at once, with half of the threads each (`Crew`).
        listener: told of batches.
        background: keeps the threads alive.
    """

    def __init__(
        self,
        name: str,
        variant: str,
        limits: QueueLimits,
        watch: Watch,
        *,
        turn: AbstractContextManager[object] | None,
        divides: bool,
        listener: BatchListener | None,
        background: Background,
    ) -> None:
        self.limits = limits
        self._name = name
        self._work_name = f"batches of {name}"
        self._variant = variant
        self._watch = watch
        self._turn = turn if turn is not None else nullcontext()
        self.may_run_here = turn is None  # in the loop's thread, which must not wait for a turn
        self._listener = listener
        self._background = background
        self._queue = BatchQueue(limits)
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._wake = threading.Condition()
        self._stopping = False
        self._crew = Crew(divides=divides)
        self._settling = threading.Lock()  # a request may have texts in two batches at once
        self._running: dict[int, float] = {}  # since when, by thread
        self._seconds_per_token = 0.0005  # replaced by what is measured
        self._ran = -math.inf  # when a batch last ended
        self._threads = [
            background.thread(self._work_name, self._work, self._start_over) for _ in range(self._crew.most)
        ]

    @property
    def waiting_tokens(self) -> int:
        """Tokens that wait for the executor."""
        return self._queue.waiting_tokens

    @property
    def waiting_requests(self) -> int:
        """Requests that wait for the executor."""
        return self._queue.waiting_requests

    def running_for(self) -> float:
        """Seconds since the executor was called and has not returned; 0 when it is idle."""
        since = min(tuple(self._running.values()), default=None)
        return 0.0 if since is None else time.monotonic() - since

    def stop(self) -> bool:
        """Let the batches that run end, and drop the rest; whether all have ended."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = time.monotonic() + _STOPPED_WITHIN_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    async def run(self, pending: Pending, lengths: list[int], *, deadline: float, client: str) -> None:
        """Wait until all of a request's rows are there.

        Args:
            pending: the request.
            lengths: tokens of each of its texts.
            deadline: time.monotonic() at which it is of no use anymore.
            client: whose it is.

        Raises:
            ServeError: there is no room (429), it is too late, or the executor failed (500).
        """
        number = next(self._numbers)
        with self._wake:
            try:
                self._queue.add(
                    number,
                    lengths,
                    now=pending.added,
                    deadline=deadline,
                    lane=(pending.inference, pending.inference.lane(pending.options)),
                    client=client,
                    seconds_per_token=self._seconds_per_token,
                )
            except QueueFullError as exc:
                raise overloaded(str(exc), exc.waiting_tokens * self._seconds_per_token) from exc
            self._pending[number] = pending
            self._crew.crowded |= len(self._pending) > 1
            here = self.may_run_here and not self._crew.crowded and self._is_short(lengths, pending.added)
            if self._crew.is_free and not here:  # else the thread that ends a batch takes the next one
                self._wake.notify()
        try:
            if here:
                await asyncio.sleep(0)  # what has come meanwhile is read, and shares a batch with this one
                self._run_here()
            await pending.done
        finally:  # also when the client is gone or late
            with self._wake:
                self._queue.drop(number)
                self._pending.pop(number, None)

    def _is_short(self, lengths: list[int], now: float) -> bool:
        return now - self._ran < _WARM_S and is_short(lengths, self._seconds_per_token)

    def _run_here(self) -> None:
        """Run what waits in this thread, the loop's, if it is one request's and nothing is to be seen to before."""
        try:
            batch, owners = self._take_here()
            if batch:
                self._finish(batch, owners)
            with self._wake:  # not before: while a batch runs here, nobody else may begin one
                if self._queue.waiting_requests:
                    self._wake.notify()
        except (Exception, SystemExit) as exc:  # as of the other threads
            self._background.crashed(self._work_name, exc)
            self._start_over(exc)

    def _take_here(self) -> tuple[list[Item], list[Pending]]:
        """A batch that begins, and whose each of its texts is; nothing where another thread is to run it.

        It may leave texts of its own request, which fit no batch with the others.
        """
        with self._wake:
            batch: list[Item] = []
            if len(self._pending) == 1 and not self._crew.running and self._watch.sees_nothing_new():
                batch = self._queue.next_batch()
            if batch:
                self._crew.begin(more=False)
            return batch, [self._pending[item.request] for item in batch]

    def _work(self) -> None:
        halved = False
        if self._crew.most > 1:
            take_half(halved)
        while True:
            with self._wake:
                batch = self._next_batch()
                if not batch and not self._stopping:
                    self._wake.wait(self._watch.every_s)
                    batch = self._next_batch()
                if self._stopping:
                    return
                owners = [self._pending[item.request] for item in batch]
                half = self._begin() if batch else halved
            if half is not halved:
                take_half(half)
                halved = half
            if batch:
                self._finish(batch, owners)
            else:
                self._watch.look(self._runs, idle=True)

    def _finish(self, batch: list[Item], owners: list[Pending]) -> None:
        """Run a batch that has begun, and hand out its rows."""
        try:
            self._watch.look(self._runs, idle=False)
            rows = self._execute(batch, owners)
        finally:
            with self._wake:
                self._crew.end()
        self._settle(batch, owners, rows)

    def _next_batch(self) -> list[Item]:
        for number in self._queue.expire(time.monotonic()):
            self._fail(self._pending.pop(number), ServeError("timeout", "the request's time ran out while it waited"))
        return self._queue.next_batch(self._crew.parts) if self._crew.is_free else []

    def _begin(self) -> bool:
        """A batch begins, and another one where there is more; whether it takes half of the threads."""
        more = self._queue.waiting_requests > 0
        half = self._crew.begin(more=more)
        if more and self._crew.is_free:
            self._wake.notify()
        return half

    @contextmanager
    def _runs(self) -> Iterator[None]:
        """The executor's turn; remembered is since when it runs for this thread."""
        with self._turn:
            self._running[threading.get_ident()] = time.monotonic()
            try:
                yield
            finally:
                del self._running[threading.get_ident()]

    def _execute(self, batch: list[Item], owners: list[Pending]) -> list[Any] | Exception:
        if self._watch.what_is_wrong is not None:
            return ServeError("not_ready", f"{self._name} cannot be used: {self._watch.what_is_wrong}")
        token_ids = [owner.token_ids[item.index] for item, owner in zip(batch, owners, strict=True)]
        with self._runs():
            started = time.monotonic()
            for owner in owners:
                owner.first_run = owner.first_run or started
            try:
                rows: list[Any] | Exception = owners[0].inference.embed(token_ids, owners[0].options)
            except Exception as exc:  # whatever it was, the server goes on
                rows = exc
        self._count(batch, time.monotonic() - started)
        return rows

    def _count(self, batch: list[Item], seconds: float) -> None:
        """Measure a batch that has run; whatever goes wrong here costs no answer."""
        num_tokens = sum(item.num_tokens for item in batch)
        each = seconds / max(1, num_tokens) / max(1, self._crew.running)
        self._seconds_per_token += 0.1 * (each - self._seconds_per_token)
        self._ran = time.monotonic()
        if self._listener is None:
            return
        padded = num_tokens
        if self.limits.overhead_tokens is not None:
            padded = len(batch) * max(item.num_tokens for item in batch)
        try:
            self._listener.on_batch(self._name, len(batch), num_tokens, padded, seconds)
        except Exception as exc:
            self._background.crashed(f"metrics of {self._name}", exc)

    def _settle(self, batch: list[Item], owners: list[Pending], rows: list[Any] | Exception) -> None:
        if isinstance(rows, Exception):
            error = as_served(rows)
            for item, owner in {id(o): (i, o) for i, o in zip(batch, owners, strict=True)}.values():
                self._give_up(item, owner, error)
            return
        now = time.monotonic()
        done: list[Pending] = []
        with self._settling:
            for item, owner, row in zip(batch, owners, rows, strict=True):
                if (fault := self._keep(item, owner, row)) is not None:
                    self._give_up(item, owner, fault)
                elif owner.left == 0:
                    owner.last_run = now
                    done.append(owner)
        settle_in_loop(done, lambda future: future.set_result(None))

    def _keep(self, item: Item, owner: Pending, row: Any) -> ServeError | None:
        """Note the row of a text; the error instead, where it is none or more than the answer may hold."""
        if not owner.inference.is_finite(row):
            return translate(NonFiniteError(self._not_finite(item)))
        owner.room -= owner.inference.written(row)
        if owner.room < 0:
            return ServeError("too_large", TOO_MANY_NUMBERS)
        owner.rows[item.index] = row
        owner.left -= 1
        return None

    def _not_finite(self, item: Item) -> str:
        return (
            f"a text of {item.num_tokens} tokens gave a vector with NaN or infinity; this variant "
            f"({self._variant}) does not hold this model's values, serve fp32"
        )

    def _give_up(self, item: Item, owner: Pending, error: ServeError) -> None:
        with self._wake:
            self._queue.drop(item.request)
            self._pending.pop(item.request, None)
        self._fail(owner, error)

    def _start_over(self, exc: BaseException) -> None:
        """Answer everything that waits with an error, and begin with an empty queue: what it held may be broken."""
        with self._wake:
            pending, self._pending = self._pending, {}
            self._queue = BatchQueue(self.limits)
        error = ServeError("failed", "internal error; the server's log has it")
        error.__cause__ = exc
        for owner in pending.values():
            self._fail(owner, error)

    def _fail(self, owner: Pending, error: ServeError) -> None:
        settle_in_loop([owner], lambda future: future.set_exception(error))
