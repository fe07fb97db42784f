"""One model at work: what requests ask of it, and what it answers.

Requests come from the event loop. Texts are tokenized in a thread pool, in slices, so that a small request need not
wait for a large one. Then they are run in batches (`Batches`), but for those of which the rows are remembered.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.errors import EmbedrtError
from embedrt.manifest import outputs_of
from embedrt.model import Model
from embedrt.outputs import OUTPUT_NAMES
from embedrt.results import Truncation
from embedrt.server.background import Background
from embedrt.server.batches import Batches, BatchListener
from embedrt.server.cache import RowCache
from embedrt.server.errors import translate
from embedrt.server.inference import Choose, Inference
from embedrt.server.pending import Pending, Phases, phases_of
from embedrt.server.policy import QueueLimits
from embedrt.server.pool import Pool
from embedrt.server.prepare import Prepared, Work
from embedrt.server.proof import Proof
from embedrt.server.sizes import Size
from embedrt.server.watch import Watch

_OUTPUTS = {field: name for name, field in OUTPUT_NAMES.items()} | {"scores": "scores"}


@dataclass(frozen=True)
class Answer:
    """Rows as the executor gave them; `row_of[i]` is the row of input i. Equal texts share one."""

    rows: list[Any]  # arrays, or other outputs of a text (`TextOutputs`)
    row_of: list[int]
    used_tokens: int  # that the model saw, windows with what they share, equal texts counted each time
    truncated: tuple[Truncation, ...]
    identity: str
    phases: Phases


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
        background: keeps the threads that run batches alive.
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
        self.cache = cache
        self._choose = choose
        self._pool = pool
        self._listener = listener
        self.watch = Watch(name, proof, self._on_proof)
        self.batches = Batches(
            name,
            embedder.variant,
            limits,
            self.watch,
            turn=turn,
            divides=divides,
            listener=listener,
            background=background if background is not None else Background(),
        )

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
        return self.batches.waiting_tokens

    @property
    def waiting_requests(self) -> int:
        """Requests that wait for the executor."""
        return self.batches.waiting_requests

    @property
    def what_is_wrong(self) -> str | None:
        """Why nothing is computed anymore; None while there is no reason."""
        return self.watch.what_is_wrong

    def running_for(self) -> float:
        """Seconds since the executor was called and has not returned; 0 when it is idle."""
        return self.batches.running_for()

    def stop(self) -> None:
        """Let the batch that runs end, drop the rest, and free the model."""
        if self.batches.stop():  # freeing what a stuck executor uses would crash
            self.embedder.close()
            self.watch.close()

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
            pending = await self._compute(inference, token_ids, work)
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

    async def _compute(self, inference: Inference, token_ids: list[NDArray[Any]], work: Work) -> Pending:
        """The request once all its rows are there."""
        loop = asyncio.get_running_loop()
        count = len(token_ids)
        pending = Pending(inference, token_ids, work.options, loop, loop.create_future(), time.monotonic())
        pending.room = inference.room(work)
        pending.rows = [np.empty(0, np.float32)] * count
        pending.left = count
        lengths = [inference.num_tokens(ids, work.options) for ids in token_ids]
        await self.batches.run(pending, lengths, deadline=work.deadline, client=work.client)
        return pending

    def _count_cached(self, total: int, computed: int) -> None:
        if self._listener is not None:
            self._listener.on_cache(self.name, total - computed, computed)

    def _on_proof(self, same: bool) -> None:
        if self._listener is not None:
            self._listener.on_proof(self.name, same=same)
