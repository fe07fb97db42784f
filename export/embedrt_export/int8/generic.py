"""The int8 graph of an encoder that is not fused: every large MatMul or Gemm with a constant weight, nothing else.

Rows are quantized as in the fused graph (u8 around 128, one scale per token row), weights per output channel. Values
between the products are the exporter's own, so nothing can be folded into what made them: where a value is smoothed and
centred, the graph does it, x -> (x - shift) / scale, once for all the products that read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from embedrt_export.int8.builder import Builder
from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.linear import CENTRE, Fold, Linear, choose_fold, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.smoothing import stretching_channels
from embedrt_export.int8.weights import Int8Weight
from embedrt_export.roles import Tensors

Array = NDArray[np.float32]

Channels = NDArray[np.int64]

MIN_WEIGHTS = 1 << 12  # smaller products gain nothing
MIN_GAIN = 2.0  # outliers are kept float32 where the rows' mean squared peak falls by this factor without them
MAX_OUTLIER_SHARE = 8  # and never more than every eighth channel


def product_values(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> the value that it reads, for each product that can be quantized."""
    tensors = Tensors(model)
    return {node.name: node.input[0] for node in model.graph.node if _fits(node, tensors)}


@dataclass(frozen=True)
class Group:
    """The products that read one value (T, K), and what is done to the value for them."""

    width: int  # K
    main: Channels  # those that are int8
    outliers: Channels  # those that stay float32
    fold: Fold  # of the main ones
    linears: dict[str, Linear]  # by product, over the main channels
    rest: dict[str, Array]  # by product, (c, N): what the outliers are multiplied with
    errors: dict[str, float]  # by product, local and relative


def prepare(model: onnx.ModelProto, names: Sequence[str], stats: InputStats, recipe: Int8Recipe) -> Group:
    """Fold the value that the products `names` read, and quantize their weights."""
    tensors = Tensors(model)
    nodes = {node.name: node for node in model.graph.node}
    parts = {name: _weight_and_bias(nodes[name], tensors) for name in names}
    width = len(stats.low)
    outliers = _outliers(stats, [weight for weight, _bias in parts.values()], recipe)
    main = np.setdiff1d(np.arange(width), outliers)
    if len(outliers):
        stats = stats.channels(main)
    fold = choose_fold(stats, [weight[main] for weight, _bias in parts.values()], recipe)
    linears = {name: make_linear(weight[main], bias, fold, stats, recipe) for name, (weight, bias) in parts.items()}
    errors = {name: local_error(stats.sample, fold, linear) for name, linear in linears.items()}
    rest = {name: weight[outliers] for name, (weight, _bias) in parts.items()}
    return Group(width, main, outliers, fold, linears, rest, errors)


def _outliers(stats: InputStats, weights: list[Array], recipe: Int8Recipe) -> Channels:
    """Channels that stretch the rows even when they are smoothed; none where that is not worth a float32 product."""
    if not recipe.ffn_outliers or recipe.ffn_outliers * MAX_OUTLIER_SHARE > len(stats.low):
        return np.empty(0, np.int64)
    fold = choose_fold(stats, weights, replace(recipe, optimize=False))
    rows = (stats.sample - fold.shift) / fold.scale
    chosen = stretching_channels(rows, recipe.ffn_outliers)
    peaks = np.square(rows).max(axis=1).mean()
    left = np.square(np.delete(rows, chosen, axis=1)).max(axis=1).mean()
    return chosen if peaks > MIN_GAIN * left else np.empty(0, np.int64)


def emit(model: onnx.ModelProto, groups: Mapping[str, Group], wide: frozenset[str] = frozenset()) -> onnx.ModelProto:
    """The graph with the products of `groups` (by the value read) in int8, but for those in `wide`."""
    out = Builder(model)
    rows: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        group = groups.get(node.input[0]) if node.input else None
        if group is None or node.name not in group.linears or node.name in wide:
            out.copy(node)
            continue
        value, linear = node.input[0], group.linears[node.name]
        if value not in rows:
            rows[value] = _rows(out, value, group)
        y = out.product(*rows[value], _expanded(linear.quantized, group), CENTRE, node.name)
        if len(group.outliers):
            inputs = [f"{value}.outliers", out.tensor(f"{node.name}.rest", group.rest[node.name]),
                      out.tensor(f"{node.name}.bias", linear.bias)]  # fmt: skip
            y = out.add("Add", [y, out.add("Gemm", inputs, f"{node.name}.wide")], f"{node.name}.biased")
        elif np.any(linear.bias):
            y = out.add("Add", [y, out.tensor(f"{node.name}.bias", linear.bias)], f"{node.name}.biased")
        _restore_shape(out, value, y, linear.weight.shape[1], node)
    return out.finish()


def _rows(out: Builder, value: str, group: Group) -> tuple[str, str]:
    """u8 rows of the value, folded, and their scales; outliers are zero there and stand beside, as they are."""
    x = out.add("Reshape", [value, out.constant("const.flat", np.array([-1, group.width]), value)], f"{value}.flat")
    if len(group.outliers):
        out.add("Gather", [x, out.tensor(f"{value}.outlier_channels", group.outliers)], f"{value}.outliers", axis=1)
    shift, inverse = np.zeros(group.width, np.float32), np.zeros(group.width, np.float32)
    shift[group.main], inverse[group.main] = group.fold.shift, 1 / group.fold.scale
    if np.any(shift):
        x = out.add("Sub", [x, out.tensor(f"{value}.shift", shift)], f"{value}.centred")
    if np.any(inverse != 1):
        x = out.add("Mul", [x, out.tensor(f"{value}.inverse_scale", inverse)], f"{value}.smoothed")
    return out.rows8(x, group.width, value)


def _expanded(weight: Int8Weight, group: Group) -> Int8Weight:
    """The weight (K, N) with zeros for the outliers."""
    whole = np.zeros((group.width, weight.weight.shape[1]), np.int8)
    whole[group.main] = weight.weight
    return Int8Weight(whole, weight.scale)


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
