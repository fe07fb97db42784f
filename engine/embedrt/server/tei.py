"""text-embeddings-inference's API: /embed, /embed_all, /similarity, /info, and POST / as /embed; see also `tokens`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.bundle import pipeline_of
from embedrt.options import EncodeOptions
from embedrt.server.answers import Rows, as_matrix, between, respond, respond_rows, to_json, write_tokens
from embedrt.server.call import call_of
from embedrt.server.engine import ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.inputs import Inputs
from embedrt.server.prepare import Work
from embedrt.server.service import Overflow, Service, json_response, resolve
from embedrt.version import __version__

Direction = Literal["left", "right", "Left", "Right"]
Dimensions = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /embed. `model` and `on_overflow` are additions: the first bundle's is the default."""

    inputs: Inputs
    normalize: bool | None = True
    truncate: bool | None = None
    on_overflow: Overflow | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None
    dimensions: Dimensions | None = None
    model: str | None = None


class EmbedAllRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /embed_all."""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None
    model: str | None = None


class SimilarityInput(msgspec.Struct, forbid_unknown_fields=True):
    """One text and those it is compared with."""

    source_sentence: str
    sentences: Annotated[list[str], msgspec.Meta(min_length=1)]


class SimilarityParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How the texts are embedded."""

    truncate: bool | None = None
    on_overflow: Overflow | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /similarity."""

    inputs: SimilarityInput
    parameters: SimilarityParameters | None = None
    model: str | None = None


def _vector(_: int, row: NDArray[Any]) -> bytes:
    return to_json(row)


OTHER_MODELS = {"/embed_sparse": "a sparse model"}


class TeiApi:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route("/", self.embed, methods=["POST"]),
            Route("/embed", self.embed, methods=["POST"]),
            Route("/invocations", self.embed, methods=["POST"]),  # SageMaker's
            Route("/embed_all", self.embed_all, methods=["POST"]),
            Route("/similarity", self.similarity, methods=["POST"]),
            Route("/info", self.info, methods=["GET"]),
            *(Route(path, self.other_models, methods=["POST"]) for path in OTHER_MODELS),
        ]

    async def embed(self, request: Request) -> Response:
        """A vector per input."""
        body = await self._service.read(request, EmbedRequest)
        engine, kind = self._service.models.find(body.model)
        dimensions = self._service.check_dimensions(engine, body.dimensions)
        overflow = self._overflow(body)
        wanted = {"normalize_embeddings": body.normalize is not False and not _normalizes(engine)}
        options = resolve(
            engine,
            kind=kind,
            prompt_name=body.prompt_name,
            truncate_dim=dimensions,
            on_overflow=overflow,
            **wanted,
        )
        # What is pooled, as TEI gives it; it has an identity of its own.
        options = replace(options, unnormalized=body.normalize is False)
        return await self._embed(request, engine, options, body, truncate=overflow != "error")

    def _overflow(self, asked: EmbedRequest | SimilarityParameters) -> Overflow:
        """What becomes of texts over the limit; ServeError where the fields about it do not go together."""
        overflow = self._service.overflow(asked.on_overflow, asked.truncate)
        if overflow == "windows" and asked.truncation_direction is not None:
            raise ServeError(
                "unfit",
                "truncation_direction says which end is cut, and windows cut nothing; leave it out, or have texts cut "
                "(on_overflow: truncate)",
                param="truncation_direction",
            )
        return overflow

    async def embed_all(self, request: Request) -> Response:
        """A vector per token."""
        body = await self._service.read(request, EmbedAllRequest)
        engine, kind = self._service.models.find(body.model)
        options = resolve(engine, kind=kind, prompt_name=body.prompt_name, output_value="token_embeddings")
        truncate = self._service.truncate(body.truncate)
        return await self._embed(request, engine, options, body, truncate=truncate)

    async def _embed(
        self,
        request: Request,
        engine: ModelEngine,
        options: EncodeOptions,
        body: EmbedRequest | EmbedAllRequest,
        *,
        truncate: bool,
    ) -> Response:
        reader = self._service.inputs
        inputs = await self._service.sized(request, lambda: reader.tei(body.inputs, engine, options.prompt))
        work = Work(
            inputs,
            options,
            truncate=truncate,
            keep_end=keeps_end(body.truncation_direction),
            deadline=self._service.deadline(request),
        )
        answer = await self._service.embed(request, engine, work)
        with call_of(request).timed("write"):
            tokens = options.output_value == "token_embeddings"
            if tokens:
                return await respond(request, between(b"[", write_tokens(answer), b"]"))
            return await respond_rows(request, b"[", Rows(answer, engine.embedder, options, _vector), b"]")

    async def similarity(self, request: Request) -> Response:
        """Similarity of one text with each of several, by the model's own function."""
        body = await self._service.read(request, SimilarityRequest)
        engine, kind = self._service.models.find(body.model)
        given = body.parameters or SimilarityParameters()
        overflow = self._overflow(given)
        options = resolve(engine, kind=kind, prompt_name=given.prompt_name, on_overflow=overflow)
        work = Work(
            [body.inputs.source_sentence, *body.inputs.sentences],
            options,
            truncate=overflow != "error",
            keep_end=keeps_end(given.truncation_direction),
            deadline=self._service.deadline(request),
        )
        answer = await self._service.embed(request, engine, work, 0)
        with call_of(request).timed("write"):
            vectors = as_matrix(answer, engine.embedder, options)
            scores = engine.embedder.similarity(vectors[:1], vectors[1:])[0]
            return json_response(np.ascontiguousarray(scores))

    async def other_models(self, request: Request) -> Response:
        """What only models of other sorts can do: TEI's 424."""
        path = request.scope["path"]
        raise ServeError(
            "wrong_model",
            f"{path} needs {OTHER_MODELS[path]}, which the server does not serve; the library's SparseEncoder gives "
            "sparse vectors",
        )

    async def info(self, request: Request) -> Response:
        """What is served, in TEI's fields and our own."""
        engine, _ = self._service.models.find(request.query_params.get("model"))
        settings, embedder = self._service.settings, engine.embedder
        manifest = embedder.bundle.manifest
        return json_response(
            {
                "model_id": manifest.source.model,
                "model_sha": manifest.source.revision,
                "model_dtype": {"fp32": "float32", "fp16": "float16"}.get(embedder.variant, embedder.variant),
                "model_type": {"embedding": {"pooling": "+".join(embedder.pooling)}},
                "max_concurrent_requests": settings.queue_tokens,  # what waits is limited by its tokens
                "max_input_length": embedder.max_tokens,
                "max_batch_tokens": settings.batch_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": settings.request_texts,
                "auto_truncate": settings.truncate and settings.long == "cut",
                "on_overflow": self._service.default_overflow,
                "tokenization_workers": self._service.pool.workers,
                "version": __version__,
                "sha": None,
                "docker_label": None,
                "name": engine.name,
                "identity": embedder.identify(on_overflow=self._service.default_overflow),
                "dimension": embedder.dimension,
                "prompts": manifest.prompts.texts,
                "default_prompt": manifest.prompts.default_name,
                "executor": embedder.executor_description,
                "models": self._service.models.names,
            }
        )


def _normalizes(engine: ModelEngine) -> bool:
    stages = pipeline_of(engine.embedder.bundle.manifest).stages
    return bool(stages) and stages[-1].kind == "normalize"


def keeps_end(direction: str | None) -> bool:
    """Whether texts are cut on the left."""
    return direction is not None and direction.lower() == "left"
