"""fastembed as its users call it: `embed()`, with its own tokenizing and batches in the order of arrival."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding, __version__
from fastembed.common.model_description import ModelSource, PoolingType

from bench.systems.base import Rows, Vectors

_NAME = "bench/model"  # custom models are registered under one


class Fastembed:
    """Any encoder's ONNX file, pooled by mean and normalized; `option` is what its weights are."""

    def __init__(self, option: str) -> None:
        self.option = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        self.threads = threads
        width = int(json.loads((model / "config.json").read_text())["hidden_size"])
        # a source must be named; nothing is fetched from it where a path is given
        source, pooling = ModelSource(hf=_NAME), PoolingType.MEAN
        TextEmbedding.add_custom_model(_NAME, pooling, True, source, width, model_file="onnx/model.onnx")
        self._model = TextEmbedding(_NAME, threads=threads, specific_model_path=str(artifact))

    def encode_ids(self, rows: Rows) -> Vectors:
        raise NotImplementedError("fastembed takes texts only")

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        size = int(batching.partition("-")[2])
        return np.stack(list(self._model.embed(list(texts), batch_size=size))).astype(np.float32)

    def describe(self) -> str:
        return f"fastembed {__version__}, {self.option}, {self.threads} threads"

    def close(self) -> None:
        del self._model
