"""Which thread runs a request: the event loop's own where it is short and alone, else one of the model's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server.engine import ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.inference import of_embedder
from embedrt.server.policy import QueueLimits
from embedrt.server.pool import Pool
from embedrt.server.prepare import Work

TEXTS = ["stone", "the water", "a house of bread", "a light river"]


class Recorded:
    """An engine, and of each of its batches the lengths and whether the calling thread ran it."""

    def __init__(self, bundle: Path, **options: Any) -> None:
        self.embedder = Embedder(bundle, variant="fp32", num_threads=1)
        limits = options.pop("limits", QueueLimits())
        self.engine = ModelEngine("m", self.embedder, of_embedder(self.embedder), limits, pool=Pool(1), **options)
        self.engine.batches._seconds_per_token = 1e-6
        self.engine.batches._ran = time.monotonic()
        self.batches: list[tuple[list[int], bool]] = []
        self.before_it_runs: Callable[[], None] = lambda: None
        self._original = self.embedder.embed_tokens
        self.embedder.embed_tokens = self._run  # type: ignore[method-assign]

    def _run(self, token_ids: Any, options: Any) -> Any:
        self.before_it_runs()
        here = threading.current_thread() is threading.main_thread()
        self.batches.append(([len(ids) for ids in token_ids], here))
        return self._original(token_ids, options)

    async def ask(self, *texts: str) -> list[np.ndarray]:
        work = Work(texts, self.embedder.resolve())
        answer = await self.engine.run(await self.engine.prepare(work), work)
        return [answer.rows[row] for row in answer.row_of]


@pytest.fixture
def recorded(lookup_bundle: Path) -> Iterator[Recorded]:
    made = Recorded(lookup_bundle)
    yield made
    made.engine.stop()


def test_a_short_request_that_is_alone_runs_in_the_loops_thread(recorded: Recorded, library: Embedder):
    rows = asyncio.run(recorded.ask(*TEXTS))
    assert np.array_equal(recorded.embedder.finish(rows, recorded.embedder.resolve()), library.encode(TEXTS))
    assert recorded.batches == [(sorted(library.count_tokens(TEXTS), reverse=True), True)]


def test_requests_side_by_side_share_a_batch_of_another_thread(recorded: Recorded):
    async def ask_all() -> None:
        await asyncio.gather(*(recorded.ask(text) for text in TEXTS))

    asyncio.run(ask_all())
    assert not any(here for _, here in recorded.batches)


def test_what_takes_long_runs_in_another_thread(recorded: Recorded):
    recorded.engine.batches._seconds_per_token = 0.001
    asyncio.run(recorded.ask("stone"))
    assert recorded.batches == [([3], False)]


def test_weights_that_may_have_left_memory_are_read_in_another_thread(recorded: Recorded):
    recorded.engine.batches._ran -= 11
    for _ in range(2):
        asyncio.run(recorded.ask("stone"))
    assert recorded.batches == [([3], False), ([3], True)]


def test_models_that_take_turns_never_make_the_loop_wait_for_one(lookup_bundle: Path):
    made = Recorded(lookup_bundle, turn=nullcontext())
    asyncio.run(made.ask("stone"))
    made.engine.stop()
    assert made.batches == [([3], False)]


def test_what_fits_no_batch_with_the_rest_of_its_request_is_left_to_another_thread(lookup_bundle: Path):
    """Which is woken when the loop's batch has ended: before, it would find that it may not begin, and sleep on."""
    made = Recorded(lookup_bundle, limits=QueueLimits(batch_tokens=16, overhead_tokens=2))
    made.before_it_runs = lambda: time.sleep(0.05)
    rows = asyncio.run(asyncio.wait_for(made.ask("stone", "stone water " * 6), 30))
    made.engine.stop()
    assert len(rows) == 2
    assert made.batches == [([14], True), ([3], False)]


def test_an_executor_that_fails_in_the_loops_thread_is_answered(recorded: Recorded, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as broken:
        broken.setattr(recorded.embedder, "embed_tokens", lambda *_: 1 // 0)
        with pytest.raises(ServeError, match="internal error"):
            asyncio.run(recorded.ask("stone"))
        broken.setattr(recorded.embedder, "embed_tokens", lambda *_: [np.full(8, np.nan, np.float32)])
        with pytest.raises(ServeError, match="NaN or infinity"):
            asyncio.run(recorded.ask("stone"))
    assert len(asyncio.run(recorded.ask("stone"))) == 1
    assert recorded.batches == [([3], True)]


def test_a_model_whose_files_have_changed_is_looked_at_in_another_thread(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
):
    """Their sums are taken there, which may take long."""
    monkeypatch.setattr(recorded.engine.watch, "sees_nothing_new", lambda: False)
    asyncio.run(recorded.ask("stone"))
    assert recorded.batches == [([3], False)]
