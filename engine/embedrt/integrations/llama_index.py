"""LlamaIndex: `BaseEmbedding` for indexes, retrievers and node parsers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from embedrt.embedder import Embedder
from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from pydantic import Field, PrivateAttr
except ImportError as exc:
    raise missing("llama-index-core", exc) from exc


class EmbedrtEmbedding(BaseEmbedding):
    """Embeddings of a bundle, with its prompts for queries and documents.

    Batches are the engine's own business; `embed_batch_size` is how many texts LlamaIndex hands over at once.
    """

    bundle: str = Field(description="Directory or name of the bundle.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Keywords of embedrt.Embedder.")
    _lazy: LazyEmbedder = PrivateAttr()

    def __init__(
        self,
        bundle: str | os.PathLike[str] | Embedder,
        *,
        settings: dict[str, Any] | None = None,
        embed_batch_size: int = 1024,
        **options: Any,
    ) -> None:
        """A directory, a name or an embedder, keywords of `Embedder`, and what every LlamaIndex embedding takes."""
        path = str(bundle.bundle.root) if isinstance(bundle, Embedder) else os.fspath(bundle)
        options.setdefault("model_name", path)
        super().__init__(bundle=path, settings=settings or {}, embed_batch_size=embed_batch_size, **options)
        self._lazy = LazyEmbedder(bundle, settings or {})

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex stores it."""
        return "EmbedrtEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._lazy.query(query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._lazy.documents(texts).tolist()
        return vectors

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)
