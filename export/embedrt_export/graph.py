"""An encoder's fp32 graph, and what is done to every graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import onnx
from onnx import helper

from embedrt.encoder import EncoderSpec

GRAPH_OPSET = 21  # QuantizeLinear with block_size; no operator used here changed its meaning between 18 and 21
IR_VERSION = 10

_COUNTED = (
    "Attention", "MultiHeadAttention", "RotaryEmbedding", "BiasGelu", "FastGelu", "Gelu", "QuickGelu",
    "SkipLayerNormalization", "LayerNormalization", "SimplifiedLayerNormalization", "EmbedLayerNormalization", "Relu",
    "MatMul", "Gemm", "MatMulIntegerToFloat", "QuantizeLinear", "Softmax", "Gather",
)  # fmt: skip


@dataclass(frozen=True)
class EncoderGraph:
    """An encoder as ONNX, its weights in memory.

    Inputs input_ids, attention_mask[, token_type_ids], int64 (B, S); output last_hidden_state, float32 (B, S, H).
    Initializers and nodes are named by `embedrt_export.roles` in fused graphs, as in `embedrt_export.emit` where there
    is a spec, and by torch where they were traced.
    """

    model: onnx.ModelProto
    family: str | None  # "bert" | "roberta" | "distilbert", which are fused | None
    fused: dict[str, int]  # operator -> count
    notes: tuple[str, ...]
    spec: EncoderSpec | None = None  # of a graph in plain operators that was emitted


def count_operators(model: onnx.ModelProto) -> dict[str, int]:
    """How often each operator of interest occurs."""
    counts = Counter(node.op_type for node in model.graph.node)
    return {name: counts[name] for name in _COUNTED if counts[name]}


def finish(model: onnx.ModelProto) -> None:
    """Drop unused initializers and shape hints that no longer hold, and set the opsets."""
    used = {name for node in model.graph.node for name in node.input}
    used |= {output.name for output in model.graph.output}
    keep = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(keep) < len(model.graph.initializer):
        kept = [onnx.TensorProto() for _ in keep]
        for new, old in zip(kept, keep, strict=True):
            new.CopyFrom(old)
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    set_opset(model)


def set_opset(model: onnx.ModelProto) -> None:
    """State opset `GRAPH_OPSET` and com.microsoft 1."""
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", GRAPH_OPSET), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = IR_VERSION
