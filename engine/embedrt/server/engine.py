"""One model at work: tokenizes off the event loop, lets requests wait, and runs batches in a thread of its own.

Requests come from the event loop. Texts are tokenized in a thread pool, in slices, so that a small request need not
wait for a large one. Then they wait in the BatchQueue; the worker takes a batch whenever it is free, so nothing waits
at an idle server, and the rows go back to the loop when a request's last text is done.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.errors import EmbedrtError, NonFiniteError
from embedrt.executors.library import take_half
from embedrt.manifest import outputs_of
from embedrt.model import Model
from embedrt.outputs import OUTPUT_NAMES
from embedrt.results import Truncation
from embedrt.server.background import Background
from embedrt.server.cache import RowCache
from embedrt.server.crew import Crew
from embedrt.server.errors import ServeError, overloaded, translate
from embedrt.server.inference import Choose, Inference
from embedrt.server.pending import Pending, Phases, as_served, phases_of, settle_in_loop
from embedrt.server.policy import BatchQueue, Item, QueueFullError, QueueLimits
from embedrt.server.pool import Pool
from embedrt.server.prepare import Prepared, Work
from embedrt.server.proof import Proof
from embedrt.server.sizes import Size


@dataclass(frozen=True)
class Answer:
    """Rows as the executor gave them; `row_of[i]` is the row of input i. Equal texts share one."""

    rows: list[Any]  # arrays, or other outputs of a text (`TextOutputs`)
    row_of: list[int]
    used_tokens: int  # that the model saw, windows with what they share, equal texts counted each time
    truncated: tuple[Truncation, ...]
    identity: str
    phases: Phases


TOO_MANY_NUMBERS = (
    "the texts have more weights than an answer may hold (answer_mb); split the request, give max_active_dims, or "
    "raise answer_mb"
)
_OUTPUTS = {field: name for name, field in OUTPUT_NAMES.items()} | {"scores": "scores"}
_LOOK_EVERY_S = 1.0  # at the files of an idle model
_LOOK_BEFORE_BATCH_S = 0.05  # at those of a busy one: each look gives up the GIL, and 20 in a second cost nothing


class BatchListener(Protocol):
    """Told of every batch and every proof, in the worker's thread."""

    def on_batch(self, model: str, num_texts: int, num_tokens: int, padded_tokens: int, seconds: float) -> None:
        """A batch has run."""

    def on_proof(self, model: str, *, same: bool) -> None:
        """A parity text was embedded again."""

    def on_cache(self, model: str, hits: int, misses: int) -> None:
        """Texts of a request were looked up (in the loop's thread)."""


class ModelEngine:
    """Serves one model to any number of requests.

    Args:
        name: what clients call the model.
        embedder: the model, or what has an embedder's names for it; owned from now on, closed by `stop`.
        choose: what the model does with a work.
        outputs: its sparse vectors and vectors of tokens, where it gives some.
        limits: of batches and queue.
        pool: where texts are tokenized.
        turn: held while a batch runs; models that share threads share it.
        divides: whether two batches may run at once, with half of the threads each (`Crew`).
        listener: told of batches.
        background: keeps the thread that runs batches alive.
        proof: whether the model still is what it was; looked at before each batch, and where nothing waits.
        cache: remembers rows of texts.
    """

    def __init__(
        self,
        name: str,
        embedder: Embedder,
        choose: Choose,
        limits: QueueLimits,
        *,
        pool: Pool,
        outputs: Model | None = None,
        turn: AbstractContextManager[object] | None = None,
        divides: bool = False,
        listener: BatchListener | None = None,
        background: Background | None = None,
        proof: Proof | None = None,
        cache: RowCache | None = None,
    ) -> None:
        self.name = name
        self.embedder = embedder
        self.outputs = outputs
        self._choose = choose
        self.limits = limits
        self._pool = pool
        self._turn = turn if turn is not None else nullcontext()
        self._listener = listener
        self._queue = BatchQueue(limits)
        self._pending: dict[int, Pending] = {}
        self._numbers = itertools.count(1)
        self._wake = threading.Condition()
        self._stopping = False
        self._crew = Crew(divides=divides)
        self._settling = threading.Lock()  # a request may have texts in two batches at once
        self._looking = threading.Lock()
        self._running: dict[int, float] = {}  # since when, by thread
        self._seconds_per_token = 0.0005  # replaced by what is measured
        self.what_is_wrong: str | None = None  # why nothing is computed anymore
        self._proof = proof
        self.cache = cache
        self._looked = 0.0
        self._background = background if background is not None else Background()
        self._workers = [
            self._background.thread(f"batches of {name}", self._work, self._start_over) for _ in range(self._crew.most)
        ]

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Its outputs by their names in `heads.OUTPUTS`."""
        return outputs_of(self.embedder.bundle.manifest)

    @property
    def gives(self) -> tuple[str, ...]:
        """Its outputs: some of "dense", "sparse", "tokens", "scores"."""
        return tuple(_OUTPUTS[name] for name in self.fields)

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

    def stop(self) -> None:
        """Let the batch that runs end, drop the rest, and free the model."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        deadline = time.monotonic() + 10
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        if not any(worker.is_alive() for worker in self._workers):  # freeing what a stuck executor uses would crash
            self.embedder.close()
            if self._proof is not None:
                self._proof.weights.close()

    async def prepare(self, work: Work) -> Prepared:
        """What is run for the request's inputs, with which `size` is known.

        Raises:
            ServeError: an input does not fit (422).
        """
        try:
            return await self._choose(work).prepare(self._pool, work)
        except EmbedrtError as exc:
            raise translate(exc) from exc

    def size(self, prepared: Prepared, work: Work, number_bytes: float) -> Size:
        """What the request becomes when it is run and answered with so many bytes per number."""
        return self._choose(work).size(prepared, work, number_bytes)

    async def run(self, prepared: Prepared, work: Work) -> Answer:
        """Rows of what was prepared.

        Raises:
            ServeError: there is no room (429), or the executor failed (500).
        """
        inference, options = self._choose(work), work.options
        pending: Pending | None = None

        async def compute(token_ids: list[NDArray[Any]]) -> list[Any]:
            nonlocal pending
            pending = await self._wait(inference, token_ids, work, time.monotonic())
            return pending.rows

        if self.cache is None or self.what_is_wrong is not None or not inference.is_kept(options):
            rows = await compute(prepared.token_ids)
        else:
            rows = await self.cache.rows(prepared.token_ids, (inference.lane(options), work.owner), compute)
            self._count_cached(len(rows), 0 if pending is None else len(pending.token_ids))
        limit = inference.limit(options)
        counts = enumerate(prepared.num_tokens if prepared.weights is None else ())  # windows cut nothing
        return Answer(
            rows=await inference.finish(self._pool, rows, prepared, work),
            row_of=prepared.row_of,
            used_tokens=prepared.used_tokens(limit),
            truncated=tuple(Truncation(i, n, limit) for i, n in counts if n > limit),
            identity=inference.identity(options),
            phases=phases_of(prepared, pending),
        )

    def _count_cached(self, total: int, computed: int) -> None:
        if self._listener is not None:
            self._listener.on_cache(self.name, total - computed, computed)

    async def _wait(self, inference: Inference, token_ids: list[NDArray[Any]], work: Work, now: float) -> Pending:
        loop = asyncio.get_running_loop()
        count = len(token_ids)
        pending = Pending(inference, token_ids, work.options, loop, loop.create_future(), now)
        pending.room = inference.room(work)
        pending.rows = [np.empty(0, np.float32)] * count
        pending.left = count
        number = next(self._numbers)
        with self._wake:
            try:
                self._queue.add(
                    number,
                    [inference.num_tokens(ids, work.options) for ids in token_ids],
                    now=now,
                    deadline=work.deadline,
                    lane=(inference, inference.lane(work.options)),
                    client=work.client,
                    seconds_per_token=self._seconds_per_token,
                )
            except QueueFullError as exc:
                raise overloaded(str(exc), exc.waiting_tokens * self._seconds_per_token) from exc
            self._pending[number] = pending
            if self._crew.is_free:  # else the thread that ends a batch takes the next one
                self._wake.notify()
        try:
            await pending.done
        finally:  # also when the client is gone or late
            with self._wake:
                self._queue.drop(number)
                self._pending.pop(number, None)
        return pending

    def _work(self) -> None:
        halved = False
        if self._crew.most > 1:
            take_half(halved)
        while True:
            with self._wake:
                batch = self._next_batch()
                if not batch and not self._stopping:
                    self._wake.wait(None if self._proof is None else _LOOK_EVERY_S)
                    batch = self._next_batch()
                if self._stopping:
                    return
                owners = [self._pending[item.request] for item in batch]
                half = self._begin() if batch else halved
            if half is not halved:
                take_half(half)
                halved = half
            try:
                self._look(idle=not batch)
                rows = self._execute(batch, owners) if batch else []
            finally:
                if batch:
                    with self._wake:
                        self._crew.end()
            self._settle(batch, owners, rows)

    def _begin(self) -> bool:
        """A batch begins, and another one where there is more; whether it takes half of the threads."""
        more = self._queue.waiting_requests > 0
        half = self._crew.begin(more=more)
        if more and self._crew.is_free:
            self._wake.notify()
        return half

    @contextmanager
    def _runs(self) -> Iterator[None]:
        """Remember since when the executor runs for this thread."""
        self._running[threading.get_ident()] = time.monotonic()
        try:
            yield
        finally:
            del self._running[threading.get_ident()]

    def _look(self, *, idle: bool) -> None:
        """See whether the model is what it was, unless another thread does so."""
        if self._proof is None or (not idle and time.monotonic() - self._looked < _LOOK_BEFORE_BATCH_S):
            return
        if self._looking.acquire(blocking=False):
            try:
                self._look_at(self._proof, idle=idle)
            finally:
                self._looking.release()

    def _look_at(self, proof: Proof, *, idle: bool) -> None:
        self._looked = time.monotonic()
        if proof.is_due(idle=idle) and proof.weights.what_changed() is None:
            with self._turn, self._runs():
                same = proof.prove()
            proof.weights.say_replaced(self.name)
            if self._listener is not None:
                self._listener.on_proof(self.name, same=same)
        self.what_is_wrong = proof.what_is_wrong()

    def _start_over(self, exc: BaseException) -> None:
        """Answer everything that waits with an error, and begin with an empty queue: what it held may be broken."""
        with self._wake:
            pending, self._pending = self._pending, {}
            self._queue = BatchQueue(self.limits)
        error = ServeError("failed", "internal error; the server's log has it")
        error.__cause__ = exc
        for owner in pending.values():
            self._fail(owner, error)

    def _next_batch(self) -> list[Item]:
        for number in self._queue.expire(time.monotonic()):
            self._fail(self._pending.pop(number), ServeError("timeout", "the request's time ran out while it waited"))
        return self._queue.next_batch() if self._crew.is_free else []

    def _execute(self, batch: list[Item], owners: list[Pending]) -> list[Any] | Exception:
        if self.what_is_wrong is not None:
            return ServeError("not_ready", f"{self.name} cannot be used: {self.what_is_wrong}")
        token_ids = [owner.token_ids[item.index] for item, owner in zip(batch, owners, strict=True)]
        with self._turn, self._runs():
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
        if self._listener is None:
            return
        padded = num_tokens
        if self.limits.overhead_tokens is not None:
            padded = len(batch) * max(item.num_tokens for item in batch)
        try:
            self._listener.on_batch(self.name, len(batch), num_tokens, padded, seconds)
        except Exception as exc:
            self._background.crashed(f"metrics of {self.name}", exc)

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
            f"({self.embedder.variant}) does not hold this model's values, serve fp32"
        )

    def _give_up(self, item: Item, owner: Pending, error: ServeError) -> None:
        with self._wake:
            self._queue.drop(item.request)
            self._pending.pop(item.request, None)
        self._fail(owner, error)

    def _fail(self, owner: Pending, error: ServeError) -> None:
        settle_in_loop([owner], lambda future: future.set_exception(error))
