"""Plain ONNX Runtime on the CPU, default session options but for the thread count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bench.systems.base import GraphSystem


class OnnxRuntime(GraphSystem):
    """Runs model.onnx of its folder; `option` is only a label."""

    def _load(self, artifact: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        path = str(artifact / "model.onnx")
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [node.name for node in self._session.get_inputs()]

    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run(None, feeds)
        return outputs[0]

    def describe(self) -> str:
        return f"onnxruntime {ort.__version__}, CPUExecutionProvider, {self.threads} threads"
