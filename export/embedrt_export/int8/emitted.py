"""The int8 graph of an encoder that is emitted from its spec: what the numbers of its file mean.

`embedrt.encoder` has the walk and the names; only what differs from there is said here. T: tokens, L: layers.{weights}
of a block. Values have folds: a product reads z, where x = z * scale + shift per channel is what the spec says. Folds
lie in what makes a value and in what reads it, so that nothing of them is computed but `restore`::

    product(name, q, r, zero) = r * ((q - zero) @ {name}.weight * {name}.scale) + {name}.bias
                                weight int8 (K, N), scale and bias float32 (N,), q u8 (T, K), r float32 (T, 1)
    rows8(x)                    r = max(max|x|, 1e-30) / 127 per row           q = rint(x / r) + 128, saturating u8
    rows8_activation(g)         r = max(max g, 0.17 (255 - z) / z) / (255 - z) q = rint(g / r) + z, saturating u8
                                z: the recipe's `activation_zero`

    norm(x, name)   {name}.gamma and .beta give the folded value; RMS norms have a .beta here too, after gamma

    attention(z):   q, r = rows8(z)
                    Q, K, V = product(L.query, q, r, 128), and so L.key, L.value
                    q, r = rows8(z - r * (q - 128)), of each text's first token only    where the recipe has
                    V = V + r * ((q - 128) @ L.value.weight * L.value.scale), of these  `first_value_twice`, V not wide
                    head norms, rotation, scores, softmax as in the spec; a = probabilities @ V, float32, folded
                    q, r = rows8(a)
                    y = product(L.attention_output, q, r, 128)
    ffn(z):         q, r = rows8(z)
                    g = activation(product(L.ffn_up, q, r, 128))                                (T, F - c)
                    o = activation(product(L.ffn_up_outlier, q, r, 128))                        (T, c)
           gated:   g = activation(product(L.ffn_gate, q, r, 128)) * product(L.ffn_up, q, r, 128)
                    o = activation(product(L.ffn_gate_outlier, ...)) * product(L.ffn_up_outlier, ...)
                    q, r = rows8(g), zero = 128      where gated, and where the activation is silu
                    q, r = rows8_activation(g), zero = z      otherwise: these are over -0.17
                    y = product(L.ffn_down, q, r, zero) + o @ L.ffn_down_outlier.weight         outliers float32 (c, H)

    x + y           is y + x * {made_by}.restore where the file has that tensor (H,), made_by the norm (or
                    embeddings.projection) that made x; its shift is in the bias of attention_output or ffn_down.
                    x is folded there because attention or the FFN reads it too: in post-norm blocks, and where
                    attention reads what is not normed. The sum itself is never folded.

A product that is kept wide has a float32 `.weight`, no `.scale`, and takes z (a, g) itself: y = z @ weight + bias.
query, key and value are wide together, and so are ffn_up, ffn_gate and their outliers. Each product has a `.bias`.
Without outliers (c = 0) their tensors are not there. Neurons are in the order of the checkpoint, without the
c outlying ones. `embeddings.projection` is float32, folded in its columns.

The norm that makes the encoder's output, which is the spec's final norm or the last block's second one, is not folded
and takes the output's correction: an RMS norm has a .beta there. Where the last block's weights are other blocks' too,
its second norm has the name `output_norm`.

`embeddings.word` is int8 (V, E) with `embeddings.word.scale` (V, 1), or float32 without a scale. Where there is an
`embeddings.word_rest` int8 (R, E) with `.scale` (R, 1), row `embeddings.word_rest.row`[id, 0] of it, int32 (V, 1), is
what the first row leaves of the token's, and is added: row 0 is zero, and most tokens have that one. The other tables,
`attention.distance_bias`, `attention.slopes` and `rotary.*.frequencies` are float32, as in the spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from embedrt.encoder import Attention, Block, EncoderSpec, FeedForward
from embedrt_export import roles
from embedrt_export.int8.calibration import InputStats
from embedrt_export.int8.linear import CENTRE, Fold, Linear, choose_fold, local_error, make_linear
from embedrt_export.int8.recipe import Int8Recipe
from embedrt_export.int8.smoothing import neuron_importance, stretching_channels

Array = NDArray[np.float32]

PRODUCTS = {"qkv": "query", "attention_output": "attention_output", "ffn_up": "ffn_up", "ffn_down": "ffn_down"}
"""What is kept wide together -> the first of its products."""
ABOVE = ("gelu", "gelu_tanh", "relu", "quick_gelu")
"""Activations that are over -0.17: their rows are `rows8_activation`'s."""
_IMPORTANCE = {"gelu": "none", "gelu_tanh": "tanh", "relu": None}  # `neuron_importance`'s name of them
_MAX_OUTLIERS = 4  # never more than every fourth neuron


@dataclass(frozen=True)
class Layer:
    """The products of one set of weights, folded."""

    input: Fold  # of what attention reads
    middle: Fold  # of what the FFN reads
    linears: dict[str, Linear]  # by role
    outlier: Array | None  # (c, H), rows of the last weight that stay float32
    zero: int  # of the rows that the last product reads
    errors: dict[str, float]  # product -> local relative error


def product_values(spec: EncoderSpec, model: onnx.ModelProto) -> dict[str, str]:
    """layers.{i}.{product} -> the value that it reads, for each block i."""
    nodes = {node.name: node for node in model.graph.node}
    blocks = range(len(spec.blocks))
    return {
        f"layers.{i}.{p}": nodes[f"layers.{i}.{first}.product"].input[0]
        for i in blocks
        for p, first in PRODUCTS.items()
    }


def spec_tensors(model: onnx.ModelProto) -> dict[str, Array]:
    """The spec's tensors in an emitted fp32 graph, without a copy."""
    tensors = roles.Tensors(model)
    return {
        name: tensors.array(name)
        for name, tensor in tensors.by_name.items()
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims)
    }


def makers(spec: EncoderSpec) -> dict[str, int]:
    """Norm (or embeddings.projection) -> the weights of the blocks whose attention reads what it makes.

    Without those that nothing can be folded into: sums, and what blocks of several weights read.
    """
    pairs = [(_maker(spec, index), block.weights) for index, block in enumerate(spec.blocks)]
    readers: dict[str, set[int]] = {}
    for maker, weights in pairs:
        readers.setdefault(maker, set()).add(weights)
    unfit = {weights for maker, weights in pairs if not maker or len(readers[maker]) > 1}
    return {maker: weights for maker, weights in pairs if weights not in unfit}


def _maker(spec: EncoderSpec, index: int) -> str:
    block = spec.blocks[index]
    if block.norms != "post" and block.attention_is_normed:
        return f"layers.{block.weights}.attention_norm"
    if block.norms == "sandwich":  # a norm stands between the product's bias, where the shift would be, and the sum
        return ""
    if index:
        before = spec.blocks[index - 1]
        return f"layers.{before.weights}.ffn_norm" if before.norms == "post" else ""
    if spec.embeddings.size != spec.hidden_size:
        return "embeddings.projection"
    return "embeddings.norm" if spec.embeddings.norm is not None else ""


def prepare(
    spec: EncoderSpec, weights: int, tensors: Mapping[str, Array], stats: Mapping[str, InputStats], recipe: Int8Recipe
) -> Layer:
    """Fold and quantize the products of layers.{weights}; `stats` by block and product."""
    blocks = [index for index, block in enumerate(spec.blocks) if block.weights == weights]
    seen = {p: InputStats.merged([stats[f"layers.{i}.{p}"] for i in blocks]) for p in PRODUCTS}
    block = spec.blocks[blocks[0]]
    source = _Weights(f"layers.{weights}", tensors)
    is_free = weights in makers(spec).values()
    attention, into, context = _attention(block, source, seen, recipe, is_free=is_free)
    ffn, middle, inner, main, outliers = _ffn(block, source, seen, recipe)
    zero = CENTRE if block.feed_forward.gated or block.feed_forward.activation not in ABOVE else recipe.activation_zero
    seen["ffn_down"] = seen["ffn_down"].channels(main)
    folds = {"qkv": into, "attention_output": context, "ffn_up": middle, "ffn_down": inner}
    linears = attention | ffn
    parts = {"qkv": ("query", "key", "value"), "ffn_up": ("ffn_up", "ffn_gate")}
    errors = {
        f"layers.{weights}.{p}": max(
            local_error(seen[p].sample, fold, linears[role], zero if p == "ffn_down" else CENTRE)
            for role in parts.get(p, (p,))
            if role in linears
        )
        for p, fold in folds.items()
    }
    down = source.weight("ffn_down")[outliers] if len(outliers) else None
    return Layer(into, middle, linears, down, zero, errors)


class _Weights:
    """Weights and biases of one layer, by role."""

    def __init__(self, layer: str, tensors: Mapping[str, Array]) -> None:
        self._layer, self._tensors = layer, tensors

    def weight(self, role: str) -> Array:
        return self._tensors[f"{self._layer}.{role}.weight"]

    def bias(self, role: str) -> Array:
        name = f"{self._layer}.{role}.bias"
        return self._tensors[name] if name in self._tensors else np.zeros(self.weight(role).shape[1], np.float32)


def _attention(
    block: Block, source: _Weights, seen: Mapping[str, InputStats], recipe: Int8Recipe, *, is_free: bool
) -> tuple[dict[str, Linear], Fold, Fold]:
    """The four products, and the folds of what they read and of the context; where not `is_free`, the first is none."""
    parts = ("query", "key", "value")
    weights = {part: source.weight(part) for part in parts}
    biases = {part: source.bias(part) for part in parts}
    width = len(weights["query"])
    into = choose_fold(seen["qkv"], list(weights.values()), recipe) if is_free else Fold.identity(width)
    output = source.weight("attention_output")
    heads = _heads_of_key(block.attention)
    read = InputStats.merged([seen["attention_output"].channels(group) for group in heads])
    context = choose_fold(read, [output[group] for group in heads], recipe)
    # probabilities sum to 1, so what is done to V's columns comes out of the attention unchanged
    weights["value"] = weights["value"] / context.scale
    biases["value"] = (biases["value"] - context.shift) / context.scale
    linears = {part: make_linear(weights[part], biases[part], into, seen["qkv"], recipe) for part in parts}
    channels = np.argsort(np.concatenate(heads), kind="stable")
    context = Fold(*(np.tile(part, len(heads))[channels] for part in (context.scale, context.shift)))
    bias = source.bias("attention_output")
    linears["attention_output"] = make_linear(output, bias, context, seen["attention_output"], recipe)
    return linears, into, context


def _heads_of_key(attention: Attention) -> list[NDArray[np.int64]]:
    """Channels of the context (kv_heads * head_size,): first those of each key head's first query head, and so on."""
    copies = attention.num_heads // attention.num_kv_heads
    every = np.arange(attention.num_heads * attention.head_size)
    grouped = every.reshape(attention.num_kv_heads, copies, attention.head_size)
    return [grouped[:, copy].reshape(-1) for copy in range(copies)]


def _ffn(
    block: Block, source: _Weights, seen: Mapping[str, InputStats], recipe: Int8Recipe
) -> tuple[dict[str, Linear], Fold, Fold, NDArray[np.int64], NDArray[np.int64]]:
    """The products, the folds of what the first and the last read, the neurons in int8, and the others."""
    forward, down = block.feed_forward, source.weight("ffn_down")
    firsts = ("ffn_up", "ffn_gate") if forward.gated else ("ffn_up",)
    weights = {part: source.weight(part) for part in firsts}
    biases = {part: source.bias(part) for part in firsts}
    importance = None
    if not forward.gated and forward.activation in _IMPORTANCE:
        inputs = seen["ffn_up"].sample @ weights["ffn_up"] + biases["ffn_up"]
        importance = neuron_importance(inputs, down, _IMPORTANCE[forward.activation])
    middle = choose_fold(seen["ffn_up"], list(weights.values()), recipe, importance)
    inner, main, outliers = _neurons(forward, seen["ffn_down"], down, recipe)
    linears: dict[str, Linear] = {}
    for part in firsts:
        scale = inner.scale if part == "ffn_up" else np.ones(len(main), np.float32)
        weight, bias = weights[part][:, main] / scale, biases[part][main] / scale
        linears[part] = make_linear(weight, bias, middle, seen["ffn_up"], recipe)
        if len(outliers):
            weight, bias = weights[part][:, outliers], biases[part][outliers]
            linears[f"{part}_outlier"] = make_linear(weight, bias, middle, seen["ffn_up"], recipe)
    read = seen["ffn_down"].channels(main)
    linears["ffn_down"] = make_linear(down[main], source.bias("ffn_down"), inner, read, recipe)
    return linears, middle, inner, main, outliers


def _neurons(
    forward: FeedForward, seen: InputStats, down: Array, recipe: Int8Recipe
) -> tuple[Fold, NDArray[np.int64], NDArray[np.int64]]:
    """The fold of the neurons in int8, these, and those that stay float32.

    A gated FFN's neurons are scaled in the columns of the factor that has no activation; others are as they are.
    """
    count = min(recipe.ffn_outliers, forward.size // _MAX_OUTLIERS)
    plain = replace(recipe, shift=False)
    rows = seen.sample
    if forward.gated:
        rows = rows / choose_fold(seen, [down], replace(plain, optimize=False)).scale
    outliers = stretching_channels(rows, count)
    main = np.setdiff1d(np.arange(forward.size), outliers)
    fold = choose_fold(seen.channels(main), [down[main]], plain) if forward.gated else Fold.identity(len(main))
    return fold, main, outliers
