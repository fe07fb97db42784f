"""Whether the server is alive and ready, and a watchdog for an executor that does not return."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.server.answers import to_json
from embedrt.server.background import Background
from embedrt.server.logs import log
from embedrt.server.models import Models

_LOOK_EVERY_S = 1.0
_STALLS_KEPT = 15  # seconds, as Prometheus looks


class Health:
    """Ready means: loaded, warmed up, not going down, no batch has run for too long, and nothing crashes repeatedly."""

    def __init__(self, models: Models, stall_timeout_s: float, background: Background) -> None:
        self._models = models
        self._background = background
        self._stall_timeout_s = stall_timeout_s
        self.draining = False
        self.longest_stall_s = 0.0  # of the event loop, seen by the watchdog
        self.stalls_s: deque[float] = deque([0.0], maxlen=_STALLS_KEPT)  # the longest of each second
        self.told: list[Callable[[str | None], None]] = []  # called every second with `why_not_ready`
        self.beats: list[Callable[[], None]] = []  # called every second, as long as the loop turns

    def why_not_ready(self) -> str | None:
        """The reason, or None when ready."""
        if self.draining:
            return "the server is going down"
        if not self._models.loaded:
            return "the models are still loading"
        for engine in self._models:
            if (wrong := engine.what_is_wrong) is not None:
                return f"{engine.name}: {wrong}"
            seconds = engine.running_for()
            if seconds > self._stall_timeout_s:
                return f"the executor of {engine.name} has not returned for {seconds:.0f} s"
        return self._background.why_not_ready()

    async def watch(self) -> None:
        """Log when readiness changes, and how long the event loop was held up. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        before: str | None = ""
        while True:
            reason = self.why_not_ready()
            if (reason is None) != (before is None):
                ready = reason is None
                log("ready" if ready else "not ready", level=logging.INFO if ready else logging.WARNING,
                    **({} if ready else {"reason": reason}))  # fmt: skip
                before = reason
            for tell in self.told:
                tell(reason)
            for beat in self.beats:
                beat()
            self.stalls_s.append(0.0)
            for _ in range(20):
                wanted = loop.time() + _LOOK_EVERY_S / 20
                await asyncio.sleep(_LOOK_EVERY_S / 20)
                late = loop.time() - wanted
                self.longest_stall_s = max(self.longest_stall_s, late)
                self.stalls_s[-1] = max(self.stalls_s[-1], late)

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route("/health", self.ready, methods=["GET"]),
            Route("/ping", self.ready, methods=["GET"]),  # SageMaker's
            Route("/health/live", self.live, methods=["GET"]),
            Route("/health/ready", self.ready, methods=["GET"]),
        ]

    async def live(self, request: Request) -> Response:
        """200 as long as the event loop turns."""
        del request
        return Response(to_json({"status": "live"}), media_type="application/json")

    async def ready(self, request: Request) -> Response:
        """200 when ready, with the identity behind each name that may be called, else 503 with the reason."""
        del request
        reason = self.why_not_ready()
        if reason is None:
            told = {"status": "ready", "identities": self._models.identities}
            return Response(to_json(told), media_type="application/json")
        return Response(
            to_json({"status": "not ready", "error": reason, "error_type": "Unhealthy"}),
            503,
            {"Retry-After": "5"},
            "application/json",
        )
