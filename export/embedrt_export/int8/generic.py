"""The int8 graph of an encoder that is not fused: token table and every large MatMul or Gemm with a constant weight.

Rows are quantized as in the fused graph (u8 around 128, one scale per token row), weights per output channel, the token
table per row. Values between the products are the exporter's own, so nothing can be folded into what made them: where a
value is smoothed and centred, the graph does it, x -> (x - shift) / scale, once for all the products that read it.
A weight that several products share is int8 once; the values that they read then have one fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from embedrt_export.int8.builder import Builder
from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.linear import CENTRE, Fold, Linear, choose_fold, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.sharing import tied, without_aliases
from embedrt_export.int8.smoothing import stretching_channels
from embedrt_export.int8.weights import Int8Weight, quantize_rows
from embedrt_export.roles import Tensors
from embedrt_export.sums import add_in_blocks

Array = NDArray[np.float32]

Channels = NDArray[np.int64]

MIN_WEIGHTS = 1 << 12  # smaller products gain nothing
MIN_GAIN = 2.0  # outliers are kept float32 where the rows' mean squared peak falls by this factor without them
MAX_OUTLIER_SHARE = 8  # and never more than every eighth channel

_TABLE_SAMPLE = 4096  # rows of a table that its error is measured on
_SAME_IDS = ("Cast", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # operators that leave ids what they are


@dataclass(frozen=True)
class Product:
    """One product that can be quantized; two with equal `kernel` compute the same function."""

    name: str
    value: str  # what it reads
    kernel: tuple[str, str, str]  # names of weight and bias, and the attributes


def products(model: onnx.ModelProto) -> dict[str, Product]:
    """Those that can be quantized, by node name."""
    tensors = Tensors(model)
    return {
        node.name: Product(node.name, node.input[0], _kernel(node))
        for node in without_aliases(model)
        if _fits(node, tensors)
    }


def product_values(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> the value that it reads, for each product that can be quantized."""
    return {name: product.value for name, product in products(model).items()}


def groups_of(model: onnx.ModelProto) -> list[list[Product]]:
    """The products in groups that need one fold each, because they share values or weights."""
    every = products(model)
    pairs = {name: (product.value, product.kernel[0]) for name, product in every.items()}
    return [[every[name] for name in names] for names in tied(pairs)]


@dataclass(frozen=True)
class Group:
    """Products that share values (T, K) or weights, and what is done to the values for them.

    A weight that several products have is quantized once, for the first of them, its *owner*.
    """

    width: int  # K
    main: Channels  # those that are int8
    outliers: Channels  # those that stay float32
    fold: Fold  # of the main ones
    owners: dict[str, str]  # by product
    linears: dict[str, Linear]  # by owner, over the main channels
    rest: dict[str, Array]  # by owner, (c, N): what the outliers are multiplied with
    errors: dict[str, float]  # by owner, local and relative


def prepare(
    model: onnx.ModelProto, group: Sequence[Product], stats: Mapping[str, InputStats], recipe: Int8Recipe
) -> Group:
    """Fold the values that the products of `group` read, and quantize their weights; `stats` by product."""
    tensors = Tensors(model)
    nodes = {node.name: node for node in without_aliases(model)}
    first: dict[tuple[str, str, str], str] = {}
    owners = {product.name: first.setdefault(product.kernel, product.name) for product in group}
    parts = {name: _weight_and_bias(nodes[name], tensors) for name in first.values()}
    seen = InputStats.merged(list({product.value: stats[product.name] for product in group}.values()))
    width = len(seen.low)
    outliers = _outliers(seen, [weight for weight, _bias in parts.values()], recipe)
    main = np.setdiff1d(np.arange(width), outliers)
    if len(outliers):
        seen = seen.channels(main)
    fold = choose_fold(seen, [weight[main] for weight, _bias in parts.values()], recipe)
    linears = {name: make_linear(weight[main], bias, fold, seen, recipe) for name, (weight, bias) in parts.items()}
    errors = {name: local_error(seen.sample, fold, linear) for name, linear in linears.items()}
    rest = {name: weight[outliers] for name, (weight, _bias) in parts.items()}
    return Group(width, main, outliers, fold, owners, linears, rest, errors)


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


def table_errors(model: onnx.ModelProto) -> dict[str, float]:
    """Node name -> |error| / |row - mean row| of some rows in int8, for each look-up of a token table."""
    tensors = Tensors(model)
    errors: dict[str, float] = {}
    for name, table in _token_tables(without_aliases(model), tensors).items():
        every = tensors.array(table)
        some = every[:: max(1, len(every) // _TABLE_SAMPLE)]
        rows, scales = quantize_rows(some)
        spread = np.linalg.norm(some - some.mean(axis=0))
        errors[name] = float(np.linalg.norm(rows * scales - some) / max(float(spread), 1e-12))
    return errors


def emit(
    model: onnx.ModelProto,
    groups: Sequence[Group],
    tables: Collection[str],
    blocks: Mapping[str, int],
    wide: frozenset[str] = frozenset(),
) -> onnx.ModelProto:
    """The int8 graph.

    Args:
        model: the fp32 graph.
        groups: products to quantize.
        tables: names of the look-ups whose tables are int8.
        blocks: terms, by name, of the products that are added up in blocks.
        wide: owners and look-ups that stay float32.
    """
    out = Builder(model)
    of = {product: group for group in groups for product in group.owners}
    rows: dict[str, tuple[str, str]] = {}
    for node in without_aliases(model):
        group = of.get(node.name)
        if group is not None and group.owners[node.name] not in wide:
            _emit_product(out, node, group, rows)
        elif node.name in tables and node.name not in wide:
            out.look_up8(node.input[0], node.input[1], node.name, node.output[0])
        elif node.name in blocks:
            add_in_blocks(out, node.input, node.name, node.output[0], blocks[node.name])
        else:
            out.copy(node)
    return out.finish()


def _emit_product(out: Builder, node: NodeProto, group: Group, rows: dict[str, tuple[str, str]]) -> None:
    """One product in int8; `rows` has the 8-bit rows of the values that were read before."""
    value, owner = node.input[0], group.owners[node.name]
    linear = group.linears[owner]
    if value not in rows:
        rows[value] = _rows(out, value, group)
    y = out.product(*rows[value], _expanded(linear.quantized, group), CENTRE, node.name)
    if len(group.outliers):
        inputs = [f"{value}.outliers", out.tensor(f"{node.name}.rest", group.rest[owner]),
                  out.tensor(f"{node.name}.bias", linear.bias)]  # fmt: skip
        y = out.add("Add", [y, out.add("Gemm", inputs, f"{node.name}.wide")], f"{node.name}.biased")
    elif np.any(linear.bias):
        y = out.add("Add", [y, out.tensor(f"{node.name}.bias", linear.bias)], f"{node.name}.biased")
    _restore_shape(out, value, y, linear.weight.shape[1], node)


def _rows(out: Builder, value: str, group: Group) -> tuple[str, str]:
    """u8 rows of the value, folded, and their scales; outliers are zero there and stand beside, as they are."""
    of = next(iter(group.owners))
    x = out.add("Reshape", [value, out.constant("const.flat", np.array([-1, group.width]), str(group.width))],
                f"{value}.flat")  # fmt: skip
    if len(group.outliers):
        out.add("Gather", [x, out.constant("outlier_channels", group.outliers, of)], f"{value}.outliers", axis=1)
    shift, inverse = np.zeros(group.width, np.float32), np.zeros(group.width, np.float32)
    shift[group.main], inverse[group.main] = group.fold.shift, 1 / group.fold.scale
    if np.any(shift):
        x = out.add("Sub", [x, out.constant("shift", shift, of)], f"{value}.centred")
    if np.any(inverse != 1):
        x = out.add("Mul", [x, out.constant("inverse_scale", inverse, of)], f"{value}.smoothed")
    return out.rows8(x, group.width, value)


def _token_tables(nodes: Sequence[NodeProto], tensors: Tensors) -> dict[str, str]:
    """Node name -> table, of each look-up of token ids in a large float32 table that nothing else reads."""
    ids = {"input_ids"}
    found: dict[str, str] = {}
    for node in nodes:
        if node.op_type in _SAME_IDS and node.input[0] in ids:
            ids.add(node.output[0])
        by_row = node.op_type == "Gather" and not _attributes(node).get("axis", 0)
        if by_row and node.input[1] in ids and _is_large(node.input[0], tensors):
            found[node.name] = node.input[0]
    readers = Counter(name for node in nodes for name in node.input)
    return {name: table for name, table in found.items() if readers[table] == 1}


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


def _kernel(node: NodeProto) -> tuple[str, str, str]:
    bias = node.input[2] if len(node.input) > 2 else ""
    return node.input[1], bias, repr(sorted(_attributes(node).items()))


def _fits(node: NodeProto, tensors: Tensors) -> bool:
    """x @ a large constant float32 weight, and for Gemm, x not transposed and one bias for every row."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in tensors:
        return False
    if node.op_type == "Gemm" and not _fits_gemm(node, tensors):
        return False
    return _is_large(node.input[1], tensors)


def _is_large(name: str, tensors: Tensors) -> bool:
    """Whether it is a float32 matrix of `MIN_WEIGHTS` or more."""
    tensor = tensors.by_name.get(name)
    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
        return False
    return bool(tensor.dims[0] * tensor.dims[1] >= MIN_WEIGHTS)


def _fits_gemm(node: NodeProto, tensors: Tensors) -> bool:
    if _attributes(node).get("transA", 0):
        return False
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = tensors.by_name.get(node.input[2])
    return bias is not None and (len(bias.dims) < 2 or (len(bias.dims) == 2 and bias.dims[0] == 1))
