"""scikit-learn: texts to vectors as a step of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedrt.integrations.lazy import LazyEmbedder, missing

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as exc:
    raise missing("scikit-learn", exc) from exc


class EmbedrtTransformer(TransformerMixin, BaseEstimator):
    """Turns texts into vectors (N, D); learns nothing. `clone`, `set_output` and grid searches work as with others."""

    def __init__(
        self,
        bundle: str,
        *,
        kind: Literal["encode", "query", "document"] = "encode",
        settings: dict[str, Any] | None = None,
    ) -> None:
        """Say which model; opened at first use.

        Args:
            bundle: its directory or name.
            kind: whose prompt is put before the texts: the default one, a query's or a document's.
            settings: keywords of `Embedder`.
        """
        self.bundle = bundle
        self.kind = kind
        self.settings = settings

    def fit(self, X: Iterable[str], y: object = None) -> EmbedrtTransformer:
        """Nothing to learn."""
        del X, y
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Vectors float32 (N, D) of texts: a list, an array, a column of pandas or polars."""
        done = self._opened().embedder.encode_detailed(X, kind=self.kind)
        return np.asarray(done.embeddings, np.float32)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """embedrt0, embedrt1, ..., one for each dimension."""
        del input_features
        return np.array([f"embedrt{i}" for i in range(self._opened().embedder.dimension)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _opened(self) -> LazyEmbedder:
        """Of the parameters as they are now: `set_params` may have changed them."""
        wanted = (self.bundle, repr(self.settings))
        if getattr(self, "_wanted", None) != wanted:
            self._wanted = wanted
            self._lazy = LazyEmbedder(self.bundle, self.settings or {})
        return self._lazy
