"""The fp16 variant: half the download, for CPUs and for CUDA from one weights file.

`model.onnx` (CPU) holds the weights in half and casts them to float32, which ONNX Runtime folds at load:
x86 has no half GEMM there, and from an fp16 checkpoint the vectors are the float32 ones. A token table is cast after
the lookup, so that it stays half in memory.

`model_cuda.onnx` computes products, attention and activation functions in half; the residual stream, LayerNorm,
embeddings and everything else stay float32, casts stand where the two meet. A product stays float32 if its values on
calibration texts come within `HEADROOM` of half's largest number, or if its weight does not survive half. The mask is
given as lengths there, which CUDA's fast attention kernels need: padding must be on the right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from embedrt_export.cpu import for_cpu, rewritten
from embedrt_export.graph import EncoderGraph, set_opset
from embedrt_export.int8.calibration import Ids, InputStats, Observed, Wanted, observe
from embedrt_export.roles import Tensors

HALF_MAX = 65504.0
HEADROOM = 8.0  # calibration texts are few: others may reach further
MAX_RELATIVE_ERROR = 1e-3  # |half(w) - w| / |w|; plain rounding costs 3e-4, values lost to underflow more
_BLOCK = 1 << 16  # numbers that are looked at while they are in the cache

_HALF_OPERATORS = {"Attention": (0, 1, 2), "MatMul": (0, 1), "Gemm": (0, 1, 2), "BiasGelu": (0, 1), "FastGelu": (0, 1)}
"""Operator -> the inputs that are half when it is."""


def to_fp16(
    graph: EncoderGraph, calibration: Sequence[Ids] = (), observed: Observed | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto, dict[str, Any]]:
    """The CPU graph, the CUDA graph and the report; equal names in both mean equal tensors.

    `calibration` holds token ids, or pictures' patches; without any, no product is kept float32 for its range.
    `observed`: what `observe` showed of `wanted`, where that was done already.
    """
    stored, kept = _halve_weights(graph.model)
    if observed is None and calibration:
        observed = observe(graph.model, wanted(graph.model), calibration)
    endangered = set() if observed is None else _endangered(graph.model, observed)
    wide = endangered | {_user(graph.model, name) for name in kept}
    cpu = _cpu_graph(graph.model, stored)
    cuda = _cuda_graph(graph.model, stored, wide)
    half = sum(tensor.data_type == TensorProto.FLOAT16 for tensor in stored.values())
    report = {
        "weights_half": half,
        "weights_kept_float32": sorted(kept),
        "products_kept_float32_on_cuda": sorted(wide),
        "cuda_padding": "right",
        "on_cpu": rewritten(graph.model.graph.node),
    }
    return cpu, cuda, report


def in_half(array: NDArray[np.float32]) -> NDArray[np.float16] | None:
    """The weight in half, if it keeps its values there but for plain rounding."""
    flat = np.ascontiguousarray(array).reshape(-1)
    half = np.empty(flat.shape, np.float16)
    error = norm = 0.0
    for start in range(0, len(flat), _BLOCK):
        block, rounded = flat[start : start + _BLOCK], half[start : start + _BLOCK]
        if not np.abs(block).max() < HALF_MAX:
            return None
        rounded[:] = block
        rest = rounded - block  # float32
        error += float(np.dot(rest, rest))
        norm += float(np.dot(block, block))
    return half.reshape(array.shape) if error <= MAX_RELATIVE_ERROR**2 * norm else None


def _halve_weights(model: onnx.ModelProto) -> tuple[dict[str, TensorProto], list[str]]:
    """Every initializer as it is stored, and the names of the matrices that must stay float32.

    Vectors become half only if that changes nothing: they are small, and LayerNorm's gains matter.
    """
    tensors = Tensors(model)
    stored: dict[str, TensorProto] = {}
    kept: list[str] = []
    for name, tensor in tensors.by_name.items():
        stored[name] = tensor
        if tensor.data_type != TensorProto.FLOAT or not tensor.dims:
            continue
        array = tensors.array(name)
        if len(tensor.dims) < 2:
            if np.abs(array).max(initial=0) < HALF_MAX and np.array_equal(array.astype(np.float16), array):
                stored[name] = numpy_helper.from_array(array.astype(np.float16), name)
        elif (half := in_half(array)) is not None:
            stored[name] = numpy_helper.from_array(half, name)
        else:
            kept.append(name)
    return stored, kept


def _user(model: onnx.ModelProto, weight: str) -> str:
    return str(next(node.name for node in model.graph.node if weight in node.input))


def _cpu_graph(model: onnx.ModelProto, stored: dict[str, TensorProto]) -> onnx.ModelProto:
    half = {name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT16}
    casts: dict[str, NodeProto] = {}
    nodes: list[NodeProto] = []
    for node in for_cpu(model.graph.node):
        new = NodeProto()
        new.CopyFrom(node)
        if node.op_type == "Gather" and node.input[0] in half:  # the looked-up rows are cast, not the table
            new.name, new.output[0] = f"{node.name}.half", f"{node.output[0]}.half"
            nodes += [new, _cast(new.output[0], node.output[0], TensorProto.FLOAT)]
            continue
        for position, name in enumerate(node.input):
            if name in half:
                casts.setdefault(name, _cast(name, f"{name}.float32", TensorProto.FLOAT))
                new.input[position] = f"{name}.float32"
        nodes.append(new)
    return _assemble(model, [*casts.values(), *nodes], stored.values())


def _cuda_graph(model: onnx.ModelProto, stored: dict[str, TensorProto], wide: set[str]) -> onnx.ModelProto:
    rewriter = _HalfRewriter(model, stored, wide)
    for node in model.graph.node:
        rewriter.visit(node)
    return _assemble(model, rewriter.nodes, stored.values())


class _HalfRewriter:
    """Visits nodes in order and puts casts between half and float32 values; each value is cast once."""

    def __init__(self, model: onnx.ModelProto, stored: dict[str, TensorProto], wide: set[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.stored, self.wide = stored, wide
        self.is_half = {name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT16}
        self.is_float = {name for name, tensor in stored.items() if tensor.data_type == TensorProto.FLOAT}
        self.float_outputs = {output.name for output in model.graph.output}
        self._done: dict[tuple[str, int], str] = {}

    def visit(self, node: NodeProto) -> None:
        """Add the node with its casts."""
        new = NodeProto()
        new.CopyFrom(node)
        if node.op_type == "Gather" and node.input[0] in self.is_half:
            self.nodes.append(new)
            self.is_half.add(node.output[0])
            return
        half = self._computes_half(node)
        positions = _HALF_OPERATORS[node.op_type] if half else range(len(node.input))
        for position in positions:
            if position < len(node.input):
                new.input[position] = self._as(node.input[position], half)
        if node.op_type == "Attention":
            new.input[3] = self._lengths(node.input[3])
        self.nodes.append(new)
        if half:
            self.is_half.update(node.output)
            for position, name in enumerate(node.output):
                if name in self.float_outputs:
                    new.output[position] = f"{name}.half"
                    self.nodes.append(_cast(f"{name}.half", name, TensorProto.FLOAT))

    def _computes_half(self, node: NodeProto) -> bool:
        if node.op_type not in _HALF_OPERATORS or node.name in self.wide:
            return False
        if node.op_type in ("BiasGelu", "FastGelu"):
            return node.input[0] in self.is_half  # stays with the product before it
        return len(node.input) > 1 and node.input[1] in self.is_half and node.input[1] in self.stored

    def _as(self, name: str, half: bool) -> str:
        """The value as half, or as float32 if it is half."""
        if (name in self.is_half) == half or (not half and name not in self.is_half):
            return name
        wanted = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        key = (name, wanted)
        if key not in self._done:
            self._done[key] = f"{name}.{'half' if half else 'float32'}"
            self.nodes.append(_cast(name, self._done[key], wanted))
        return self._done[key]

    def _lengths(self, mask: str) -> str:
        if (mask, 0) not in self._done:
            self._done[mask, 0] = f"{mask}.lengths"
            axes = "const.mask_axis"
            self.stored[axes] = numpy_helper.from_array(np.array([1]), axes)
            self.nodes.append(
                helper.make_node("ReduceSum", [mask, axes], [f"{mask}.lengths"], f"{mask}.lengths", keepdims=0)
            )
        return self._done[mask, 0]


def wanted(model: onnx.ModelProto) -> Wanted:
    """What `to_fp16` needs to know of the calibration texts."""
    products = _products(model)
    return Wanted(dict.fromkeys((node.input[0] for node in products), False), {node.output[0] for node in products})


def _products(model: onnx.ModelProto) -> list[NodeProto]:
    tensors = Tensors(model)
    return [n for n in model.graph.node if n.op_type in ("Attention", "MatMul", "Gemm") and n.input[1] in tensors]


def _endangered(model: onnx.ModelProto, observed: Observed) -> set[str]:
    """Products whose input or output comes within `HEADROOM` of half's range on the calibration texts."""
    tensors = Tensors(model)
    found = set()
    for node in _products(model):
        seen = [stats[node.input[0]] for stats in (observed.fitted, observed.held_out) if stats]
        peak = max([observed.peaks[node.output[0]], *map(_peak, seen)])
        if node.op_type == "Attention":  # queries, keys and values are inside the operator
            for stats in seen:
                inner = stats.sample @ tensors.array(node.input[1]) + tensors.array(node.input[2])
                peak = max(peak, float(np.abs(inner).max()))
        if peak > _LIMIT:
            found.add(node.name)
    return found


_LIMIT = HALF_MAX / HEADROOM


def _peak(stats: InputStats) -> float:
    return float(max(np.abs(stats.low).max(), np.abs(stats.high).max()))


def _cast(value: str, output: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [value], [output], output, to=to)


def _assemble(source: onnx.ModelProto, nodes: list[NodeProto], tensors: Iterable[TensorProto]) -> onnx.ModelProto:
    model = onnx.ModelProto()  # filled in place: what onnx's helpers take they copy, weights and all
    model.graph.name = "encoder"
    model.graph.node.extend(nodes)
    model.graph.input.extend(source.graph.input)
    model.graph.output.extend(source.graph.output)
    used = {name for node in nodes for name in node.input}
    model.graph.initializer.extend(tensor for tensor in tensors if tensor.name in used)
    set_opset(model)
    return model
