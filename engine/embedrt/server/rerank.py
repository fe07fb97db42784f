"""Scores of pairs over HTTP: text-embeddings-inference's /rerank and /predict, and Cohere's and Jina's shape.

Cohere's v2 and Jina's requests are alike: /v1/rerank and /v2/rerank take them, and /rerank does where the body has
`documents`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from embedrt.errors import EmbedrtError
from embedrt.options import EncodeOptions
from embedrt.pairs import PairOrText
from embedrt.server.call import call_of
from embedrt.server.engine import Answer
from embedrt.server.errors import ServeError, translate
from embedrt.server.inputs import Name
from embedrt.server.models import Ranker
from embedrt.server.prepare import Work
from embedrt.server.service import Service, json_response
from embedrt.server.tei import Direction, keeps_end

Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]


class TextDocument(msgspec.Struct):
    """A document as an object; other fields are left alone."""

    text: str


class RerankRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /rerank in TEI's shape (`texts`), or in Cohere's and Jina's (`documents`)."""

    query: str
    texts: list[str] | None = None
    raw_scores: bool | None = False
    return_text: bool | None = False
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    documents: list[str | TextDocument] | None = None
    top_n: Count | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Count | None = None
    max_chunks_per_doc: Count | None = None
    priority: int | None = None
    model: Name | None = None


class DocumentsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /v1/rerank and /v2/rerank."""

    query: str
    documents: list[str | TextDocument]
    top_n: Count | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: Count | None = None
    max_chunks_per_doc: Count | None = None
    priority: int | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    model: Name | None = None


class PredictParameters(msgspec.Struct, forbid_unknown_fields=True):
    """What huggingface_hub's text_classification sends beside a text."""

    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None
    top_k: Count | None = None


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Inputs of /predict; with `parameters`, also where they are empty, the request and its answer are the hub's."""

    inputs: str | list[str | list[str]]
    raw_scores: bool | None = False
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    parameters: PredictParameters | None = None
    model: Name | None = None


_OF_TEXTS = ("raw_scores", "return_text")
_OF_DOCUMENTS = ("top_n", "return_documents", "max_tokens_per_doc", "max_chunks_per_doc", "priority")
COHERE_PATHS = ("/v1/rerank", "/v2/rerank")
PATHS = ("/rerank", *COHERE_PATHS, "/predict")


class RerankApi:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """For the router."""
        return [
            Route("/rerank", self.rerank, methods=["POST"]),
            *(Route(path, self.cohere, methods=["POST"]) for path in COHERE_PATHS),
            Route("/predict", self.predict, methods=["POST"]),
        ]

    async def rerank(self, request: Request) -> Response:
        """TEI's: ranks, best first; or Cohere's, where the body has `documents`."""
        body = await self._service.read(request, RerankRequest)
        if body.documents is not None:
            _refuse(body, ("texts", *_OF_TEXTS), "documents")
            fields = {name: getattr(body, name) for name in DocumentsRequest.__struct_fields__}
            return await self._ranked(request, DocumentsRequest(**fields))
        _refuse(body, _OF_DOCUMENTS, "texts")
        if not body.texts:
            raise ServeError("empty", "texts must not be empty", param="texts")
        ranker = self._one_label(body.model)
        scores, _ = await self._score(request, ranker, body, body.texts, "identity" if body.raw_scores else "sigmoid")
        texts = body.texts
        return json_response(
            [
                {"index": i, **({"text": texts[i]} if body.return_text else {}), "score": float(scores[i])}
                for i in _order(scores)
            ]
        )

    async def cohere(self, request: Request) -> Response:
        """Cohere's and Jina's."""
        return await self._ranked(request, await self._service.read(request, DocumentsRequest))

    async def _ranked(self, request: Request, body: DocumentsRequest) -> Response:
        if not body.documents:
            raise ServeError("empty", "documents must not be empty", param="documents")
        if (body.max_chunks_per_doc or 1) > 1:
            raise ServeError(
                "unfit",
                f"max_chunks_per_doc={body.max_chunks_per_doc}: a document is read in one piece and cut at the model's "
                "limit; leave the field out, or send the pieces as documents",
                param="max_chunks_per_doc",
            )
        if body.priority:
            raise ServeError(
                "unfit", "priority: requests are ordered by their size and arrival; leave it out", param="priority"
            )
        ranker = self._one_label(body.model)
        texts = [one if isinstance(one, str) else one.text for one in body.documents]
        scores, answer = await self._score(request, ranker, body, texts, "sigmoid")
        with_documents = body.return_documents
        results = [
            {
                "index": i,
                "relevance_score": float(scores[i]),
                **({"document": {"text": texts[i]}} if with_documents else {}),
            }
            for i in _order(scores)[: body.top_n]
        ]
        return json_response(
            {
                "id": call_of(request).request_id,
                "model": ranker.engine.name,
                "results": results,
                "usage": {"total_tokens": answer.used_tokens},
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            }
        )

    async def predict(self, request: Request) -> Response:
        """TEI's: the scores of a text's or a pair's labels, best first; of several a list of such."""
        body = await self._service.read(request, PredictRequest)
        given, ranker = body.inputs, self._service.models.find_pairs(body.model)
        if not given and not isinstance(given, str):
            raise ServeError("empty", "inputs must not be empty", param="inputs")
        single = isinstance(given, str) or isinstance(given[0], str)
        one = [given] if isinstance(given, str) else given
        pairs = [_pair(pair, i) for i, pair in enumerate([one] if single else one)]
        labels, asked = ranker.model.reranker.labels, body.parameters or PredictParameters()
        activation = _activation(body, asked, len(labels))
        answer = await self._run(request, ranker, pairs, body)
        scores = self._scores(ranker, answer, activation)
        found = [
            [{"score": float(row[k]), "label": labels[k]} for k in np.argsort(-row, kind="stable")[: asked.top_k]]
            for row in scores
        ]
        return json_response(found[0] if single and body.parameters is None else found)

    def _one_label(self, model: str | None) -> Ranker:
        ranker = self._service.models.find_pairs(model)
        labels = ranker.model.reranker.labels
        if len(labels) != 1:
            raise ServeError(
                "wrong_model",
                f"{ranker.engine.name} has {len(labels)} labels and ranks nothing; /predict gives a score for each",
            )
        return ranker

    async def _score(
        self,
        request: Request,
        ranker: Ranker,
        body: RerankRequest | DocumentsRequest,
        texts: Sequence[str],
        activation: str,
    ) -> tuple[NDArray[np.float32], Answer]:
        """A score per text (N,)."""
        try:
            ranker.model.reranker.tokenizer.check_query(body.query)
        except EmbedrtError as exc:
            raise translate(exc) from exc
        answer = await self._run(request, ranker, [(body.query, text) for text in texts], body)
        return self._scores(ranker, answer, activation)[:, 0], answer

    async def _run(
        self,
        request: Request,
        ranker: Ranker,
        pairs: list[PairOrText],
        body: RerankRequest | DocumentsRequest | PredictRequest,
    ) -> Answer:
        inputs: Any = pairs
        work = Work(
            inputs,
            EncodeOptions(prompt=""),
            truncate=self._service.truncate(body.truncate),
            keep_end=keeps_end(body.truncation_direction),
            document_tokens=None if isinstance(body, PredictRequest) else body.max_tokens_per_doc,
            deadline=self._service.deadline(request),
        )
        # a pair's length is 2
        call_of(request).num_characters += sum(len(one) + len(two or "") - 2 for one, two in pairs)
        return await self._service.embed(request, ranker.engine, work)

    @staticmethod
    def _scores(ranker: Ranker, answer: Answer, activation: str) -> NDArray[np.float32]:
        logits = np.stack([answer.rows[row] for row in answer.row_of])
        return ranker.model.scores(logits, activation)


def _activation(body: PredictRequest, asked: PredictParameters, num_labels: int) -> str:
    """What turns logits into the scores that a request wants."""
    if asked.function_to_apply is None:
        return "identity" if body.raw_scores else "sigmoid" if num_labels == 1 else "softmax"
    if body.raw_scores:
        raise ServeError(
            "unfit",
            "raw_scores and parameters.function_to_apply say both what the scores are; leave one of them out",
            param="raw_scores",
        )
    return "identity" if asked.function_to_apply == "none" else asked.function_to_apply


def _order(scores: NDArray[np.float32]) -> list[int]:
    """Best first; of equal ones the earlier."""
    order: list[int] = np.argsort(-scores, kind="stable").tolist()
    return order


def _pair(value: object, index: int) -> PairOrText:
    if not isinstance(value, list) or not 1 <= len(value) <= 2 or not all(isinstance(part, str) for part in value):
        raise ServeError(
            "invalid",
            f"inputs[{index}] must be a text in a list, or a pair of texts; inputs may be a text, a pair, or a list of "
            "such lists",
            param=f"inputs[{index}]",
        )
    return value[0], value[1] if len(value) == 2 else None


def _refuse(body: RerankRequest, names: Sequence[str], shape: str) -> None:
    """Fields of the other shape, which would do nothing: ServeError."""
    for name in names:
        if getattr(body, name) not in (None, False):
            raise ServeError("unfit", f"{name} does not go with {shape}; leave one of them out", param=name)
