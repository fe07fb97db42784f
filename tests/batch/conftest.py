"""Batches of Arrow, and what the library itself makes of their texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedrt import Embedder
from tests.cli.conftest import lookup_bundle

__all__ = ["lookup_bundle"]

TEXTS = ["the water", "a stone in the river", "light", "bread and paper", "the water", "가나다", "x " * 80]


@pytest.fixture
def own(lookup_bundle: Path) -> Callable[..., np.ndarray]:
    """What `Embedder.encode` gives."""

    def encode(texts: list[str], **options: object) -> np.ndarray:
        with Embedder(lookup_bundle, num_threads=1) as embedder:
            return np.asarray(embedder.encode(texts, on_overflow="truncate", **options))

    return encode


def vectors_of(column: object, dtype: str = "float32") -> np.ndarray:
    """A column of vectors without nulls as an array (N, D)."""
    return np.array(column.to_pylist(), dtype)  # type: ignore[attr-defined]
