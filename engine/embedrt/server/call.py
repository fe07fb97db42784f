"""One HTTP request on its way: its deadline, its client, and what is to be said about it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from embedrt.server.engine import Answer, ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.settings import Settings

T = TypeVar("T")

_MAX_TIMEOUT_S = 3600.0


@dataclass
class Call:
    """What is known of a request; log, metrics and headers are written from it."""

    request_id: str
    client: str = ""  # whose shares it takes from: a key's, else an address's
    key: str = ""  # name of the key that was shown; never the key
    started: float = field(default_factory=time.monotonic)
    model: str = ""
    identity: str = ""
    device: str = ""
    num_texts: int = 0
    num_characters: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    phases: dict[str, float] = field(default_factory=dict)  # seconds, in the order of the work
    status: int = 0
    error: str = ""  # kind
    held: int = 0  # bytes, counted by ByteBudget
    metered_tokens: int = 0  # counted by Meters

    def note(self, engine: ModelEngine, answer: Answer) -> None:
        """Remember what an answer holds; a request may get several."""
        self.model, self.identity, self.device = engine.name, answer.identity, engine.embedder.device
        self.num_texts += len(answer.row_of)
        self.num_tokens += answer.used_tokens
        self.num_truncated += len(answer.truncated)
        for name in ("tokenize", "queue", "compute"):
            self.phases[name] = self.phases.get(name, 0.0) + getattr(answer.phases, name)

    def note_tokens(self, engine: ModelEngine, num_texts: int, num_tokens: int, seconds: float) -> None:
        """Remember an answer that holds no vectors."""
        self.model, self.identity, self.device = engine.name, engine.embedder.identity, engine.embedder.device
        self.num_texts += num_texts
        self.num_tokens += num_tokens
        self.phases["tokenize"] = self.phases.get("tokenize", 0.0) + seconds

    @contextlib.contextmanager
    def timed(self, phase: str) -> Any:
        """Add what happens inside to a phase."""
        begin = time.monotonic()
        yield
        self.phases[phase] = self.phases.get(phase, 0.0) + time.monotonic() - begin

    def facts(self) -> dict[str, str | int | float]:
        """What log lines and traces say of it: model, counts, and milliseconds per phase."""
        counted: dict[str, str | int | float] = {"client": self.key} if self.key else {}
        if self.model:
            counted |= {
                "model": self.model,
                "texts": self.num_texts,
                "tokens": self.num_tokens,
                "truncated": self.num_truncated,
            }
        return counted | {f"{name}_ms": round(spent * 1e3, 2) for name, spent in self.phases.items()}

    def headers(self) -> dict[str, str]:
        """What every answer says: identity, counts, and milliseconds per phase; TEI's headers beside them."""
        total = time.monotonic() - self.started
        out = {"X-Request-Id": self.request_id}
        if self.identity:
            phases = {name: f"{seconds * 1e3:.3f}" for name, seconds in self.phases.items()}
            out |= {
                "X-Embedrt-Model": self.model.encode("ascii", "replace").decode(),
                "X-Embedrt-Identity": self.identity,
                "X-Embedrt-Tokens": str(self.num_tokens),
                "X-Embedrt-Truncated": str(self.num_truncated),
                "Server-Timing": ", ".join(f"{name};dur={ms}" for name, ms in phases.items())
                + f", total;dur={total * 1e3:.3f}",
                "X-Compute-Type": self.device,
                "X-Compute-Time": str(round(total * 1e3)),
                "X-Compute-Characters": str(self.num_characters),
                "X-Compute-Tokens": str(self.num_tokens),
                "X-Total-Time": str(round(total * 1e3)),
                "X-Tokenization-Time": str(round(self.phases.get("tokenize", 0) * 1e3)),
                "X-Queue-Time": str(round(self.phases.get("queue", 0) * 1e3)),
                "X-Inference-Time": str(round(self.phases.get("compute", 0) * 1e3)),
            }
        return out


def call_of(request: Request) -> Call:
    """The Call that came with the request."""
    call: Call = request.scope["embedrt.call"]
    return call


def deadline_of(request: Request, settings: Settings) -> float:
    """time.monotonic() at which the request is of no use anymore.

    Raises:
        ServeError: X-Request-Timeout is no number of seconds from 0.001 to 3600.
    """
    given = request.headers.get("x-request-timeout")
    if given is None:
        return call_of(request).started + settings.request_timeout_s
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0.001 <= seconds <= _MAX_TIMEOUT_S:
        raise ServeError("invalid", f"X-Request-Timeout must be 0.001 to {_MAX_TIMEOUT_S:g} seconds, not {given!r}")
    return call_of(request).started + seconds


async def while_wanted(request: Request, deadline: float, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, unless its time runs out or the client leaves first; then it is cancelled.

    Raises:
        ServeError: "timeout" or "gone", or what the work raised.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if gone.done():
            raise ServeError("gone", "the client left")
        raise ServeError("timeout", "the request's time ran out before its vectors were made")
    finally:
        for one in (task, gone):
            if not one.done():
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError, ServeError):
                    await one


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
