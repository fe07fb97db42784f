"""OpenVINO on the CPU: latency hint, explicit inference precision and thread count, one infer request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
import openvino.properties.hint as hints
from numpy.typing import NDArray

from bench.systems.base import GraphSystem

_GROUP = 32  # activations that share a scale; OpenVINO's own choice for language models
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVino(GraphSystem):
    """`option` is the inference precision of whatever is not int8, and "/dynamic" for activations in int8 as well."""

    def _load(self, artifact: Path) -> None:
        precision, _, dynamic = self.option.partition("/")
        config = {
            hints.performance_mode: hints.PerformanceMode.LATENCY,
            hints.inference_precision: _TYPES[precision],
            hints.enable_hyper_threading: False,
            props.inference_num_threads: self.threads,
            props.num_streams: 1,
        }
        if dynamic:
            config[hints.dynamic_quantization_group_size] = _GROUP
        self._model = ov.Core().compile_model(artifact / "model.xml", "CPU", config)
        self._request = self._model.create_infer_request()
        self.inputs = [port.get_any_name() for port in self._model.inputs]

    def _infer(self, feeds: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
        return np.asarray(self._request.infer(feeds, share_inputs=True, share_outputs=True)[0], dtype=np.float32)

    def describe(self) -> str:
        precision = self._model.get_property(hints.inference_precision).get_type_name()
        threads = self._model.get_property(props.inference_num_threads)
        return f"openvino {ov.__version__.split('-')[0]}, CPU, {precision}, {threads} threads"
