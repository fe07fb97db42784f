"""OpenAI's embeddings API: POST /v1/embeddings and GET /v1/models, and the other paths that clients use for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.server.answers import Rows, respond_rows, to_base64, to_json, truncation_field
from embedrt.server.call import call_of
from embedrt.server.errors import ServeError
from embedrt.server.inputs import Inputs, Name, pictures_of
from embedrt.server.prepare import Work
from embedrt.server.service import Service, json_response, resolve
from embedrt.server.settings import Overflow
from embedrt.server.sizes import BASE64_BYTES, FLOAT_BYTES

# Base URLs without /v1, and those of Azure, where the model is called a deployment.
OTHER_PATHS = {
    "/v1/embeddings": ("/embeddings", "/openai/v1/embeddings", "/openai/deployments/{deployment:path}/embeddings"),
    "/v1/models": ("/models", "/openai/v1/models"),
    "/v1/models/{name:path}": ("/models/{name:path}", "/openai/v1/models/{name:path}"),
}


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Texts, token ids, or pictures as data URIs to embed. `input_type`, `task`, `truncate`, `on_overflow` and
    `modality`, infinity's, are additions to OpenAI's fields."""

    input: Inputs
    model: Name | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    user: str | None = None  # accepted and ignored, as OpenAI's is for its own ends
    input_type: Literal["query", "document", "passage"] | None = None
    task: Annotated[str, msgspec.Meta(max_length=4096)] | None = None  # fills the query prompt's {task}, of each text
    truncate: bool | None = None
    on_overflow: Overflow | None = None
    modality: Literal["text", "image"] | None = None  # without it, data URIs of pictures are pictures


def base64_entry(index: int, vector: NDArray[Any]) -> bytes:
    """What stands for an input in an answer in base64."""
    return b'{"object":"embedding","index":%d,"embedding":"%b"}' % (index, to_base64(vector))


def numbers_entry(index: int, vector: NDArray[Any]) -> bytes:
    """The same in numbers."""
    return b'{"object":"embedding","index":%d,"embedding":%b}' % (index, to_json(vector))


class OpenAIApi:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route(path, answer, methods=[method])
            for main, method, answer in (
                ("/v1/embeddings", "POST", self.embeddings),
                ("/v1/models", "GET", self.models),
                ("/v1/models/{name:path}", "GET", self.model),
            )
            for path in (main, *OTHER_PATHS[main])
        ]

    async def embeddings(self, request: Request) -> Response:
        """Embed."""
        service, call = self._service, call_of(request)
        body = await service.read(request, EmbeddingsRequest)
        name = request.path_params.get("deployment", body.model)
        engine, kind = service.models.find(name, "pipeline")
        if body.input_type is not None:
            asked: Any = "document" if body.input_type == "passage" else body.input_type
            if kind not in ("encode", asked):
                raise ServeError("unfit", f"model says {kind} and input_type says {asked}", param="input_type")
            kind = asked
        dimensions = service.check_dimensions(engine, body.dimensions)
        overflow = service.overflow(body.on_overflow, body.truncate)
        options = resolve(engine, kind=kind, task=body.task, truncate_dim=dimensions, on_overflow=overflow)
        deadline, pictures = service.deadline(request), pictures_of(body.input, body.modality, engine)
        if pictures is not None:
            if body.on_overflow is not None:
                raise ServeError("unfit", "on_overflow goes with texts, not with pictures", param="on_overflow")
            options = replace(options, on_overflow="truncate")
            work = Work(pictures, options, deadline=deadline, max_pixels=service.max_pixels)
        else:
            inputs = await service.sized(request, lambda: service.inputs.openai(body.input, engine, options.prompt))
            work = Work(inputs, options, truncate=overflow != "error", deadline=deadline)
        as_base64 = body.encoding_format == "base64"
        answer = await service.embed(request, engine, work, BASE64_BYTES if as_base64 else FLOAT_BYTES)

        with call.timed("write"):
            usage = {"prompt_tokens": answer.used_tokens, "total_tokens": answer.used_tokens}
            tail = {
                "model": name or engine.name,
                "usage": usage,
                "identity": answer.identity,
                "truncated": truncation_field(answer),
            }
            rows = Rows(answer, engine.embedder, options, base64_entry if as_base64 else numbers_entry)
            return await respond_rows(request, b'{"object":"list","data":[', rows, b"]," + to_json(tail)[1:])

    async def models(self, request: Request) -> Response:
        """The names that `model` may have."""
        del request
        return json_response({"object": "list", "data": [self._entry(name) for name in self._service.models.names]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        name = request.path_params["name"]
        self._service.models.find(name)
        return json_response(self._entry(name))

    def _entry(self, name: str) -> dict[str, object]:
        engine, _ = self._service.models.find(name)
        embedder = engine.embedder
        return {
            "id": name,
            "object": "model",
            "created": self._service.models.created,
            "owned_by": embedder.bundle.manifest.source.model,
            "identity": self._service.models.identity(name, self._service.settings),
            "variant": embedder.variant,
            "dimension": embedder.dimension,
            "max_tokens": embedder.max_tokens,
            "matryoshka": self._service.may_shorten(engine),
            "outputs": engine.gives,
            "modalities": ["text", "image"] if embedder.takes_pictures else ["text"],
        }
