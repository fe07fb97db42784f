"""What every endpoint works with, and the one way from a request's inputs to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from embedrt.errors import EmbedrtError
from embedrt.options import EncodeOptions
from embedrt.outputs import Output
from embedrt.server.answers import to_json
from embedrt.server.background import Background
from embedrt.server.bodies import SMALL_BYTES, S, read_json, too_many_texts
from embedrt.server.budget import ByteBudget
from embedrt.server.call import call_of, deadline_of, while_wanted
from embedrt.server.engine import Answer, ModelEngine
from embedrt.server.errors import ServeError, translate
from embedrt.server.health import Health
from embedrt.server.inputs import InputReader
from embedrt.server.keys import ApiKeys
from embedrt.server.metrics import Metrics, ProcessState
from embedrt.server.models import Models
from embedrt.server.pool import Pool
from embedrt.server.prepare import Work
from embedrt.server.rates import Meters
from embedrt.server.settings import Overflow, Settings
from embedrt.server.shares import Shares
from embedrt.server.sizes import FLOAT_BYTES, Size, SizeLimits
from embedrt.server.traces import Traces
from embedrt.server.wire import Wire

T = TypeVar("T")


@dataclass
class Service:
    """The parts of a running server."""

    settings: Settings
    models: Models
    background: Background
    budget: ByteBudget
    metrics: Metrics
    keys: ApiKeys
    health: Health
    inputs: InputReader
    pool: Pool  # where bodies are read and texts tokenized
    meters: Meters
    requests: Shares  # in work
    traces: Traces | None = None
    wire: Wire | None = None  # connections, where there are any of our own

    @property
    def max_pixels(self) -> int:
        """Of one picture."""
        return int(self.settings.picture_mpixels * 1e6)

    def process_state(self) -> ProcessState:
        """For metrics."""
        wire = self.wire
        return ProcessState(
            connections=len(wire.open) if wire is not None else 0,
            refused=wire.refused if wire is not None else 0,
            requests=self.requests.total,
            held_bytes=self.budget.held,
            lag_s=max(self.health.stalls_s),
        )

    async def off_loop(self, request: Request, function: Callable[[], T]) -> T:
        """What `function` gives, from the pool."""
        return await self.pool.run(call_of(request).client, function)

    async def read(self, request: Request, shape: type[S]) -> S:
        """The request's body as `shape`; ServeError says what is wrong with it."""
        return await read_json(request, shape, self.settings, self.budget, self.pool)

    async def embed(
        self, request: Request, engine: ModelEngine, work: Work, number_bytes: float = FLOAT_BYTES
    ) -> Answer:
        """Rows of the work's inputs, if they come in time and the client waits for them.

        Args:
            number_bytes: what the answer takes per number of a row; 0 when it has no rows in it.

        Raises:
            ServeError: the request is too large by the limits on a request's texts, tokens and answer, or by what
                other requests hold; or it is late, or cannot be run.
        """
        self.check_count(work.inputs)
        call = call_of(request)
        if work.max_pixels:
            self._admit_pictures(request, engine, len(work.inputs))
        else:
            call.num_characters += sum(map(len, work.inputs))
        work = replace(
            work,
            client=call.client,
            owner=call.key,
            most_tokens=self.settings.request_tokens,
            most_answer=self.settings.answer_mb * 1e6,
        )

        async def embedded() -> Answer:
            prepared = await engine.prepare(work)
            self.admit(request, engine.size(prepared, work, number_bytes))
            return await engine.run(prepared, work)

        answer = await while_wanted(request, work.deadline, embedded())
        call.note(engine, answer)
        return answer

    def admit(self, request: Request, size: Size) -> None:
        """Let a request become so large: ServeError, 413 or 429, where it may not.

        A request that is admitted again, as it grows, tells all of its tokens and its answer, and what it holds anew.
        """
        call = call_of(request)
        SizeLimits(self.settings.request_tokens, int(self.settings.answer_mb * 1e6)).check(size)
        self.meters.take(call.client, call.key, "tokens", size.tokens - call.metered_tokens, time.monotonic())
        call.metered_tokens = size.tokens
        self.budget.hold(call, size.held)

    def _admit_pictures(self, request: Request, engine: ModelEngine, count: int) -> None:
        """Let a request have so many pictures, before any of them is decoded: ServeError, 413 or 429, if it may not."""
        most = self.settings.request_pictures
        if count > most:
            raise ServeError(
                "too_large",
                f"a request may have {most} pictures, this has {count}; split it, or raise request_pictures",
                param="input",
            )
        self.budget.hold(call_of(request), count * engine.embedder.picture_bytes)

    async def sized(self, request: Request, function: Callable[[], T]) -> T:
        """What `function` gives, from the pool where it may take long because the request is large."""
        return function() if call_of(request).held <= SMALL_BYTES else await self.off_loop(request, function)

    def deadline(self, request: Request) -> float:
        """When the request is of no use anymore."""
        return deadline_of(request, self.settings)

    def truncate(self, wanted: bool | None) -> bool:
        """Whether long inputs are cut: as the request says, else as the settings do."""
        return self.settings.truncate if wanted is None else wanted

    def overflow(self, asked: Overflow | None, truncate: bool | None) -> Overflow:
        """What becomes of texts over the limit: as the request says by either field, else as the settings do.

        Raises:
            ServeError: the two fields say different things.
        """
        if truncate is None:
            return asked or self.settings.default_overflow
        said: Overflow = "truncate" if truncate else "error"
        if asked not in (None, said):
            raise ServeError(
                "unfit",
                f"truncate={str(truncate).lower()} and on_overflow={asked} ask for different things; leave one out",
                param="on_overflow",
            )
        return said

    def check_count(self, inputs: Sequence[object]) -> None:
        """Refuse more inputs than a request may have: ServeError, 413."""
        if len(inputs) > self.settings.request_texts:
            raise too_many_texts(len(inputs), self.settings.request_texts)

    def may_shorten(self, engine: ModelEngine) -> bool:
        """Whether the model's vectors may have fewer dimensions than they have."""
        return engine.name in self.settings.matryoshka or "*" in self.settings.matryoshka

    def check_dimensions(self, engine: ModelEngine, dimensions: int | None) -> int | None:
        """The number of dimensions to keep, None for all.

        Raises:
            ServeError: the model's vectors may not be shortened, or have not so many dimensions.
        """
        width = engine.embedder.dimension
        if dimensions is None or dimensions == width:
            return None
        if dimensions > width:
            raise ServeError("unfit", f"dimensions={dimensions} is more than the vector's {width}", param="dimensions")
        if not self.may_shorten(engine):
            raise ServeError(
                "unfit",
                f"dimensions={dimensions}: the vectors of {engine.name} have {width} dimensions and are not known to "
                f"work with fewer; if the model was trained for it, serve with --matryoshka {engine.name}",
                param="dimensions",
            )
        return dimensions


def resolve(engine: ModelEngine, **options: Any) -> EncodeOptions:
    """The embedder's options; ServeError where they do not fit."""
    try:
        return engine.embedder.resolve(**{name: value for name, value in options.items() if value is not None})
    except EmbedrtError as exc:
        raise translate(exc) from exc


def resolve_outputs(engine: ModelEngine, output: Output, **options: Any) -> EncodeOptions:
    """The options of a model of several outputs, for one of them; ServeError where they do not fit."""
    assert engine.outputs is not None
    try:
        return engine.outputs.resolve(
            (output,), **{name: value for name, value in options.items() if value is not None}
        )
    except EmbedrtError as exc:
        raise translate(exc) from exc


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as a JSON answer."""
    return Response(to_json(value), status, headers, "application/json")
