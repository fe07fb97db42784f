"""Haystack 2 and later: a text embedder for queries and a document embedder for indexing pipelines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from haystack import Document, component, default_to_dict
except ImportError as exc:
    raise missing("haystack-ai", exc) from exc


@component
class EmbedrtTextEmbedder:
    """Embeds one text, a query, with the model's query prompt."""

    def __init__(self, bundle: str, settings: dict[str, Any] | None = None) -> None:
        """A directory or a name, and keywords of `Embedder`; opened by `warm_up`, or at first use."""
        self.bundle = bundle
        self.settings = settings or {}
        self._lazy = LazyEmbedder(bundle, self.settings)

    def warm_up(self) -> None:
        """Open the model."""
        _ = self._lazy.embedder

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are stored."""
        kept: dict[str, Any] = default_to_dict(self, bundle=self.bundle, settings=self.settings)
        return kept

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """The text's vector.

        Raises:
            TypeError: it is not a string.
        """
        if not isinstance(text, str):
            raise TypeError("EmbedrtTextEmbedder embeds one string; for documents there is EmbedrtDocumentEmbedder")
        return {"embedding": self._lazy.query(text), "meta": {"identity": self._lazy.embedder.identity}}


@component
class EmbedrtDocumentEmbedder:
    """Adds embeddings to documents, with the model's document prompt."""

    def __init__(
        self,
        bundle: str,
        settings: dict[str, Any] | None = None,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
    ) -> None:
        """Open a bundle at first use.

        Args:
            bundle: its directory or name.
            settings: keywords of `Embedder`.
            meta_fields_to_embed: what of a document's meta is put before its content.
            embedding_separator: between them.
        """
        self.bundle = bundle
        self.settings = settings or {}
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self._lazy = LazyEmbedder(bundle, self.settings)

    def warm_up(self) -> None:
        """Open the model."""
        _ = self._lazy.embedder

    def to_dict(self) -> dict[str, Any]:
        """As pipelines are stored."""
        kept: dict[str, Any] = default_to_dict(
            self,
            bundle=self.bundle,
            settings=self.settings,
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
        )
        return kept

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """New documents with their embeddings; the given ones stay as they are.

        Raises:
            TypeError: it is not a list of documents.
        """
        if not isinstance(documents, list) or not all(isinstance(one, Document) for one in documents):
            raise TypeError("EmbedrtDocumentEmbedder embeds a list of documents; for a string: EmbedrtTextEmbedder")
        vectors = self._lazy.documents([self._text(one) for one in documents]).tolist() if documents else []
        embedded = [replace(one, embedding=vector) for one, vector in zip(documents, vectors, strict=True)]
        return {"documents": embedded, "meta": {"identity": self._lazy.embedder.identity}}

    def _text(self, document: Document) -> str:
        fields = [document.meta[name] for name in self.meta_fields_to_embed if document.meta.get(name) is not None]
        return self.embedding_separator.join([*map(str, fields), document.content or ""])
