"""The int8 encoder in numpy, as `embedrt_export.int8.fused` says it: float64 but for what is rounded to 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Architecture, Bundle

Floats = NDArray[np.floating[Any]]

ROBERTA = ("roberta", "xlm-roberta", "camembert")


def erf(x: Floats) -> Floats:
    """Exact to float64's last digits."""
    flat = np.asarray(x, np.float64).reshape(-1)
    return np.fromiter(map(math.erf, flat), np.float64, flat.size).reshape(np.shape(x))


def gelu_erf(x: Floats) -> Floats:
    """The exact gelu."""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_tanh(x: Floats) -> Floats:
    """The tanh formula."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def relu(x: Floats) -> Floats:
    """max(x, 0)."""
    return np.maximum(x, 0)


ACTIVATIONS = {"gelu": gelu_erf, "gelu_new": gelu_tanh, "relu": relu}


def quantize(x: Floats, zero: int) -> tuple[NDArray[np.int64], Floats]:
    """Rows without their zero point, and scales (T, 1)."""
    x = np.asarray(x, np.float32)
    least = np.float32(1e-30) if zero == 128 else np.float32(0.17) / np.float32(zero) * np.float32(255 - zero)
    largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), least)
    scale = largest * np.float32(1 / (255 - zero))
    return np.clip(np.rint(x / scale), -zero, 255 - zero).astype(np.int64), scale.astype(np.float64)


def left_of(x: Floats) -> Floats:
    """What rows around 128 leave of x."""
    rows, scale = quantize(x, 128)
    return np.asarray(x, np.float32) - rows * scale


def product(x: Floats, zero: int, weight: NDArray[Any], scale: Floats | None) -> Floats:
    """rows(x) @ weight, or x @ weight where it is wide; no bias."""
    if scale is None:
        return np.asarray(x, np.float64) @ np.asarray(weight, np.float64)
    rows, row_scale = quantize(x, zero)
    whole = rows.astype(np.float64) @ weight.astype(np.float64)  # exact: far under 2^53
    return row_scale * (whole * scale.astype(np.float64))


def layer_norm(x: Floats, gamma: Floats, beta: Floats, epsilon: float) -> Floats:
    """Over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def bfloat16(x: Floats) -> Floats:
    """Rounded to 8 significant bits, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


def attention(q: Floats, k: Floats, v: Floats, narrow: bool = False) -> Floats:
    """softmax(q k^T / sqrt(d)) v of one head; `narrow`: Q (scaled), K, V and the weights in bfloat16."""
    q = q * (np.log2(np.e) / np.sqrt(q.shape[1]))
    if narrow:
        q, k, v = bfloat16(q), bfloat16(k), bfloat16(v)
    scores = q @ k.T
    weights = np.exp2(scores - scores.max(axis=1, keepdims=True))
    rounded = bfloat16(weights) if narrow else weights
    return rounded / weights.sum(axis=1, keepdims=True) @ v


def read_tensors(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The int8 variant's tensors."""
    out = {}
    for entry in bundle.variant("int8").tensors:
        raw = np.fromfile(bundle.path(entry.path), np.uint8, entry.size, offset=entry.offset)
        out[entry.name] = raw.view(entry.dtype).reshape(entry.shape)
    return out


def encode(
    numbers: Architecture,
    tensors: Mapping[str, NDArray[Any]],
    ids: NDArray[np.int32],
    narrow: bool = False,
    narrow_products: bool = False,
    first_value_twice: bool = True,
    activation_zero: int = 24,
) -> Floats:
    """Hidden states (n, H) of one text; `narrow`: attention in bfloat16, `narrow_products`: float32 products alike."""
    get = tensors.get

    def linear(name: str, x: Floats, zero: int = 128) -> Floats:
        weight, scale = tensors[f"{name}.weight"], get(f"{name}.scale")
        if scale is None and narrow_products:
            # the scale of Q is multiplied into its weight before that is rounded
            factor = np.log2(np.e) / np.sqrt(size) if name.endswith(".query") else 1.0
            return bfloat16(x) @ bfloat16(weight * factor) / factor
        return product(x, zero, weight, scale)

    def norm(name: str, x: Floats) -> Floats:
        return layer_norm(x, tensors[f"{name}.gamma"], tensors[f"{name}.beta"], numbers.layer_norm_eps)

    size = numbers.hidden_size // numbers.num_heads
    positions = np.arange(len(ids))
    if numbers.model_type in ROBERTA:
        real = ids != numbers.pad_token_id
        positions = np.cumsum(real) * real + numbers.pad_token_id
    x = tensors["embeddings.word"][ids].astype(np.float64)
    if "embeddings.word.scale" in tensors:
        x *= tensors["embeddings.word.scale"][ids]
    x = x + tensors["embeddings.position"][positions]
    if "embeddings.token_type" in tensors:
        x = x + tensors["embeddings.token_type"][0]
    x, made_by = norm("embeddings.norm", x), "embeddings.norm"
    activation = ACTIVATIONS[numbers.activation]
    for i in range(numbers.num_layers):
        name = f"layers.{i}"
        biases = np.split(tensors[f"{name}.qkv.bias"], 3)
        q, k, v = (linear(f"{name}.{part}", x) + b for part, b in zip(("query", "key", "value"), biases, strict=True))
        if first_value_twice and f"{name}.value.scale" in tensors:
            value = bfloat16(v[:1]) if narrow else v[:1]
            v[:1] = value + linear(f"{name}.value", left_of(x[:1]))
        heads = [slice(h, h + size) for h in range(0, numbers.hidden_size, size)]
        a = np.concatenate([attention(q[:, h], k[:, h], v[:, h], narrow) for h in heads], axis=1)
        y = linear(f"{name}.attention_output", a) + tensors[f"{name}.attention_output.bias"]
        x = norm(f"{name}.attention_norm", y + x * get(f"{made_by}.restore", np.float32(1)))
        g = activation(linear(f"{name}.ffn_up", x) + tensors[f"{name}.ffn_up.bias"])
        y = linear(f"{name}.ffn_down", g, activation_zero) + tensors[f"{name}.ffn_down.bias"]
        if f"{name}.ffn_up_outlier.weight" in tensors:
            few = activation(linear(f"{name}.ffn_up_outlier", x) + tensors[f"{name}.ffn_up_outlier.bias"])
            y = y + few @ tensors[f"{name}.ffn_down_outlier.weight"]
        x = norm(f"{name}.ffn_norm", y + x * get(f"{name}.attention_norm.restore", np.float32(1)))
        made_by = f"{name}.ffn_norm"
    return x
