"""The int8 graph of a fused encoder (BERT, RoBERTa, DistilBERT), built layer by layer.

What the numbers mean, in the names of `embedrt_export.roles` (i: layer, T: tokens, H: width, F: FFN width)::

    x = norm of the embeddings or of the layer before, folded, float32 (T, H)
    q, r = rows8(x)
    Q, K, V = r * ((q - 128) @ query.weight * query.scale), key, value alike    and a third of qkv.bias each; (T, H)
    q, r = rows8(x - r * (q - 128)), of each text's first token only           where the recipe has `first_value_twice`
    V = V + r * ((q - 128) @ value.weight * value.scale), of these             and V is not wide
    a = attention(Q, K, V)                                                     float32, V folded
    q, r = rows8(a)
    y = r * ((q - 128) @ attention_output.weight * .scale) + .bias + x * restore of the norm that made x
    x = layernorm(y, attention_norm.gamma, .beta)
    q, r = rows8(x)
    g = gelu(r * ((q - 128) @ ffn_up.weight * .scale) + .bias)                 (T, F - c)
    o = gelu(r * ((q - 128) @ ffn_up_outlier.weight * .scale) + .bias)         (T, c), the recipe's `ffn_outliers`
    q, r = rows8_activation(g)                                                 z: the recipe's `activation_zero`
    y = r * ((q - z) @ ffn_down.weight * .scale) + o @ ffn_down_outlier.weight + ffn_down.bias
        + x * attention_norm.restore                                           outlier weight float32
    x = layernorm(y, ffn_norm.gamma, .beta)

    rows8(x)             r = max(max|x|, 1e-30) / 127 per row              q = rint(x / r) + 128, saturating u8
    rows8_activation(g)  r = max(max g, 0.17 (255 - z) / z) / (255 - z)    q = rint(g / r) + z, saturating u8

A norm's gamma and beta in this file give the folded value (y - shift) / restore; the shift is in the biases of what
follows, restore (H,) brings the residual back. The last norm has no restore. Weights are int8 (K, N), scales float32
(N,). A product that is kept wide has a float32 `.weight` and no `.scale`, and takes x (or a, g) itself; for "qkv" these
are query, key and value. Neurons of the FFN are in the order of the checkpoint, without the c outlying ones.
`embeddings.word` is int8 (V, H) with `embeddings.word.scale` (V, 1), or float32 without a scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from embedrt_export import roles
from embedrt_export.graph import EncoderGraph
from embedrt_export.int8.builder import Builder
from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.linear import CENTRE, Fold, Linear, choose_fold, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.smoothing import neuron_importance, stretching_channels
from embedrt_export.int8.values import first_twice
from embedrt_export.nodes import MICROSOFT

Array = NDArray[np.float32]

ACTIVATIONS = {"BiasGelu": ("Gelu", "none"), "FastGelu": ("Gelu", "tanh"), "Add": ("Relu", None)}
"""Fused operator -> standard operator and its `approximate`. ONNX Runtime 1.32 runs Add and Gelu in half the time of
BiasGelu, and Add and LayerNormalization in a seventh of SkipLayerNormalization's."""
PRODUCTS = ("qkv", "attention_output", "ffn_up", "ffn_down")


@dataclass(frozen=True)
class Layer:
    """One layer's products with their folds; `output` is the fold of the value the layer gives."""

    input: Fold
    query: Linear
    key: Linear
    value: Linear
    context: Fold
    attention_output: Linear
    middle: Fold
    ffn_up: Linear
    ffn_up_outlier: Linear | None
    ffn_down: Linear
    outlier: Array | None  # (c, H), rows of the second FFN weight that stay float32
    output: Fold
    errors: dict[str, float]  # product -> local relative error


def product_values(model: onnx.ModelProto) -> dict[str, str]:
    """layers.{i}.{product} -> the value that it reads."""
    nodes = {node.name: node for node in model.graph.node}
    out: dict[str, str] = {}
    for index in range(num_layers(model)):
        for product in PRODUCTS:
            name = f"layers.{index}.{product}"
            out[name] = nodes[name.replace(".qkv", ".attention")].input[0]
    return out


def num_layers(model: onnx.ModelProto) -> int:
    """Layers of a fused graph."""
    return sum(node.op_type == "Attention" for node in model.graph.node)


def input_fold(graph: EncoderGraph, index: int, stats: Mapping[str, InputStats], recipe: Int8Recipe) -> Fold:
    """Of what layer `index` reads, which is what the layer before gives; of the last one's output there is none."""
    if index == num_layers(graph.model):
        return Fold.identity(len(stats[f"layers.{index - 1}.qkv"].low))
    name = f"layers.{index}.qkv"
    return choose_fold(stats[name], [roles.Tensors(graph.model).array(f"{name}.weight")], recipe)


def prepare(
    graph: EncoderGraph, index: int, folds: tuple[Fold, Fold], stats: Mapping[str, InputStats], recipe: Int8Recipe
) -> Layer:
    """Fold and quantize the products of layer `index`; the `folds` are of its input and output, `stats` by product."""
    array = roles.Tensors(graph.model).array
    name = f"layers.{index}"
    seen = {product: stats[f"{name}.{product}"] for product in PRODUCTS}
    weights = {p: array(f"{name}.{p}.weight") for p in PRODUCTS}
    biases = {p: array(f"{name}.{p}.bias") for p in PRODUCTS}

    def linear(product: str, weight: Array, bias: Array, fold: Fold) -> Linear:
        return make_linear(weight, bias, fold, seen[product], recipe)

    into, output = folds
    context = choose_fold(seen["attention_output"], [weights["attention_output"]], recipe)
    _operator, approximate = _activation(graph.model, name)
    inputs = seen["ffn_up"].sample @ weights["ffn_up"] + biases["ffn_up"]
    importance = neuron_importance(inputs, weights["ffn_down"], approximate)
    middle = choose_fold(seen["ffn_up"], [weights["ffn_up"]], recipe, importance)
    wq, wk, wv = (np.ascontiguousarray(part) for part in np.split(weights["qkv"], 3, axis=1))
    bq, bk, bv = np.split(biases["qkv"], 3)
    # probabilities sum to 1, so what is done to V's columns comes out of the attention unchanged
    wv, bv = wv / context.scale, (bv - context.shift) / context.scale
    query, key, value = (linear("qkv", w, b, into) for w, b in ((wq, bq), (wk, bk), (wv, bv)))
    out = linear("attention_output", weights["attention_output"], biases["attention_output"], context)
    wide = stretching_channels(seen["ffn_down"].sample, recipe.ffn_outliers)
    main = np.setdiff1d(np.arange(len(biases["ffn_up"])), wide)
    up = linear("ffn_up", weights["ffn_up"][:, main], biases["ffn_up"][main], middle)
    up_wide = linear("ffn_up", weights["ffn_up"][:, wide], biases["ffn_up"][wide], middle) if len(wide) else None
    seen["ffn_down"] = seen["ffn_down"].channels(main)
    activated = Fold.identity(len(main))
    down = linear("ffn_down", weights["ffn_down"][main], biases["ffn_down"], activated)
    outlier = weights["ffn_down"][wide] if len(wide) else None
    read = {"qkv": into, "attention_output": context, "ffn_up": middle, "ffn_down": activated}
    products = {"qkv": (query, key, value), "attention_output": (out,), "ffn_up": (up,), "ffn_down": (down,)}
    errors = {
        f"{name}.{p}": max(
            local_error(seen[p].sample, read[p], one, recipe.activation_zero if p == "ffn_down" else CENTRE)
            for one in products[p]
        )
        for p in PRODUCTS
    }
    return Layer(into, query, key, value, context, out, middle, up, up_wide, down, outlier, output, errors)


def emit(
    graph: EncoderGraph, layers: list[Layer], recipe: Int8Recipe, wide: frozenset[str] = frozenset()
) -> onnx.ModelProto:
    """The int8 graph; products in `wide` stay float32."""
    out = Builder(graph.model)
    _emit_embeddings(out, graph.model, layers[0].input, recipe)
    x, before, norm = "embeddings.norm.output", layers[0].input, "embeddings.norm"
    for index, layer in enumerate(layers):
        name = f"layers.{index}"
        y = _emit_attention(out, name, layer, x, recipe, wide)
        x = _emit_norm(out, f"{name}.attention_norm", y, (x, before, norm), layer.middle)
        y = _emit_ffn(out, name, layer, x, recipe.activation_zero, wide)
        x = _emit_norm(out, f"{name}.ffn_norm", y, (x, layer.middle, f"{name}.attention_norm"), layer.output)
        before, norm = layer.output, f"{name}.ffn_norm"
    out.add("Reshape", [x, "states.shape"], graph.model.graph.output[0].name)
    return out.finish()


def _emit_embeddings(out: Builder, model: onnx.ModelProto, fold: Fold, recipe: Int8Recipe) -> None:
    """Everything before the layers as it is, but for the token table and the folded norm."""
    norm = next(node for node in model.graph.node if node.name == "embeddings.norm")
    attention = next(node for node in model.graph.node if node.name == "layers.0.attention")
    for node in ancestors(model, [norm.input[0], attention.input[3]]):
        if node.name == "embeddings.word" and recipe.embeddings_int8:
            out.look_up8(node.name, node.input[1], node.name, node.output[0])
        else:
            out.copy(node)
    width = len(fold.scale)
    out.add("Shape", ["input_ids"], "states.batch")
    out.add("Concat", ["states.batch", out.tensor("const.width", np.array([width]))], "states.shape", axis=0)
    flat = out.tensor("const.flat", np.array([-1, width]))
    out.add("Reshape", [norm.input[0], flat], "embeddings.sum")
    _layer_norm(out, "embeddings.norm", "embeddings.sum", fold, norm)


def _emit_attention(out: Builder, name: str, layer: Layer, x: str, recipe: Int8Recipe, wide: frozenset[str]) -> str:
    """The attention's output product, with its bias and the residual's shift: (T, H)."""
    node = next(node for node in out.source.model.graph.node if node.name == f"{name}.attention")
    parts = {"query": layer.query, "key": layer.key, "value": layer.value}
    is_wide = f"{name}.qkv" in wide
    rows = None if is_wide else out.rows8(x, len(layer.input.scale), f"{name}.qkv")
    heads: list[str] = []
    for part, linear in parts.items():
        if part == "value" and rows is not None and recipe.first_value_twice:
            heads.append(first_twice(out, f"{name}.value", x, rows, layer.value.quantized, "states.shape"))
            continue
        flat = _emit_product(out, f"{name}.{part}", linear, x, rows, CENTRE)
        heads.append(out.add("Reshape", [flat, "states.shape"], f"{name}.{part}.states"))
    bias = np.concatenate([_bias(one, is_wide) for one in parts.values()])
    attributes = {a.name: a.i if a.name == "num_heads" else a.f for a in node.attribute
                  if a.name in ("num_heads", "mask_filter_value")}  # fmt: skip
    inputs = [*heads, out.tensor(f"{name}.qkv.bias", bias), node.input[3]]
    out.add("MultiHeadAttention", inputs, f"{name}.attention.states", MICROSOFT, **attributes)
    context = out.add("Reshape", [f"{name}.attention.states", "const.flat"], f"{name}.attention.output")
    product = f"{name}.attention_output"
    rows = None if product in wide else out.rows8(context, len(layer.context.scale), product)
    y = _emit_product(out, product, layer.attention_output, context, rows, CENTRE)
    bias = _bias(layer.attention_output, product in wide) + layer.input.shift
    return out.add("Add", [y, out.tensor(f"{product}.bias", bias)], f"{product}.biased")


def _emit_ffn(out: Builder, name: str, layer: Layer, x: str, zero: int, wide: frozenset[str]) -> str:
    """Both products of the FFN, with the biases and the residual's shift: (T, H)."""
    operator, approximate = _activation(out.source.model, name)
    is_wide = f"{name}.ffn_up" in wide
    rows = None if is_wide else out.rows8(x, len(layer.middle.scale), f"{name}.ffn_up")

    def activated(product: str, linear: Linear) -> str:
        u = _emit_product(out, f"{name}.{product}", linear, x, rows, CENTRE)
        bias = out.tensor(f"{name}.{product}.bias", _bias(linear, is_wide))
        u = out.add("Add", [u, bias], f"{name}.{product}.biased")
        attributes = {"approximate": approximate} if approximate else {}
        return out.add(operator, [u], f"{name}.{product}.activated", **attributes)

    g = activated("ffn_up", layer.ffn_up)
    rows_down = None
    if f"{name}.ffn_down" not in wide:
        rows_down = out.rows8_activation(g, len(layer.ffn_down.weight), f"{name}.ffn_down", zero)
    y = _emit_product(out, f"{name}.ffn_down", layer.ffn_down, g, rows_down, zero)
    bias = _bias(layer.ffn_down, rows_down is None) + layer.middle.shift
    rest = out.tensor(f"{name}.ffn_down.bias", bias)
    if layer.ffn_up_outlier is not None and layer.outlier is not None:
        few = activated("ffn_up_outlier", layer.ffn_up_outlier)
        weight = out.tensor(f"{name}.ffn_down_outlier.weight", layer.outlier)
        rest = out.add("Gemm", [few, weight, rest], f"{name}.ffn_down_outlier.output")
    return out.add("Add", [y, rest], f"{name}.ffn_down.biased")


def _activation(model: onnx.ModelProto, name: str) -> tuple[str, str | None]:
    """The standard operator of layer `name`'s activation, and its `approximate`."""
    return ACTIVATIONS[next(node.op_type for node in model.graph.node if node.name == f"{name}.activation")]


def _bias(linear: Linear, is_wide: bool) -> Array:
    return linear.float_bias if is_wide else linear.bias


def _emit_product(out: Builder, name: str, linear: Linear, x: str, rows: tuple[str, str] | None, zero: int) -> str:
    if rows is None:
        return out.add("MatMul", [x, out.tensor(f"{name}.weight", linear.weight)], f"{name}.output")
    return out.product(*rows, linear.quantized, zero, name)


def _emit_norm(out: Builder, norm: str, y: str, residual: tuple[str, Fold, str], fold: Fold) -> str:
    """layernorm(y + residual), folded; the residual is (value, its fold, the norm that made it)."""
    x, before, made_by = residual
    if np.any(before.scale != 1):
        x = out.add("Mul", [x, out.tensor(f"{made_by}.restore", before.scale)], f"{norm}.residual")
    y = out.add("Add", [y, x], f"{norm}.input")
    node = next(node for node in out.source.model.graph.node if node.name == norm)
    return _layer_norm(out, norm, y, fold, node)


def _layer_norm(out: Builder, name: str, value: str, fold: Fold, source: onnx.NodeProto) -> str:
    gamma = out.source.array(f"{name}.gamma") / fold.scale
    beta = (out.source.array(f"{name}.beta") - fold.shift) / fold.scale
    epsilon = next(a.f for a in source.attribute if a.name == "epsilon")
    inputs = [value, out.tensor(f"{name}.gamma", gamma), out.tensor(f"{name}.beta", beta)]
    return out.add("LayerNormalization", inputs, f"{name}.output", epsilon=epsilon, axis=-1)


def ancestors(model: onnx.ModelProto, values: list[str]) -> list[onnx.NodeProto]:
    """The nodes that compute `values`, in the graph's order."""
    producer = {output: node for node in model.graph.node for output in node.output}
    needed: set[str] = set()
    stack = list(values)
    while stack:
        name = stack.pop()
        if name in producer and name not in needed:
            needed.update(producer[name].output)
            stack.extend(producer[name].input)
    return [node for node in model.graph.node if needed.intersection(node.output)]
