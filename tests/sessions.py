"""ONNX Runtime sessions that compute what the product's executor computes."""

from __future__ import annotations

import onnxruntime as ort


def open_session(model: str | bytes) -> ort.InferenceSession:
    """A graph (its path or bytes) on the CPU; exact for u8 x s8 where there is no VNNI: AVX2 saturates without that."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
