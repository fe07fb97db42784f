"""The int8 graph of an encoder that is not fused: every large MatMul or Gemm with a constant weight, nothing else.

Rows are quantized as in the fused graph (u8 around 128, one scale per token row), weights per output channel. Values
between the products are the exporter's own, so there is no smoothing: what a row's largest channel costs is paid.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from embedrt_export.int8.builder import Builder
from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.linear import CENTRE, Fold, Linear, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.roles import Tensors

Array = NDArray[np.float32]

MIN_WEIGHTS = 1 << 12  # smaller products gain nothing


def product_values(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> the value that it reads, for each product that can be quantized."""
    tensors = Tensors(model)
    return {node.name: node.input[0] for node in model.graph.node if _fits(node, tensors)}


def prepare(model: onnx.ModelProto, name: str, stats: InputStats, recipe: Int8Recipe) -> tuple[Linear, float]:
    """The product `name` with its int8 weight, and its local relative error."""
    tensors = Tensors(model)
    node = next(node for node in model.graph.node if node.name == name)
    weight, bias = _weight_and_bias(node, tensors)
    fold = Fold.identity(len(weight))
    linear = make_linear(weight, bias, fold, stats, recipe)
    return linear, local_error(stats.sample, fold, linear)


def emit(model: onnx.ModelProto, linears: Mapping[str, Linear], wide: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """The graph with the products of `linears` in int8, but for those in `wide`."""
    out = Builder(model)
    rows: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        linear = linears.get(node.name)
        if linear is None or node.name in wide:
            out.copy(node)
            continue
        value = node.input[0]
        if value not in rows:  # products that read the same value share its rows
            flat = out.add("Reshape", [value, out.constant("const.flat", np.array([-1, len(linear.weight)]), value)],
                           f"{value}.flat")  # fmt: skip
            rows[value] = out.rows8(flat, len(linear.weight), value)
        y = out.product(*rows[value], linear.quantized, CENTRE, node.name)
        if np.any(linear.bias):
            y = out.add("Add", [y, out.tensor(f"{node.name}.bias", linear.bias)], f"{node.name}.biased")
        _restore_shape(out, value, y, linear.weight.shape[1], node)
    return out.finish()


def _restore_shape(out: Builder, value: str, y: str, width: int, node: NodeProto) -> None:
    """Give the flat product (T, N) the leading dimensions of its input."""
    shape = out.add("Shape", [value], f"{node.name}.shape", end=-1)
    size = out.constant("const.columns", np.array([width]), str(width))
    out.add("Concat", [shape, size], f"{node.name}.full_shape", axis=0)
    out.add("Reshape", [y, f"{node.name}.full_shape"], node.output[0])


def _weight_and_bias(node: NodeProto, tensors: Tensors) -> tuple[Array, Array]:
    """(K, N) and (N,) of y = x @ weight + bias; Gemm may say them transposed and scaled."""
    weight = tensors.array(node.input[1])
    given = _attributes(node)
    if given.get("transB", 0):
        weight = np.ascontiguousarray(weight.T)
    weight = weight * np.float32(given.get("alpha", 1))
    bias = np.zeros(weight.shape[1], np.float32)
    if len(node.input) > 2 and node.input[2]:
        bias = bias + tensors.array(node.input[2]).reshape(-1) * np.float32(given.get("beta", 1))
    return weight, bias


def _attributes(node: NodeProto) -> dict[str, float]:
    return {a.name: a.f if a.type == onnx.AttributeProto.FLOAT else a.i for a in node.attribute}


def _fits(node: NodeProto, tensors: Tensors) -> bool:
    """x @ a large constant float32 weight, and for Gemm, x not transposed and one bias for every row."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in tensors or node.input[0] in tensors:
        return False
    if node.op_type == "Gemm" and not _fits_gemm(node, tensors):
        return False
    tensor = tensors.by_name[node.input[1]]
    big = len(tensor.dims) == 2 and tensor.dims[0] * tensor.dims[1] >= MIN_WEIGHTS
    return bool(big and tensor.data_type == TensorProto.FLOAT)


def _fits_gemm(node: NodeProto, tensors: Tensors) -> bool:
    if _attributes(node).get("transA", 0):
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = tensors.by_name.get(node.input[2])
    return bias is not None and (len(bias.dims) < 2 or (len(bias.dims) == 2 and bias.dims[0] == 1))
