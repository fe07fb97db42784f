"""How many batches run at once, and on how many threads each."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server import batches
from embedrt.server.crew import Crew
from embedrt.server.engine import ModelEngine
from embedrt.server.inference import of_embedder
from embedrt.server.policy import QueueLimits
from embedrt.server.pool import Pool
from embedrt.server.prepare import Work
from tests.server.serving import Gate, wait_until


def test_what_is_alone_has_all_threads_and_nothing_begins_beside_it():
    crew = Crew(divides=True)
    assert not crew.begin(more=False)
    assert not crew.is_free
    crew.end()
    assert crew.is_free


def test_where_more_waits_two_run_with_half_of_the_threads_each():
    crew = Crew(divides=True)
    assert crew.begin(more=True)
    assert crew.is_free
    assert crew.begin(more=False)
    assert not crew.is_free
    crew.end()
    assert crew.begin(more=False)  # beside the other one
    crew.end()
    crew.end()
    assert not crew.begin(more=False)


def test_where_requests_came_side_by_side_the_next_one_is_not_expected_to_be_alone():
    crew = Crew(divides=True)
    crew.crowded = True
    assert crew.parts == 2
    assert crew.begin(more=False)
    assert crew.parts == 1
    crew.end()
    assert not crew.begin(more=False)  # nobody came beside it


def test_models_that_cannot_divide_their_threads_run_one_batch_at_a_time():
    crew = Crew(divides=False)
    assert crew.parts == 1
    assert not crew.begin(more=True)
    assert not crew.is_free


def test_an_engine_runs_two_batches_where_three_wait(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    """The first one came alone; of the others two run at once, and each request gets its own rows."""
    halves: list[tuple[int, bool]] = []
    monkeypatch.setattr(batches, "take_half", lambda half: halves.append((threading.get_ident(), half)))
    texts = [["stone water light"] * 2, ["a house of bread"], ["the river is light"]]
    with Embedder(lookup_bundle, variant="fp32", num_threads=1) as library:
        wanted = [library.encode(each) for each in texts]
        embedder = Embedder(lookup_bundle, variant="fp32", num_threads=1)
        pool, limits = Pool(1), QueueLimits(batch_tokens=6)
        engine = ModelEngine("m", embedder, of_embedder(embedder), limits, pool=pool, divides=True)
        gate = Gate(engine)

        async def ask(inputs: list[str]) -> list[np.ndarray]:
            work = Work(inputs, embedder.resolve())
            answer = await engine.run(await engine.prepare(work), work)
            return [answer.rows[row] for row in answer.row_of]

        async def ask_all() -> list[list[np.ndarray]]:
            tasks = [asyncio.create_task(ask(texts[0]))]
            await asyncio.to_thread(wait_until, lambda: len(gate.batches) == 1)
            tasks += [asyncio.create_task(ask(each)) for each in texts[1:]]
            await asyncio.to_thread(wait_until, lambda: engine.waiting_requests == 2)
            assert len(gate.batches) == 1
            gate.let(1)
            await asyncio.to_thread(wait_until, lambda: len(gate.batches) == 3)
            gate.let(2)
            return await asyncio.gather(*tasks)

        found = asyncio.run(ask_all())
        engine.stop()
        pool.stop()
    for rows, right in zip(found, wanted, strict=True):
        assert np.array_equal(embedder.finish(rows, embedder.resolve()), right)
    assert [half for _, half in halves if half] == [True, True]
    assert len({thread for thread, half in halves if half}) == 2
