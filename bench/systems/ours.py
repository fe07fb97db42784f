"""embedrt itself: `Embedder.encode` for texts, its executor and pooling for given token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.systems.base import Rows, Vectors
from embedrt import Embedder
from embedrt.executors import TokenBatch
from embedrt.pooling import l2_normalize, pool


class Ours:
    """`option` is the variant, and after a slash the executor where it is not the automatic one."""

    def __init__(self, option: str) -> None:
        self.option = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        del model
        variant, _, executor = self.option.partition("/")
        self._embedder = Embedder(
            artifact, variant=variant, device="cpu", executor=executor or "auto", num_threads=threads
        )

    def encode_ids(self, rows: Rows) -> Vectors:
        """The way `encode` goes from the executor on: run, pool, normalize."""
        ids = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int32)
        hidden = self._embedder._executor.run(TokenBatch(ids, offsets))  # (T, H)
        return l2_normalize(pool(hidden, offsets, self._embedder.pooling, 0))

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        del batching  # its own
        vectors: Vectors = self._embedder.encode(list(texts))
        return vectors

    def describe(self) -> str:
        one = self._embedder
        return f"embedrt, {one.variant}, {one.executor_description} ({one.executor_reason})"

    def close(self) -> None:
        self._embedder.close()
