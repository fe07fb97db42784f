"""Embedders that need no model: vectors come from the text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.results import EncodeResult

DIMENSION = 16
NOISE = {"fp32": 0.0, "fp16": 1e-4, "int8": 3e-3}  # in each number of a vector of length about 4


def vector_of(text: str, seed: int = 0) -> NDArray[np.float32]:
    """A vector (DIMENSION,) that the text decides; texts of like letters lie near each other."""
    digest = hashlib.sha256(f"{seed}{text}".encode()).digest()
    own = np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=DIMENSION)
    counts = np.bincount([ord(char) % DIMENSION for char in text], minlength=DIMENSION)
    return np.asarray(own + 3 * counts / max(1, len(text)), dtype=np.float32)


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors (N, DIMENSION)."""
    return np.stack([vector_of(text) for text in texts])


class FakeEmbedder:
    """Gives `vector_of` each text with noise that the text decides, so that it does not depend on the batch."""

    def __init__(self, variant: str, max_tokens: int = 512, noise: float | None = None) -> None:
        self.variant = variant
        self.max_tokens = max_tokens
        self.num_threads = 1024  # one call takes all that there are
        self.executor = "onnxruntime"
        self.executor_description = "nothing, 1 thread"
        self.closed = False
        self._noise = NOISE[variant] if noise is None else noise

    def encode_detailed(self, inputs: Sequence[str], /) -> EncodeResult:
        rows = [vector_of(text) + np.float32(self._noise) * vector_of(text, seed=1) for text in inputs]
        num_tokens = tuple(len(text) // 4 + 2 for text in inputs)
        return EncodeResult(np.stack(rows), num_tokens, (), f"identity-{self.variant}")

    def close(self) -> None:
        self.closed = True


class BatchDependentEmbedder(FakeEmbedder):
    """Adds a little of the batch's mean to each vector, as dynamic quantization does."""

    def encode_detailed(self, inputs: Sequence[str], /) -> EncodeResult:
        result = super().encode_detailed(inputs)
        mixed = result.embeddings + 0.01 * result.embeddings.mean(axis=0)
        return EncodeResult(mixed, result.num_tokens, (), result.identity)


def make_fake(bundle: Bundle, *, variant: str, device: str, num_threads: int | None) -> FakeEmbedder:
    """A FakeEmbedder with the bundle's limit."""
    return FakeEmbedder(variant, bundle.manifest.max_tokens)
