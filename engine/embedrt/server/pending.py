"""A request between queue and answer, and how its event loop hears of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from embedrt.errors import EmbedrtError
from embedrt.options import EncodeOptions
from embedrt.server.errors import ServeError, translate
from embedrt.server.inference import Inference
from embedrt.server.prepare import Prepared


@dataclass(frozen=True)
class Phases:
    """Seconds that a request spent."""

    tokenize: float
    queue: float
    compute: float  # from the start of its first batch to the end of its last


@dataclass
class Pending:
    """A request between queue and answer."""

    inference: Inference
    token_ids: list[NDArray[Any]]  # or patches of pictures
    options: EncodeOptions
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]
    added: float
    rows: list[Any] = field(default_factory=list)
    left: int = 0
    room: float = math.inf  # bytes that its rows may still take in the answer, where that is not known before
    first_run: float = 0.0
    last_run: float = 0.0


def phases_of(prepared: Prepared, pending: Pending | None) -> Phases:
    """Where a request's time went; `pending` is None where nothing was run."""
    if pending is None:
        return Phases(prepared.seconds, 0.0, 0.0)
    return Phases(prepared.seconds, pending.first_run - pending.added, pending.last_run - pending.first_run)


def as_served(exc: Exception) -> ServeError:
    """What the clients of a batch are told that failed."""
    if isinstance(exc, ServeError):
        return ServeError(exc.kind, str(exc))  # one of its own for each
    error = translate(exc) if isinstance(exc, EmbedrtError) else ServeError("not_inferred", "internal error")
    error.__cause__ = exc
    return error


def settle_in_loop(owners: Sequence[Pending], settle: Callable[[asyncio.Future[None]], None]) -> None:
    """Settle the futures of requests in their loop, but of those whose task was cancelled meanwhile.

    Once for all of them, since each call wakes the loop; at once in the loop's own thread.
    """

    def apply() -> None:
        for owner in owners:
            if not owner.done.done():
                settle(owner.done)

    if owners and asyncio._get_running_loop() is owners[0].loop:
        apply()
    elif owners:
        with suppress(RuntimeError):  # its loop is closed, and nobody waits there
            owners[0].loop.call_soon_threadsafe(apply)
