"""A bundle whose queries and documents have prompts of their own, so that a mix-up changes vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedrt import Embedder

PROMPTS = {"query": "query: ", "document": "passage: "}
SETTINGS = {"prompts": PROMPTS, "num_threads": 1}
TEXTS = ["서울은 대한민국의 수도이다.", "Paris is the capital of France.", "a"]


@pytest.fixture(scope="package")
def bundle(tiny_bundle: Path) -> str:
    return str(tiny_bundle)


@pytest.fixture(scope="package")
def own(bundle: str) -> Iterator[Embedder]:
    """What the library itself gives."""
    with Embedder(bundle, **SETTINGS) as embedder:
        yield embedder
