"""LangChain: `Embeddings` for vector stores, retrievers and chains."""

from __future__ import annotations

import os
from typing import Any

from embedrt.embedder import Embedder
from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from langchain_core.embeddings import Embeddings
except ImportError as exc:
    raise missing("langchain-core", exc) from exc


class EmbedrtEmbeddings(Embeddings):
    """Embeddings of a bundle, with its prompts for queries and documents."""

    def __init__(self, bundle: str | os.PathLike[str] | Embedder, **settings: Any) -> None:
        """A directory, a name or an embedder, and keywords of `Embedder`; opened at first use."""
        self._lazy = LazyEmbedder(bundle, settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector for each document."""
        vectors: list[list[float]] = self._lazy.documents(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of a query."""
        return self._lazy.query(text)
