"""The walk through a spec: embeddings, blocks, the last norm."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from embedrt.encoder import Block, EncoderSpec, Patches
from embedrt_export.emit.arithmetic import Arithmetic, Place
from embedrt_export.emit.attention import AttentionWriter
from embedrt_export.emit.positions import table_positions
from embedrt_export.nodes import Nodes

OUTPUT = "last_hidden_state"
PIXELS = "pixels"
"""Input of pictures' graphs: patches, float32 (B, count, size)."""


def walk(spec: EncoderSpec, out: Nodes, arithmetic: Arithmetic) -> onnx.ModelProto:
    """The graph of `spec`, with products and norms as `arithmetic` computes them."""
    x = _embeddings(spec, out, arithmetic) if spec.patches is None else _patches(spec, spec.patches, out, arithmetic)
    attention = AttentionWriter(out, arithmetic, is_padded=spec.patches is None)
    for index, block in enumerate(spec.blocks):
        x = _block(block, Place.of(index, block), x, attention, arithmetic)
    if spec.final_norm is not None:
        x = arithmetic.norm(Place.only("final_norm"), x, spec.final_norm)
    out.add("Reshape", [x, arithmetic.states_shape(spec.hidden_size)], OUTPUT)
    hidden = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", "tokens", spec.hidden_size])
    if spec.patches is not None:
        shape = ["batch", spec.patches.count, spec.patches.size]
        return out.model([helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, shape)], [hidden])
    names = ("input_ids", "attention_mask", *(("token_type_ids",) if spec.embeddings.has_token_types else ()))
    return out.model([token_input(name) for name in names], [hidden])


def token_input(name: str) -> ValueInfoProto:
    """An input of one number for each token: int64 (B, S)."""
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])


def _embeddings(spec: EncoderSpec, out: Nodes, arithmetic: Arithmetic) -> str:
    """Rows (T, H) before the first block."""
    embeddings = spec.embeddings
    x = arithmetic.word("input_ids")
    if embeddings.scale != 1:
        scale = out.scalar("const.embedding_scale", np.float32(embeddings.scale))
        x = out.add("Mul", [x, scale], "embeddings.word.scaled")
    if embeddings.num_positions:
        table = arithmetic.tensor("embeddings.position")
        rows = out.add("Gather", [table, table_positions(out, embeddings.pad_position)], "embeddings.position.rows")
        x = out.add("Add", [x, rows], "embeddings.placed")
    if embeddings.has_token_types:
        table = arithmetic.tensor("embeddings.token_type")
        rows = out.add("Gather", [table, "token_type_ids"], "embeddings.token_type.rows")
        x = out.add("Add", [x, rows], "embeddings.typed")
    x = arithmetic.rows(x, embeddings.size, "embeddings.sum")
    if embeddings.norm is not None:
        x = arithmetic.norm(Place.only("embeddings.norm"), x, embeddings.norm)
    return x if embeddings.size == spec.hidden_size else arithmetic.projection(x)


def _patches(spec: EncoderSpec, patches: Patches, out: Nodes, arithmetic: Arithmetic) -> str:
    """Rows (T, H) of pictures before the first block."""
    x = arithmetic.patches(PIXELS)
    if patches.has_first_row:
        before, axis = np.array([1, 0]), np.array([1])
        inputs = [x, out.once("const.first_row", before), "", out.once("const.second_axis", axis)]
        x = out.add("Pad", inputs, "embeddings.patch.rows")
    x = out.add("Add", [x, arithmetic.tensor("embeddings.position")], "embeddings.placed")
    out.add("Shape", [x], "states.batch", start=0, end=2)
    x = arithmetic.rows(x, spec.hidden_size, "embeddings.sum")
    norm = spec.embeddings.norm
    return x if norm is None else arithmetic.norm(Place.only("embeddings.norm"), x, norm)


def _block(block: Block, place: Place, x: str, attention: AttentionWriter, arithmetic: Arithmetic) -> str:
    """Attention and FFN with their norms and residuals."""
    after = {"post": "", "pre": None, "sandwich": "after_"}[block.norms]
    for part in ("attention", "ffn"):
        norm = place / f"{part}_norm"
        read = x
        if block.norms != "post" and (part == "ffn" or block.attention_is_normed):
            read = arithmetic.norm(norm, x, block.norm)
        if part == "attention":
            y = attention.write(place, block.attention, read)
        else:
            y = arithmetic.ffn(place, read, block.feed_forward)
        if after == "after_":
            y = arithmetic.norm(place / f"{part}_after_norm", y, block.norm)
        x = arithmetic.add(place / part, y, x)
        if block.norms == "post":
            x = arithmetic.norm(norm, x, block.norm)
    return x
