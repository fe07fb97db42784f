"""An embedder that is opened when it is first needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.embedder import Embedder
from embedrt.errors import DependencyError


class LazyEmbedder:
    """What opens an embedder, and the embedder once it is open."""

    def __init__(self, bundle: str | os.PathLike[str] | Embedder, settings: Mapping[str, Any]) -> None:
        """`settings` are keywords of `Embedder`, or of its `with_options` where `bundle` is an embedder."""
        self._bundle = bundle
        self._settings = dict(settings)
        self._opened: Embedder | None = None
        self._lock = threading.Lock()

    @property
    def embedder(self) -> Embedder:
        """The embedder; opens it. Raises what `Embedder` raises."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def query(self, text: str) -> list[float]:
        """The vector of one query."""
        vector: list[float] = self.embedder.encode_query(text).tolist()
        return vector

    def queries(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of queries."""
        return np.asarray(self.embedder.encode_query(texts), np.float32)

    def documents(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors (N, D) of documents."""
        return np.asarray(self.embedder.encode_document(texts), np.float32)

    def _open(self) -> Embedder:
        if not isinstance(self._bundle, Embedder):
            return Embedder(self._bundle, **self._settings)
        return self._bundle.with_options(**self._settings) if self._settings else self._bundle

    def __getstate__(self) -> dict[str, Any]:
        return {"_bundle": self._bundle, "_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_bundle"], state["_settings"])  # type: ignore[misc]


def missing(package: str, exc: ImportError) -> DependencyError:
    """The error of a module here whose library is not installed."""
    return DependencyError(f"this needs {package} (it says: {exc}); pip install {package}")
