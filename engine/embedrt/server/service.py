"""What every endpoint works with, and the one way from a request's inputs to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from embedrt.errors import EmbedrtError
from embedrt.options import EncodeOptions
from embedrt.server.answers import to_json
from embedrt.server.background import Background
from embedrt.server.bodies import S, read_json, too_many_texts
from embedrt.server.call import ByteBudget, call_of, deadline_of, while_wanted
from embedrt.server.engine import Answer, ModelEngine
from embedrt.server.errors import ServeError, translate
from embedrt.server.health import Health
from embedrt.server.inputs import InputReader
from embedrt.server.keys import ApiKeys
from embedrt.server.metrics import Metrics
from embedrt.server.models import Models
from embedrt.server.prepare import Work
from embedrt.server.settings import Settings
from embedrt.server.traces import Traces

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
    pool: ThreadPoolExecutor  # where texts are tokenized
    tokenization_workers: int
    traces: Traces | None = None

    async def off_loop(self, function: Callable[[], T]) -> T:
        """What `function` gives, from the pool."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function)

    async def read(self, request: Request, shape: type[S]) -> S:
        """The request's body as `shape`; ServeError says what is wrong with it."""
        return await read_json(request, shape, self.settings, self.budget)

    async def embed(self, request: Request, engine: ModelEngine, work: Work) -> Answer:
        """Rows of the work's inputs, if they come in time and the client waits for them."""
        self.check_count(work.inputs)
        call = call_of(request)
        call.num_characters += sum(map(len, work.inputs))
        answer = await while_wanted(request, work.deadline, engine.embed(work))
        call.note(engine, answer)
        return answer

    def deadline(self, request: Request) -> float:
        """When the request is of no use anymore."""
        return deadline_of(request, self.settings)

    def truncate(self, wanted: bool | None) -> bool:
        """Whether long inputs are cut: as the request says, else as the settings do."""
        return self.settings.truncate if wanted is None else wanted

    def check_count(self, inputs: Sequence[object]) -> None:
        """Refuse more inputs than a request may have: ServeError, 413."""
        if len(inputs) > self.settings.request_texts:
            raise too_many_texts(len(inputs), self.settings.request_texts)

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
        if engine.name not in self.settings.matryoshka and "*" not in self.settings.matryoshka:
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
        return engine.embedder.resolve(**options)
    except EmbedrtError as exc:
        raise translate(exc) from exc


def json_response(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as a JSON answer."""
    return Response(to_json(value), status, headers, "application/json")
