"""LanceDB's registry: tables that embed what is added to them, and queries by text. For large corpora `embedrt index`
is the faster way, which embeds only what changed."""

from __future__ import annotations

from typing import Any

from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from lancedb.embeddings import EmbeddingFunction, register
    from pydantic import Field, PrivateAttr
except ImportError as exc:
    raise missing("lancedb", exc) from exc


@register("embedrt")
class EmbedrtFunction(EmbeddingFunction):
    """`get_registry().get("embedrt").create(bundle=...)`; a table keeps `bundle` and `settings`."""

    bundle: str
    settings: dict[str, Any] = Field(default_factory=dict)
    _lazy: LazyEmbedder = PrivateAttr()

    def __init__(self, **fields: Any) -> None:
        """`bundle`, a directory or a name, and `settings`, keywords of `Embedder`; opened at first use."""
        super().__init__(**fields)
        self._lazy = LazyEmbedder(self.bundle, self.settings)

    def ndims(self) -> int:
        """Length of a vector."""
        return self._lazy.embedder.dimension

    def compute_query_embeddings(self, query: str, *_args: Any, **_options: Any) -> list[Any]:
        """The vector of one query, in a list."""
        return list(self._lazy.queries([query]))

    def compute_source_embeddings(self, texts: Any, *_args: Any, **_options: Any) -> list[Any]:
        """Vectors of the source column: a list of strings, or an Arrow column."""
        return list(self._lazy.documents(self.sanitize_input(texts)))

    def sanitize_input(self, texts: Any) -> list[str]:
        """One string, a list of them or an Arrow column as a list."""
        if isinstance(texts, str):
            return [texts]
        return texts.to_pylist() if hasattr(texts, "to_pylist") else list(texts)
