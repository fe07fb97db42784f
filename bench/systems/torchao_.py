"""torchao's int8 on the CPU: dynamic activations, weights per channel, compiled by torch.compile."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from bench.systems.pytorch import PyTorch


class TorchAo(PyTorch):
    """Compiled for sizes of any kind, with frozen weights."""

    def _load(self, artifact: Path) -> None:
        import torch._inductor.config as inductor

        super()._load(artifact)
        quantize_(self._model, Int8DynamicActivationInt8WeightConfig())
        settings: Any = inductor
        settings.freezing = True
        self._model = torch.compile(self._model, dynamic=True)

    def describe(self) -> str:
        return f"torchao {version('torchao')}, {super().describe()}"
