"""An encoder's graph, written from its spec: no tracing, and no fused operators to recognize.

Nodes of block i are called layers.{i}.{role}, initializers layers.{block.weights}.{role}.{part} as in
`embedrt.encoder`; a repeated block's are there once. All rows are flat, (T, K) with T = B * S, but around attention.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from embedrt.encoder import EncoderSpec
from embedrt_export.emit.arithmetic import Arithmetic
from embedrt_export.emit.walk import walk
from embedrt_export.nodes import Nodes

__all__ = ["emit"]


def emit(spec: EncoderSpec, tensors: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """The fp32 graph.

    Inputs input_ids, attention_mask[, token_type_ids], int64 (B, S), padded on the right; or, of pictures, pixels,
    float32 (B, count, size). Output last_hidden_state, float32 (B, S, H). `tensors` are the spec's, by name.
    """
    out = Nodes()
    return walk(spec, out, Arithmetic(out, tensors))
