"""Systems without /proc, and without signal handlers of the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from embedrt.server import hosting, metrics
from embedrt.server.models import Models


def test_metrics_without_proc_leave_out_what_they_cannot_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "Path", lambda path: Path("/nowhere") / str(path).lstrip("/"))
    assert metrics.resident_bytes() is None
    assert metrics.num_threads() is None
    assert b"embedrt_" in metrics.Metrics().page(Models())


def test_signals_reach_a_loop_that_cannot_watch_for_them() -> None:
    class Loop:
        def __init__(self, inner: asyncio.AbstractEventLoop) -> None:
            self.inner = inner

        def add_signal_handler(self, *_: Any) -> None:
            raise NotImplementedError

        def call_soon_threadsafe(self, act: Any) -> None:
            self.inner.call_soon_threadsafe(act)

    async def wait() -> None:
        seen = asyncio.Event()
        hosting.on_signal(Loop(asyncio.get_running_loop()), signal.SIGUSR2, seen.set)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(seen.wait(), 5)

    before = signal.getsignal(signal.SIGUSR2)
    try:
        asyncio.run(wait())
    finally:
        signal.signal(signal.SIGUSR2, before)
