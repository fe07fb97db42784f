"""PyTorch: transformers' AutoModel, with sdpa attention where the model has it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModel

from bench.systems.base import PlainSystem, Rows, Vectors, pad


class PyTorch(PlainSystem):
    """`option` is the dtype; weights are widened or narrowed at load, pooling is in fp32."""

    def _load(self, artifact: Path) -> None:
        torch.set_num_threads(self.threads)
        self._model = AutoModel.from_pretrained(artifact, dtype=getattr(torch, self.option)).eval()

    def encode_ids(self, rows: Rows) -> Vectors:
        ids, mask = (torch.from_numpy(array) for array in pad(rows, self.pad_token))
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (B, S, H)
            weights = mask.unsqueeze(-1).float()
            mean = (hidden * weights).sum(1) / weights.sum(1)
            result: Vectors = torch.nn.functional.normalize(mean, dim=1).numpy()
        return result

    def describe(self) -> str:
        attention = self._model.config._attn_implementation
        return f"torch {torch.__version__}, {self.option}, {attention}, {torch.get_num_threads()} threads"
