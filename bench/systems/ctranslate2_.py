"""CTranslate2's encoder: one worker, its threads inside it; it leaves padding out by itself."""

from __future__ import annotations

from pathlib import Path

import ctranslate2
import numpy as np

from bench.systems.base import PlainSystem, Rows, Vectors, pad, pool


class CTranslate2(PlainSystem):
    """`option` is the compute type."""

    def _load(self, artifact: Path) -> None:
        options = {"compute_type": self.option, "inter_threads": 1, "intra_threads": self.threads}
        self._encoder = ctranslate2.Encoder(str(artifact), device="cpu", **options)

    def encode_ids(self, rows: Rows) -> Vectors:
        output = self._encoder.forward_batch([list(row) for row in rows])
        hidden = np.array(output.last_hidden_state)  # (B, S, H)
        return pool(hidden, pad(rows, self.pad_token)[1])

    def describe(self) -> str:
        return f"ctranslate2 {ctranslate2.__version__}, {self._encoder.compute_type}, {self.threads} threads"
