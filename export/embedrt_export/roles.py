"""Names by role in a fused graph, and the way back from a name to its weight.

Nodes and initializers of layer i are called::

    layers.{i}.attention           Attention          .qkv.weight (H, 3H)  .qkv.bias (3H,)
    layers.{i}.attention_output    MatMul             .weight (H, H)       .bias (H,), added by the norm below
    layers.{i}.attention_norm      SkipLayerNorm.     .gamma (H,)          .beta (H,)
    layers.{i}.ffn_up              MatMul             .weight (H, F)
    layers.{i}.activation          BiasGelu, ...      layers.{i}.ffn_up.bias (F,)
    layers.{i}.ffn_down            MatMul             .weight (F, H)       .bias (H,)
    layers.{i}.ffn_norm            SkipLayerNorm.     .gamma (H,)          .beta (H,)

and before the layers `embeddings.word`, `embeddings.position`, `embeddings.token_type`, `embeddings.norm.gamma`,
`embeddings.norm.beta`. A node's output has the node's name with ".output", but for the graph's own output.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Array = NDArray[np.float32]


class Tensors:
    """The initializers of a model by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.by_name: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def array(self, name: str) -> Array:
        """A copy-free view where the tensor has raw data."""
        tensor = self.by_name[name]
        if tensor.HasField("raw_data") and tensor.data_type == TensorProto.FLOAT:
            return np.frombuffer(tensor.raw_data, np.float32).reshape(tuple(tensor.dims))
        return np.asarray(numpy_helper.to_array(tensor))
