"""sentence-transformers as its users call it: `encode()`, with its own tokenizing, sorting and batching."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer, __version__

from bench.systems.base import Rows, Vectors


class Torch:
    """The default backend, fp32."""

    def __init__(self, option: str) -> None:
        self.option = option

    def load(self, artifact: Path, model: Path, threads: int) -> None:
        del model
        torch.set_num_threads(threads)
        self.threads = threads
        self._model = SentenceTransformer(str(artifact), device="cpu", **self._options())

    def _options(self) -> dict[str, Any]:
        return {"model_kwargs": {"dtype": torch.float32}}

    def encode_ids(self, rows: Rows) -> Vectors:
        """Rows of equal length straight through the modules (no tokenizing, no batching)."""
        ids = torch.tensor([list(row) for row in rows])
        features: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.inference_mode():
            vectors: Vectors = self._model(features)["sentence_embedding"].float().numpy()
        return vectors

    def encode_texts(self, texts: Sequence[str], batching: str) -> Vectors:
        size = int(batching.partition("-")[2])
        vectors = self._model.encode(list(texts), batch_size=size, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)

    def describe(self) -> str:
        return f"sentence-transformers {__version__}, {type(self).__name__.lower()}, {self.threads} threads"

    def close(self) -> None:
        del self._model


class Onnx(Torch):
    """The ONNX Runtime backend with a quantized file."""

    def _options(self) -> dict[str, Any]:
        import onnxruntime as ort

        session = ort.SessionOptions()
        session.intra_op_num_threads = self.threads
        options = {"provider": "CPUExecutionProvider", "session_options": session, "file_name": "model.onnx"}
        return {"backend": "onnx", "model_kwargs": options}
