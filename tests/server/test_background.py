"""Threads and tasks of the server that crash: they are seen, what they held is answered, and they start again."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedrt import Embedder
from embedrt.server import background as module
from embedrt.server import workers
from embedrt.server.background import Background
from embedrt.server.policy import BatchQueue
from embedrt.server.settings import Settings
from tests.server.serving import Gate, Served, serving, wait_until


def test_a_thread_that_raises_is_reported_and_runs_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    told: list[str] = []
    answered: list[str] = []
    outcomes: list[BaseException | None] = [ValueError("one"), SystemExit(3), None]

    def work() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    def on_crash(exc: BaseException) -> None:
        answered.append(type(exc).__name__)
        raise MemoryError

    Background(told.append).thread("the work", work, on_crash).join(10)
    assert not outcomes
    assert answered == ["ValueError", "SystemExit"]
    assert told == ["the work"] * 4  # each crash, and each failed answer to it


def test_a_task_that_raises_runs_again_and_one_that_is_cancelled_does_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    runs: list[int] = []

    async def work() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise KeyError
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(Background().task("it", work))
        while len(runs) < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(runs) == 3


def test_crashes_in_a_row_turn_readiness_off_until_it_has_worked_for_a_while():
    now = 0.0
    watched = Background(clock=lambda: now)
    pauses = [watched.crashed("it", ValueError()) for _ in range(2)]
    assert pauses == [0.05, 0.1]
    assert watched.why_not_ready() is None
    watched.crashed("it", TypeError())
    assert watched.why_not_ready() == "it crashed 3 times in a row, the last time by TypeError"
    now = 31.0
    assert watched.why_not_ready() is None
    assert watched.crashed("it", ValueError()) == 0.05
    assert watched.why_not_ready() is None


def _queue(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    original, failures = BatchQueue.next_batch, [MemoryError()]

    def next_batch(queue: BatchQueue, *given: int) -> Any:
        if queue.waiting_requests and failures:
            raise failures.pop()
        return original(queue, *given)

    monkeypatch.setattr(BatchQueue, "next_batch", next_batch)


def _rows(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    original, failures = served.engine.embedder.embed_tokens, [1]

    def embed_tokens(*given: Any) -> Any:
        return original(*given) if not failures else [] * failures.pop()  # fewer rows than texts

    monkeypatch.setattr(served.engine.embedder, "embed_tokens", embed_tokens)


def _exit(monkeypatch: pytest.MonkeyPatch, served: Served) -> None:
    original, failures = served.engine.embedder.embed_tokens, [SystemExit(1)]

    def embed_tokens(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(*given)

    monkeypatch.setattr(served.engine.embedder, "embed_tokens", embed_tokens)


@pytest.mark.parametrize("fault", [_queue, _rows, _exit])
def test_whatever_the_batch_worker_raises_is_answered_and_the_next_request_works(
    lookup_bundle: Path, library: Embedder, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None]
):
    with serving(lookup_bundle, variant="fp32") as served:
        fault(monkeypatch, served)
        failed = served.post("/v1/embeddings", {"input": ["a", "stone"]}, X_Request_Timeout="20")
        assert (failed.status_code, failed.json()["error"]["code"]) == (500, "failed")
        answer = served.post("/embed", {"inputs": "stone"})
        assert np.array_equal(np.array(answer.json(), np.float32), library.encode(["stone"]))
        assert served.engine.waiting_tokens == 0
        assert served.get("/health/ready").status_code == 200
        assert 'embedrt_background_crashes_total{name="batches of lookup"} 1.0' in served.get("/metrics").text


def test_a_worker_that_crashes_at_every_request_is_not_ready(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    with serving(lookup_bundle, variant="fp32") as served:
        monkeypatch.setattr(served.engine.batches, "_settle", lambda *_: 1 // 0)
        assert [served.post("/embed", {"inputs": "stone"}).status_code for _ in range(3)] == [500] * 3
        refused = served.get("/health/ready")
        assert refused.status_code == 503
        assert "batches of lookup crashed 3 times in a row, the last time by ZeroDivisionError" in refused.text
        assert served.get("/health/live").status_code == 200


def test_metrics_that_fail_cost_no_answer(lookup_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    with serving(lookup_bundle, variant="fp32") as served:
        monkeypatch.setattr(served.service.metrics, "on_batch", lambda *_: 1 // 0)
        assert served.post("/embed", {"inputs": "stone"}).status_code == 200
        assert 'embedrt_background_crashes_total{name="metrics of lookup"} 1.0' in served.get("/metrics").text


def test_only_the_request_with_a_token_that_the_model_lacks_fails(lookup_bundle: Path):
    """The tokenizer gives a token beyond the model's table; requests of the same batch are not touched."""
    with serving(lookup_bundle, variant="fp32") as served, ThreadPoolExecutor(8) as pool:
        gate = Gate(served.engine)
        first = pool.submit(served.post, "/embed", {"inputs": "stone"})
        wait_until(lambda: gate.batches)
        served.engine.embedder.tokenizer.num_rows -= 1
        good = [pool.submit(served.post, "/embed", {"inputs": f"water {i}"}) for i in range(4)]
        last = max(served.engine.embedder.tokenizer._ids.library.get_vocab().items(), key=lambda pair: pair[1])[0]
        bad = pool.submit(served.post, "/embed", {"inputs": ["a", last]}).result()
        assert bad.status_code == 422
        assert "rows" in bad.json()["error"]
        gate.remove()
        assert {one.result().status_code for one in (first, *good)} == {200}


def test_the_supervisor_sleeps_while_it_puts_off_a_restart(monkeypatch: pytest.MonkeyPatch):
    """A dead process's sentinel is ready for ever: waiting for it would turn the loop without end."""

    class Dead:
        pid, sentinel, exitcode = 1, 7, -9

        def is_alive(self) -> bool:
            return False

    waited: list[tuple[list[Any], float]] = []
    monkeypatch.setattr(workers, "wait", lambda handles, timeout: waited.append((list(handles), timeout)))
    supervisor = workers.Supervisor(Settings(workers=2), None)  # type: ignore[arg-type]
    monkeypatch.setattr(supervisor, "_pause_after", lambda *_: 60.0)
    supervisor._workers = [workers._Worker(Dead(), 0.0, ctypes.c_double(0.0))]  # type: ignore[arg-type]
    for _ in range(3):
        supervisor.look()
    assert [handles for handles, _ in waited] == [[7], [], []]
    assert all(timeout > 0 for _, timeout in waited)
