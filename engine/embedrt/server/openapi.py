"""The API's description in OpenAPI 3.1, made from the request types themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from embedrt.server.errors import KINDS, openai_path
from embedrt.server.examples import ANSWERS, DESCRIPTIONS, FIELDS, REQUESTS
from embedrt.server.openai import OTHER_PATHS, EmbeddingsRequest
from embedrt.server.rerank import COHERE_PATHS, DocumentsRequest, PredictRequest, RerankRequest, TextDocument
from embedrt.server.tei import EmbedAllRequest, EmbedRequest, EmbedSparseRequest, SimilarityRequest
from embedrt.server.tokens import DecodeRequest, TokenizeRequest
from embedrt.version import __version__


class Usage(msgspec.Struct):
    """Tokens that the model saw."""

    prompt_tokens: int
    total_tokens: int


class Cut(msgspec.Struct):
    """An input that was cut at the model's limit."""

    index: int
    num_tokens: int
    limit: int


class Embedding(msgspec.Struct):
    """One vector: numbers, or little-endian float32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(msgspec.Struct):
    """Vectors in the order of the inputs; `identity` and `truncated` are additions to OpenAI's fields."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    identity: str
    truncated: list[Cut]


class Model(msgspec.Struct):
    """A name that `model` may have."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    identity: str
    variant: str
    dimension: int
    max_tokens: int
    matryoshka: bool  # whether `dimensions` may ask for fewer
    outputs: list[Literal["dense", "sparse", "tokens", "scores"]]
    modalities: list[Literal["text", "image"]]


class ModelList(msgspec.Struct):
    """All of them."""

    object: Literal["list"]
    data: list[Model]


class Token(msgspec.Struct):
    """One token of a text."""

    id: int
    text: str  # the slice of the text that it stands for
    special: bool
    start: int | None  # characters of the text, prompt included
    stop: int | None
    token: str  # as the vocabulary spells it


class Weight(msgspec.Struct):
    """One dimension of a sparse vector."""

    index: int
    value: float


class Ranked(msgspec.Struct):
    """A text's place, in text-embeddings-inference's shape."""

    index: int
    score: float
    text: str | msgspec.UnsetType = msgspec.UNSET


class RankedDocument(msgspec.Struct):
    """A document's place, in Cohere's and Jina's shape."""

    index: int
    relevance_score: float
    document: TextDocument | msgspec.UnsetType = msgspec.UNSET


class TotalTokens(msgspec.Struct):
    """Tokens that the model saw."""

    total_tokens: int


class RankedDocuments(msgspec.Struct):
    """The best first."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: TotalTokens
    meta: dict[str, Any]


class Prediction(msgspec.Struct):
    """A label and its score."""

    score: float
    label: str


class OpenAIErrorDetail(msgspec.Struct):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(msgspec.Struct):
    """An error in OpenAI's shape."""

    error: OpenAIErrorDetail


class TeiError(msgspec.Struct):
    """An error in text-embeddings-inference's shape."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


class Status(msgspec.Struct):
    """Health."""

    status: Literal["live", "ready"]


@dataclass(frozen=True)
class _Operation:
    method: str
    path: str
    summary: str
    answer: Any  # a type, or a media type
    body: Any = None
    errors: tuple[str, ...] = ()
    parameters: tuple[dict[str, Any], ...] = field(default=())
    openai: bool = False
    key: bool = True


_BODY = ("malformed", "unauthorized", "model_not_found", "slow_body", "too_large", "wrong_type", "invalid", "empty",
         "unfit", "token_ids", "overloaded", "wrong_model", "not_inferred", "failed", "not_ready",
         "timeout")  # fmt: skip
_READ = ("unauthorized", "model_not_found", "not_ready")
_TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "Seconds after which the answer is of no use.",
    "schema": {"type": "number", "minimum": 0.001, "maximum": 3600},
}
_MODEL_QUERY = {"name": "model", "in": "query", "schema": {"type": "string"}}
_NAME_PATH = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}

_ROOT = "As /embed; where no model gives vectors, as /embed_sparse, /embed_all, /rerank or, of several labels, /predict"
_OPERATIONS = (
    _Operation("post", "/v1/embeddings", "Embed texts, token ids or pictures", Embeddings, EmbeddingsRequest, _BODY,
               (_TIMEOUT,), openai=True),
    _Operation("get", "/v1/models", "The names that model may have", ModelList, None, _READ, openai=True),
    _Operation("get", "/v1/models/{name}", "One of them", Model, None, _READ, (_NAME_PATH,), openai=True),
    _Operation("post", "/embed", "Embed texts or token ids", list[list[float]], EmbedRequest, _BODY, (_TIMEOUT,)),
    _Operation("post", "/", _ROOT, list[list[float]], EmbedRequest, _BODY, (_TIMEOUT,)),
    _Operation("post", "/invocations", _ROOT, list[list[float]], EmbedRequest, _BODY, (_TIMEOUT,)),
    _Operation("get", "/", "The playground", "text/html", None, (), key=False),
    _Operation("post", "/embed_all", "A vector per token", list[list[list[float]]], EmbedAllRequest, _BODY,
               (_TIMEOUT,)),
    _Operation("post", "/embed_sparse", "The weights of a text's words (SPLADE's, BGE-M3's)", list[list[Weight]],
               EmbedSparseRequest, _BODY, (_TIMEOUT,)),
    _Operation("post", "/similarity", "Similarity of one text with several", list[float], SimilarityRequest, _BODY,
               (_TIMEOUT,)),
    _Operation("post", "/rerank", "Texts by their score with a query, best first (a reranker's)",
               list[Ranked] | RankedDocuments, RerankRequest, _BODY, (_TIMEOUT,)),
    *(_Operation("post", path, "The same, in Cohere's and Jina's shape", RankedDocuments, DocumentsRequest, _BODY,
                 (_TIMEOUT,), openai=openai_path(path)) for path in COHERE_PATHS),
    _Operation("post", "/predict", "The labels' scores of texts or pairs (a reranker's, a classifier's)",
               list[Prediction | list[Prediction]], PredictRequest, _BODY, (_TIMEOUT,)),
    _Operation("post", "/tokenize", "The tokens of texts", list[list[Token]], TokenizeRequest, _BODY),
    _Operation("post", "/decode", "The texts of token ids", list[str], DecodeRequest, _BODY),
    _Operation("get", "/info", "What is served", dict[str, Any], None, _READ, (_MODEL_QUERY,)),
    _Operation("get", "/health", "200 when ready", Status, None, ("not_ready",), key=False),
    _Operation("get", "/ping", "200 when ready", Status, None, ("not_ready",), key=False),
    _Operation("get", "/health/live", "200 when alive", Status, None, (), key=False),
    _Operation("get", "/health/ready", "200 when ready", Status, None, ("not_ready",), key=False),
    _Operation("get", "/metrics", "Prometheus metrics", "text/plain", None, ("unauthorized",)),
)  # fmt: skip

_HEADERS = {
    "X-Embedrt-Model": "name of the model",
    "X-Embedrt-Identity": "identity of the vectors: those of different identities are not to be mixed",
    "X-Embedrt-Tokens": "tokens that the model saw",
    "X-Embedrt-Truncated": "inputs that were cut",
    "Server-Timing": "milliseconds per phase",
    "X-Request-Id": "the request's, or one made up",
}


_IN_IDS = str.maketrans("/", "_", "{}")
_TOKEN_ID = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_IDS = {"type": "array", "items": _TOKEN_ID, "minItems": 1}
_SORTS: tuple[dict[str, Any], ...] = (
    {"type": "string", "description": "a text"},
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "description": "texts"},
    {**_IDS, "description": "token ids of one text, in the model's own vocabulary"},
    {"type": "array", "items": _IDS, "minItems": 1, "description": "token ids of several texts"},
)
_INPUT_FIELDS = (  # what the types cannot say: sorts are not mixed, and nothing is empty
    ("EmbeddingsRequest", "input", _SORTS),
    ("EmbedRequest", "inputs", _SORTS),
    ("EmbedAllRequest", "inputs", _SORTS),
    ("EmbedSparseRequest", "inputs", _SORTS),
    ("DecodeRequest", "ids", _SORTS[2:]),
)


def describe_api() -> dict[str, Any]:
    """The document of /openapi.json."""
    types = [op.answer for op in _OPERATIONS if not isinstance(op.answer, str)]
    types += [op.body for op in _OPERATIONS if op.body is not None] + [OpenAIError, TeiError]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in _OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation, by_type)
    for name, key, sorts in _INPUT_FIELDS:
        components[name]["properties"][key] = {"anyOf": list(sorts)}
    for name, notes in FIELDS.items():
        for key, text in notes.items():
            components[name]["properties"][key]["description"] = text
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embedrt",
            "version": __version__,
            "description": "Embeddings and scores of pairs: the APIs of OpenAI, text-embeddings-inference and Cohere.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: _Operation, by_type: dict[str, Any]) -> dict[str, Any]:
    error = by_type[repr(OpenAIError if operation.openai else TeiError)]
    if isinstance(operation.answer, str):
        content: dict[str, Any] = {operation.answer: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": by_type[repr(operation.answer)]}}
        if operation.path in ANSWERS:
            content["application/json"]["example"] = ANSWERS[operation.path]
    answer: dict[str, Any] = {"description": operation.summary, "content": content}
    if "timeout" in operation.errors:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()
        }
    responses: dict[str, Any] = {"200": answer}
    for kind in operation.errors:
        found_kind = KINDS[kind]
        status = found_kind.openai_status if operation.openai else found_kind.tei_status
        others = responses.get(str(status), {}).get("description")
        responses[str(status)] = {
            "description": f"{others}, {kind.replace('_', ' ')}" if others else kind.replace("_", " "),
            "content": {"application/json": {"schema": error}},
        }
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method}_{operation.path.strip('/').translate(_IN_IDS) or 'root'}",
        "responses": responses,
    }
    others = OTHER_PATHS.get(operation.path.replace("{name}", "{name:path}"), ()) if operation.openai else ()
    also = f"Also at {', '.join(others).replace(':path', '')}." if others else ""
    description = " ".join(filter(None, (DESCRIPTIONS.get(operation.path), also)))
    if description:
        found["description"] = description
    if operation.parameters:
        found["parameters"] = list(operation.parameters)
    if operation.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": by_type[repr(operation.body)],
                    "examples": {title: {"value": body} for title, body in REQUESTS[operation.path].items()},
                }
            },
        }
    if operation.key:
        found["security"] = [{"key": []}, {}]
    return found
