"""text-embeddings-inference's API: /embed, /embed_all, /embed_sparse, /similarity, /info; see `tokens`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.manifest import pipeline_of
from embedrt.options import EncodeOptions
from embedrt.server.answers import Rows, as_matrix, between, respond, respond_rows, to_json, write_tokens, write_weights
from embedrt.server.call import call_of
from embedrt.server.engine import Answer, ModelEngine
from embedrt.server.errors import ServeError
from embedrt.server.inputs import Inputs, Name
from embedrt.server.prepare import Work
from embedrt.server.service import Service, json_response, resolve, resolve_outputs
from embedrt.server.settings import Overflow
from embedrt.server.sizes import WEIGHT_BYTES, Size
from embedrt.version import __version__

Direction = Literal["left", "right", "Left", "Right"]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class EmbedRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /embed. `model` and `on_overflow` are additions: the first bundle's is the default."""

    inputs: Inputs
    normalize: bool | None = True
    truncate: bool | None = None
    on_overflow: Overflow | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None
    dimensions: Count | None = None
    model: Name | None = None


class EmbedAllRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /embed_all."""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None
    model: Name | None = None


class EmbedSparseRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /embed_sparse. `max_active_dims` and `model` are additions."""

    inputs: Inputs
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None
    max_active_dims: Count | None = None
    model: Name | None = None


class SimilarityInput(msgspec.Struct, forbid_unknown_fields=True):
    """One text and those it is compared with."""

    source_sentence: str
    sentences: Annotated[list[str], msgspec.Meta(min_length=1)]


class SimilarityParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How the texts are embedded."""

    truncate: bool | None = None
    on_overflow: Overflow | None = None
    truncation_direction: Direction | None = None
    prompt_name: Name | None = None


class SimilarityRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /similarity."""

    inputs: SimilarityInput
    parameters: SimilarityParameters | None = None
    model: Name | None = None


def _vector(_: int, row: NDArray[Any]) -> bytes:
    return to_json(row)


class TeiApi:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route("/embed", self.embed, methods=["POST"]),
            Route("/embed_all", self.embed_all, methods=["POST"]),
            Route("/embed_sparse", self.embed_sparse, methods=["POST"]),
            Route("/similarity", self.similarity, methods=["POST"]),
            Route("/info", self.info, methods=["GET"]),
        ]

    async def embed(self, request: Request) -> Response:
        """A vector per input."""
        body = await self._service.read(request, EmbedRequest)
        engine, kind = self._service.models.find(body.model, "pipeline")
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
        """A vector per token: of models that have some for it their own, of others the hidden states."""
        body = await self._service.read(request, EmbedAllRequest)
        engine, kind = self._service.models.find(body.model, "tokens", "pipeline")
        truncate = self._service.truncate(body.truncate)
        if engine.outputs is not None and "tokens" in engine.outputs.outputs:
            options = resolve_outputs(engine, "tokens", kind=kind, prompt_name=body.prompt_name)
            answer = await self._run(request, engine, options, body, truncate=truncate)
            rows = [one.tokens for one in answer.rows]
        else:
            options = resolve(engine, kind=kind, prompt_name=body.prompt_name, output_value="token_embeddings")
            answer = await self._run(request, engine, options, body, truncate=truncate)
            rows = answer.rows
        with call_of(request).timed("write"):
            return await respond(request, between(b"[", write_tokens(rows, answer.row_of), b"]"))

    async def embed_sparse(self, request: Request) -> Response:
        """The weights of a text's words, per input."""
        body = await self._service.read(request, EmbedSparseRequest)
        engine, kind = self._service.models.find(body.model, "sparse")
        options = resolve_outputs(
            engine, "sparse", kind=kind, prompt_name=body.prompt_name, max_active_dims=body.max_active_dims
        )
        answer = await self._run(request, engine, options, body, truncate=self._service.truncate(body.truncate))
        rows = [one.sparse for one in answer.rows]
        # what was reckoned before the work may have been the least that a text can have
        count = sum(len(rows[row]) for row in answer.row_of)
        self._service.admit(request, Size(call_of(request).metered_tokens, 0, round(count * WEIGHT_BYTES)))
        with call_of(request).timed("write"):
            return await respond(request, between(b"[", write_weights(rows, answer.row_of), b"]"))

    async def _embed(
        self, request: Request, engine: ModelEngine, options: EncodeOptions, body: EmbedRequest, *, truncate: bool
    ) -> Response:
        answer = await self._run(request, engine, options, body, truncate=truncate)
        with call_of(request).timed("write"):
            return await respond_rows(request, b"[", Rows(answer, engine.embedder, options, _vector), b"]")

    async def _run(
        self,
        request: Request,
        engine: ModelEngine,
        options: EncodeOptions,
        body: EmbedRequest | EmbedAllRequest | EmbedSparseRequest,
        *,
        truncate: bool,
    ) -> Answer:
        reader = self._service.inputs
        inputs = await self._service.sized(request, lambda: reader.tei(body.inputs, engine, options.prompt))
        work = Work(
            inputs,
            options,
            truncate=truncate,
            keep_end=keeps_end(body.truncation_direction),
            deadline=self._service.deadline(request),
        )
        return await self._service.embed(request, engine, work)

    async def similarity(self, request: Request) -> Response:
        """Similarity of one text with each of several, by the model's own function."""
        body = await self._service.read(request, SimilarityRequest)
        engine, kind = self._service.models.find(body.model, "pipeline")
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
                "model_type": _model_type(engine),
                "max_concurrent_requests": settings.queue_tokens,  # what waits is limited by its tokens
                "max_input_length": embedder.max_tokens,
                "max_batch_tokens": settings.batch_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": settings.request_texts,
                "auto_truncate": settings.truncate and settings.long == "cut",
                "on_overflow": self._service.settings.default_overflow,
                "tokenization_workers": self._service.pool.workers,
                "version": __version__,
                "sha": None,
                "docker_label": None,
                "name": engine.name,
                "identity": self._service.models.identity(engine.name, settings),
                "dimension": embedder.dimension,
                "outputs": engine.gives,
                "prompts": manifest.prompts.texts,
                "default_prompt": manifest.prompts.default_name,
                "executor": embedder.executor_description,
                "models": self._service.models.names,
            }
        )


def _model_type(engine: ModelEngine) -> dict[str, Any]:
    """As TEI has it; a model of several outputs is what it is first."""
    manifest = engine.embedder.bundle.manifest
    if manifest.scores is not None:
        labels = manifest.scores.labels
        sort = "reranker" if len(labels) == 1 else "classifier"
        names = {
            "id2label": {str(k): name for k, name in enumerate(labels)},
            "label2id": {name: k for k, name in enumerate(labels)},
        }
        return {sort: names}
    pooling = "+".join(engine.embedder.pooling) or ("splade" if manifest.sparse is not None else "none")
    return {"embedding": {"pooling": pooling}}


def _normalizes(engine: ModelEngine) -> bool:
    stages = pipeline_of(engine.embedder.bundle.manifest).stages
    return bool(stages) and stages[-1].kind == "normalize"


def keeps_end(direction: str | None) -> bool:
    """Whether texts are cut on the left."""
    return direction is not None and direction.lower() == "left"
