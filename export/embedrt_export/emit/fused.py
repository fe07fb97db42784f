"""The graph of a BERT-like encoder in ONNX Runtime's fused operators: seven nodes for each layer.

Nodes and initializers are named by role, see `embedrt_export.roles`. Sums are in the order of transformers' classes.

EmbedLayerNormalization is left alone on purpose: it takes no position ids of XLM-R's kind (counted over the tokens that
are not padding), is int32-only, and the embedding lookup is under 1 % of the time.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from embedrt.encoder import Block, EncoderSpec, Norm
from embedrt_export.emit.positions import table_positions, token_positions
from embedrt_export.emit.walk import OUTPUT, token_input
from embedrt_export.nodes import MICROSOFT, Nodes

ACTIVATIONS = {"gelu": "BiasGelu", "gelu_tanh": "FastGelu", "relu": "Relu"}
"""The spec's activation -> operator. FastGelu is the tanh formula; the exact (erf) gelu is never replaced by it."""
_MASKED = float(np.finfo(np.float32).min)  # added to the scores of padding


def emit_fused(spec: EncoderSpec, tensors: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """The fp32 graph of an encoder whose blocks are BERT's: attention over all tokens, norms after the residuals, an
    FFN that is not gated.

    Inputs input_ids, attention_mask[, token_type_ids], int64 (B, S), padded on either side; output last_hidden_state,
    float32 (B, S, H). `tensors` are the spec's, by name. Where there is one token type only, it is no input.
    """
    out = Nodes()
    types = len(tensors["embeddings.token_type"]) if spec.embeddings.has_token_types else 0
    writer = _Writer(out, tensors)
    x = writer.embeddings(spec, types)
    mask = out.add("Cast", ["attention_mask"], "attention_mask.int32", to=TensorProto.INT32)
    for index, block in enumerate(spec.blocks):
        x = writer.block(block, f"layers.{index}", x, mask)
    out.nodes[-1].output[0] = OUTPUT
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if types > 1 else [])]
    hidden = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", "tokens", spec.hidden_size])
    return out.model([token_input(name) for name in inputs], [hidden])


class _Writer:
    """Writes into one graph; a node's value has the node's name with ".output"."""

    def __init__(self, out: Nodes, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        self._out = out
        self._tensors = tensors

    def embeddings(self, spec: EncoderSpec, types: int) -> str:
        """States (B, S, H) before the first layer, of an encoder with so many token types."""
        out, norm = self._out, spec.embeddings.norm
        assert norm is not None  # as every family here has one
        x = self._looked_up("word", "input_ids")
        if types:
            ids = "token_type_ids" if types > 1 else self._zeros()
            x = out.add("Add", [x, self._looked_up("token_type", ids)], "embeddings.typed")
        rows = self._looked_up("position", table_positions(out, spec.embeddings.pad_position))
        x = out.add("Add", [x, rows], "embeddings.placed")
        inputs = [x, self._tensor("embeddings.norm.gamma"), self._tensor("embeddings.norm.beta")]
        return self._node("embeddings.norm", "LayerNormalization", inputs, "", axis=-1, epsilon=norm.epsilon)

    def block(self, block: Block, name: str, x: str, mask: str) -> str:
        """States (B, S, H) after a layer."""
        y = self._attention(f"{name}.attention", block, name, x, mask)
        y = self._product(f"{name}.attention_output", y)
        x = self._norm(f"{name}.attention_norm", y, self._tensor(f"{name}.attention_output.bias"), x, block.norm)
        y = self._product(f"{name}.ffn_up", x)
        y = self._activation(f"{name}.activation", y, self._tensor(f"{name}.ffn_up.bias"), block)
        y = self._product(f"{name}.ffn_down", y)
        return self._norm(f"{name}.ffn_norm", y, self._tensor(f"{name}.ffn_down.bias"), x, block.norm)

    def _zeros(self) -> str:
        """0 for each token (S,).

        Where all shapes are known, ONNX Runtime fuses norms that `embedrt_export.cpu` takes apart; a range's is not.
        """
        none = self._out.scalar("const.none", np.int64(0))
        return self._out.add("Mul", [token_positions(self._out), none], "embeddings.no_types")

    def _attention(self, name: str, block: Block, layer: str, x: str, mask: str) -> str:
        weight, bias = (self._side_by_side(layer, kind) for kind in ("weight", "bias"))
        heads = block.attention.num_heads
        return self._node(name, "Attention", [x, weight, bias, mask], num_heads=heads, mask_filter_value=_MASKED)

    def _side_by_side(self, layer: str, kind: str) -> str:
        """What makes queries, keys and values, as one tensor."""
        parts = [self._tensors[f"{layer}.{part}.{kind}"] for part in ("query", "key", "value")]
        return self._out.tensor(f"{layer}.qkv.{kind}", np.concatenate(parts, axis=-1))

    def _activation(self, name: str, y: str, bias: str, block: Block) -> str:
        """activation(y + bias); relu has no fused operator."""
        operator = ACTIVATIONS[block.feed_forward.activation]
        if operator != "Relu":
            return self._node(name, operator, [y, bias])
        return self._out.add("Relu", [self._node(name, "Add", [y, bias], "")], f"{name}.relu")

    def _norm(self, name: str, y: str, bias: str, residual: str, norm: Norm) -> str:
        """layernorm(y + bias + residual)."""
        inputs = [y, residual, self._tensor(f"{name}.gamma"), self._tensor(f"{name}.beta"), bias]
        return self._node(name, "SkipLayerNormalization", inputs, epsilon=norm.epsilon)

    def _looked_up(self, table: str, ids: str) -> str:
        name = f"embeddings.{table}"
        return self._node(name, "Gather", [self._tensor(name), ids], "")

    def _product(self, name: str, x: str) -> str:
        """x @ weight; what comes after adds the bias."""
        return self._node(name, "MatMul", [x, self._tensor(f"{name}.weight")], "")

    def _tensor(self, name: str) -> str:
        return self._out.tensor(name, self._tensors[name])

    def _node(self, name: str, operator: str, inputs: list[str], domain: str = MICROSOFT, **attributes: object) -> str:
        value = self._out.add(operator, inputs, f"{name}.output", domain, **attributes)
        self._out.nodes[-1].name = name
        return value
