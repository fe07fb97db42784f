"""A server in a thread of the test's process, on a free port of the loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from embedrt.server.app import api_routes, make_app, make_service
from embedrt.server.engine import ModelEngine
from embedrt.server.models import open_bundles
from embedrt.server.run import bounded_protocol
from embedrt.server.service import Service
from embedrt.server.settings import Settings


class Served:
    """A running server."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=30)

    @property
    def routes(self) -> list[Any]:
        """What the application answers."""
        return api_routes(self.service)

    @property
    def engine(self) -> ModelEngine:
        """The default model's."""
        return next(iter(self.service.models))

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """POST JSON, or bytes as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": body}
        return self.client.post(path, headers={k.replace("_", "-"): v for k, v in headers.items()}, **content)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET."""
        return self.client.get(path, headers=headers)


@contextmanager
def serving(*bundles: Path | str, ready: bool = True, **settings: Any) -> Iterator[Served]:
    """Serve bundles with these settings for the length of a `with` block."""
    chosen = Settings(bundles=tuple(map(str, bundles)), threads=1, **settings)
    service = make_service(chosen)
    failures: list[str] = []
    config = uvicorn.Config(
        make_app(service, open_bundles(chosen.bundles), failures.append),
        http=bounded_protocol(service),
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    with hosted(config) as url:
        served = Served(service, url)
        try:
            if ready:
                wait_until(lambda: service.models.loaded or bool(failures))
                assert not failures, failures
            yield served
        finally:
            served.client.close()


@contextmanager
def hosted(config: uvicorn.Config) -> Iterator[str]:
    """Run an application in a thread for the length of a `with` block; its URL."""
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)

        def serve() -> None:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:  # as `serve_here`
                runner.run(server.serve(sockets=[listener]))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@contextmanager
def _no_signals() -> Iterator[None]:
    yield


def wait_until(condition: Any, seconds: float = 20) -> None:
    """Return as soon as `condition()` is true; fail when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Gate:
    """Holds an engine's executor: batches run only when let through, and are recorded."""

    def __init__(self, engine: ModelEngine) -> None:
        self._embedder = engine.embedder
        self._batches, self._may_run_here = engine.batches, engine.batches.may_run_here
        self._original = engine.embedder.embed_tokens
        self._open = threading.Semaphore(0)
        self.batches: list[list[int]] = []  # token counts of each batch that began
        engine.embedder.embed_tokens = self._run  # type: ignore[method-assign]
        self._batches.may_run_here = False  # the event loop would be held with it

    def _run(self, token_ids: Any, options: Any) -> Any:
        self.batches.append([len(ids) for ids in token_ids])
        assert self._open.acquire(timeout=30)
        return self._original(token_ids, options)

    def let(self, count: int) -> None:
        """Let so many batches through."""
        self._open.release(count)

    def remove(self) -> None:
        """Let everything through from now on."""
        self._embedder.embed_tokens = self._original  # type: ignore[method-assign]
        self._batches.may_run_here = self._may_run_here
        self._open.release(1000)
