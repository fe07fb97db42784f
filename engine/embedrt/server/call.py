"""One HTTP request on its way: its deadline, its client, and what is to be said about it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

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

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer says: identity, counts, and milliseconds per phase; TEI's headers beside them."""
        out = [(b"x-request-id", self.request_id.encode("latin-1"))]
        if self.identity:
            milliseconds = {name: seconds * 1e3 for name, seconds in self.phases.items()}
            total = (time.monotonic() - self.started) * 1e3
            timing = "".join([f"{name};dur={ms:.3f}, " for name, ms in milliseconds.items()]) + f"total;dur={total:.3f}"
            tokens, whole = b"%d" % self.num_tokens, b"%.0f" % total
            out += [
                (b"x-embedrt-model", self.model.encode("ascii", "replace")),
                (b"x-embedrt-identity", self.identity.encode()),
                (b"x-embedrt-tokens", tokens),
                (b"x-embedrt-truncated", b"%d" % self.num_truncated),
                (b"server-timing", timing.encode()),
                (b"x-compute-type", self.device.encode()),
                (b"x-compute-time", whole),
                (b"x-compute-characters", b"%d" % self.num_characters),
                (b"x-compute-tokens", tokens),
                (b"x-total-time", whole),
                (b"x-tokenization-time", b"%.0f" % milliseconds.get("tokenize", 0)),
                (b"x-queue-time", b"%.0f" % milliseconds.get("queue", 0)),
                (b"x-inference-time", b"%.0f" % milliseconds.get("compute", 0)),
            ]
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


class Corked(Protocol):
    """What an answer is written to."""

    def cork(self) -> AbstractContextManager[None]:
        """Hold what is written in a `with` block, and send it in one piece at its end."""


class Connection(Protocol):
    """Where a request came from, as far as it matters to the request."""

    watchers: set[Callable[[], None]]  # called when the connection is lost
    lost: bool
    corked: Corked


async def while_wanted(request: Request, deadline: float, work: Coroutine[Any, Any, T]) -> T:
    """The work's result, unless its time runs out or the client leaves first; then it is cancelled.

    The work runs in the request's own task: another one, and one that waits for the client, would cost as much as all
    else that is done here for a short text.

    Raises:
        ServeError: "timeout" or "gone", or what the work raised.
    """
    connection: Connection = request.scope["embedrt.connection"]
    loop = asyncio.get_running_loop()
    gone = connection.lost

    def leave() -> None:
        nonlocal gone
        gone = True
        limit.reschedule(loop.time())

    connection.watchers.add(leave)
    try:
        async with asyncio.timeout(0 if gone else max(0.0, deadline - time.monotonic())) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        if gone:
            raise ServeError("gone", "the client left") from None
        raise ServeError("timeout", "the request's time ran out before its vectors were made") from None
    finally:
        connection.watchers.discard(leave)
