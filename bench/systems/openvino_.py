"""OpenVINO on the CPU: latency hint, explicit inference precision and thread count, one infer request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.properties as props
import openvino.properties.hint as hints

from bench.systems.base import PlainSystem, Rows, Vectors, pad, pool

_GROUP = 32  # activations that share a scale; OpenVINO's own choice for language models
_TYPES = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVino(PlainSystem):
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
        self._inputs = [port.get_any_name() for port in self._model.inputs]

    def encode_ids(self, rows: Rows) -> Vectors:
        ids, mask = pad(rows, self.pad_token)
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        hidden = self._request.infer(feeds, share_inputs=True, share_outputs=True)[0]
        return pool(np.asarray(hidden, dtype=np.float32), mask)

    def describe(self) -> str:
        precision = self._model.get_property(hints.inference_precision).get_type_name()
        threads = self._model.get_property(props.inference_num_threads)
        return f"openvino {ov.__version__.split('-')[0]}, CPU, {precision}, {threads} threads"
