"""Plain ONNX Runtime on the CPU, default session options but for the thread count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.systems.base import PlainSystem, Rows, Vectors, pad, pool


class OnnxRuntime(PlainSystem):
    """Runs model.onnx of its folder; `option` is only a label."""

    def _load(self, artifact: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        path = str(artifact / "model.onnx")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._inputs = [node.name for node in self._session.get_inputs()]

    def encode_ids(self, rows: Rows) -> Vectors:
        ids, mask = pad(rows, self.pad_token)
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        return pool(self._session.run(None, feeds)[0], mask)

    def describe(self) -> str:
        return f"onnxruntime {ort.__version__}, CPUExecutionProvider, {self.threads} threads"
