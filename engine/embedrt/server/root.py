"""POST / and /invocations: as text-embeddings-inference has them, what the models are for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.server.rerank import RerankApi
from embedrt.server.service import Service
from embedrt.server.tei import TeiApi

PATHS = ("/", "/invocations")  # the second is SageMaker's


class RootApi:
    """The endpoints: /embed where any model gives vectors, else what the first one gives."""

    def __init__(self, service: Service, tei: TeiApi, rerank: RerankApi) -> None:
        self._service = service
        self._answers: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "dense": tei.embed,
            "sparse": tei.embed_sparse,
            "tokens": tei.embed_all,
            "labels": rerank.predict,
            "scores": rerank.rerank,
        }

    def routes(self) -> list[Route]:
        """For the router."""
        return [Route(path, self.answer, methods=["POST"]) for path in PATHS]

    async def answer(self, request: Request) -> Response:
        """As the endpoint of the default model's kind."""
        engine, _ = self._service.models.find(None)
        kind = "dense" if any("dense" in one.gives for one in self._service.models) else engine.gives[0]
        scores = engine.embedder.bundle.manifest.scores
        if kind == "scores" and scores is not None and len(scores.labels) > 1:
            kind = "labels"
        return await self._answers[kind](request)
