"""llama.cpp through llama-cpp-python: a batch of sequences in one call, pooled by itself."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import llama_cpp
import numpy as np

from bench.systems.base import PlainSystem, Rows, Vectors

MAX_TEXTS, MAX_TOKENS = 8, 512  # of a batch, of a text


class LlamaCpp(PlainSystem):
    """`option` is the type of the weights, for the description."""

    def _load(self, artifact: Path) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(artifact / "model.gguf").encode(), llama_cpp.llama_model_default_params()
        )
        settings = llama_cpp.llama_context_default_params()
        settings.n_seq_max = MAX_TEXTS
        settings.n_ctx = settings.n_batch = settings.n_ubatch = MAX_TEXTS * MAX_TOKENS
        settings.n_threads = settings.n_threads_batch = self.threads
        settings.kv_unified = True  # else texts of unequal lengths are parted, and pooled in parts
        settings.embeddings = True
        settings.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._width = llama_cpp.llama_model_n_embd(self._model)

    def encode_ids(self, rows: Rows) -> Vectors:
        memory = llama_cpp.llama_get_memory(self._context)
        if memory:  # none where attention goes both ways
            llama_cpp.llama_memory_clear(memory, True)
        batch = llama_cpp.llama_batch_init(sum(map(len, rows)), 0, 1)
        try:
            for text, row in enumerate(rows):
                for position, token in enumerate(row):
                    i = batch.n_tokens
                    batch.token[i], batch.pos[i] = token, position
                    batch.n_seq_id[i], batch.seq_id[i][0] = 1, text
                    batch.logits[i] = True
                    batch.n_tokens += 1
            if failed := llama_cpp.llama_decode(self._context, batch):
                raise RuntimeError(f"llama_decode gave {failed}")
        finally:
            llama_cpp.llama_batch_free(batch)
        sums = [llama_cpp.llama_get_embeddings_seq(self._context, text) for text in range(len(rows))]
        vectors = np.stack([np.ctypeslib.as_array(pointer, (self._width,)) for pointer in sums])
        normalized: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normalized

    def describe(self) -> str:
        return f"llama-cpp-python {version('llama-cpp-python')}, {self.option}, {self.threads} threads"

    def close(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)
        super().close()
