"""Chroma: an embedding function for collections, which a client finds again by its name."""

from __future__ import annotations

from typing import Any

from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from chromadb.api.types import Documents, EmbeddingFunction, Embeddings, Space
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as exc:
    raise missing("chromadb", exc) from exc


@register_embedding_function
class EmbedrtEmbeddingFunction(EmbeddingFunction[Documents]):
    """Embeds documents and queries with their own prompts; a collection keeps `bundle` and `settings`."""

    def __init__(self, bundle: str, settings: dict[str, Any] | None = None) -> None:
        """A directory or a name, and keywords of `Embedder`; opened at first use."""
        self._bundle = bundle
        self._settings = settings or {}
        self._lazy = LazyEmbedder(bundle, self._settings)

    def __call__(self, input: Documents) -> Embeddings:
        """Vectors of documents."""
        return list(self._lazy.documents(list(input)))

    def embed_query(self, input: Documents) -> Embeddings:
        """Vectors of queries."""
        return list(self._lazy.queries(list(input)))

    @staticmethod
    def name() -> str:
        """As collections keep it."""
        return "embedrt"

    def default_space(self) -> Space:
        """The distance that new collections have."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """What a collection keeps."""
        return {"bundle": self._bundle, "settings": self._settings}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> EmbedrtEmbeddingFunction:
        """The function of a collection that was kept."""
        return EmbedrtEmbeddingFunction(config["bundle"], config.get("settings"))
