"""An `EncoderSpec` run in numpy, one text at a time, as its module says it: the reference of every executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, Embeddings, EncoderSpec, FeedForward, Norm
from tests.native.twin import gelu_erf, gelu_tanh, relu

Floats = NDArray[np.floating[Any]]
Tensors = Mapping[str, NDArray[Any]]


def silu(x: Floats) -> Floats:
    """x times its logistic function."""
    return x / (1 + np.exp(-x))


def quick_gelu(x: Floats) -> Floats:
    """CLIP's approximation of gelu."""
    return x / (1 + np.exp(-1.702 * x))


ACTIVATIONS = {"gelu": gelu_erf, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu, "quick_gelu": quick_gelu}


def run(
    spec: EncoderSpec, tensors: Tensors, ids: Sequence[int], dtype: Any = np.float64, second: int | None = None
) -> Floats:
    """Hidden states (T, H) of one text, computed in `dtype`; token ids as the tokenizer gives them, without padding.

    Tokens from `second` on have type 1.
    """
    wide = {name: np.asarray(tensor, dtype) for name, tensor in tensors.items()}
    return run_blocks(spec, wide, embed(spec.embeddings, wide, np.asarray(ids), second))


def run_picture(spec: EncoderSpec, tensors: Tensors, pixels: NDArray[Any], dtype: Any = np.float64) -> Floats:
    """Hidden states (T, H) of one picture's patches (count, size)."""
    assert spec.patches is not None
    wide = {name: np.asarray(tensor, dtype) for name, tensor in tensors.items()}
    first = np.zeros((int(spec.patches.has_first_row), spec.patches.size))
    rows = np.concatenate([first, np.asarray(pixels, dtype)])
    x = rows @ wide["embeddings.patch.weight"] + wide["embeddings.position"]
    if spec.embeddings.norm:
        x = norm(spec.embeddings.norm, wide, "embeddings.norm", x)
    return run_blocks(spec, wide, x)


def run_blocks(spec: EncoderSpec, wide: Tensors, x: Floats) -> Floats:
    """What the embeddings become."""
    for block in spec.blocks:
        x = run_block(block, wide, x)
    return norm(spec.final_norm, wide, "final_norm", x) if spec.final_norm else x


def embed(spec: Embeddings, tensors: Tensors, ids: NDArray[Any], second: int | None = None) -> Floats:
    """What goes into the first block, (T, H)."""
    x = spec.scale * tensors["embeddings.word"][ids]
    if spec.num_positions:
        x = x + tensors["embeddings.position"][positions(spec.pad_position, ids)]
    if spec.has_token_types:
        types = np.arange(len(ids)) >= (len(ids) if second is None else second)
        x = x + tensors["embeddings.token_type"][types.astype(int)]
    if spec.norm:
        x = norm(spec.norm, tensors, "embeddings.norm", x)
    if "embeddings.projection.weight" in tensors:
        x = linear(tensors, "embeddings.projection", x)
    return x


def positions(pad: int | None, ids: NDArray[Any]) -> NDArray[Any]:
    """Rows of the position table (T,)."""
    if pad is None:
        return np.arange(len(ids))
    real = ids != pad
    return np.cumsum(real) * real + pad


def run_block(block: Block, tensors: Tensors, x: Floats) -> Floats:
    """One layer, (T, H) to (T, H)."""
    name = f"layers.{block.weights}"

    def normed(which: str, x: Floats) -> Floats:
        return norm(block.norm, tensors, f"{name}.{which}", x)

    if block.norms == "post":
        x = normed("attention_norm", x + attend(block.attention, tensors, name, x))
        return normed("ffn_norm", x + feed(block.feed_forward, tensors, name, x))
    into = normed("attention_norm", x) if block.attention_is_normed else x
    y = attend(block.attention, tensors, name, into)
    x = x + (normed("attention_after_norm", y) if block.norms == "sandwich" else y)
    y = feed(block.feed_forward, tensors, name, normed("ffn_norm", x))
    return x + (normed("ffn_after_norm", y) if block.norms == "sandwich" else y)


def attend(spec: Attention, tensors: Tensors, name: str, x: Floats) -> Floats:
    """Attention with its products on either side, (T, H) to (T, H)."""
    q, k, v = (
        linear(tensors, f"{name}.{part}", x).reshape(len(x), heads, spec.head_size).swapaxes(0, 1)
        for part, heads in (("query", spec.num_heads), ("key", spec.num_kv_heads), ("value", spec.num_kv_heads))
    )  # (heads, T, head_size)
    if spec.head_norm:
        q, k = (norm(spec.head_norm, tensors, f"{name}.{part}_norm", y) for part, y in (("query", q), ("key", k)))
    if spec.rotary is not None:
        frequencies = tensors[f"rotary.{spec.rotary}.frequencies"]
        q, k = (rotate(y, frequencies, spec.rotary_interleaved) for y in (q, k))
    group = spec.num_heads // spec.num_kv_heads
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = spec.scale * q @ k.swapaxes(1, 2) + distance_bias(spec, tensors, len(x))  # (heads, T, T)
    scores = np.where(visible(spec, len(x)), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    context = weights / weights.sum(axis=-1, keepdims=True) @ v
    return linear(tensors, f"{name}.attention_output", context.swapaxes(0, 1).reshape(len(x), -1))


def distances(length: int) -> NDArray[Any]:
    """Key minus query, (T, T) with queries in rows."""
    return np.arange(length)[None, :] - np.arange(length)[:, None]


def distance_bias(spec: Attention, tensors: Tensors, length: int) -> Floats:
    """What is added to the scores, (heads, T, T) or broadcast to it."""
    if spec.distance_bias == "table":
        table = tensors["attention.distance_bias"]
        largest = table.shape[1] // 2
        return table[:, np.clip(distances(length), -largest, largest) + largest]
    if spec.distance_bias == "slopes":
        return -tensors["attention.slopes"][:, None, None] * np.abs(distances(length))
    return np.zeros((1, 1, 1))


def visible(spec: Attention, length: int) -> NDArray[Any]:
    """Which keys a query sees, (T, T)."""
    seen = np.ones((length, length), bool)
    if spec.causal:
        seen &= distances(length) <= 0
    if spec.window is not None:
        seen &= np.abs(distances(length)) <= spec.window
    return seen


def rotate(x: Floats, frequencies: Floats, interleaved: bool) -> Floats:
    """Rotary positions (Su et al., 2021, arXiv:2104.09864) for (heads, T, head_size)."""
    size = len(frequencies)
    angles = np.arange(x.shape[1])[:, None] * frequencies  # (T, F)
    one, two = (slice(0, 2 * size, 2), slice(1, 2 * size, 2)) if interleaved else (slice(size), slice(size, 2 * size))
    out = x.copy()
    out[..., one] = x[..., one] * np.cos(angles) - x[..., two] * np.sin(angles)
    out[..., two] = x[..., two] * np.cos(angles) + x[..., one] * np.sin(angles)
    return out


def feed(spec: FeedForward, tensors: Tensors, name: str, x: Floats) -> Floats:
    """The products after attention, (T, H) to (T, H)."""
    activation, up = ACTIVATIONS[spec.activation], linear(tensors, f"{name}.ffn_up", x)
    inner = activation(linear(tensors, f"{name}.ffn_gate", x)) * up if spec.gated else activation(up)
    return linear(tensors, f"{name}.ffn_down", inner)


def linear(tensors: Tensors, name: str, x: Floats) -> Floats:
    """x @ weight + bias; a bias that is not there is zero."""
    y = x @ tensors[f"{name}.weight"]
    return y + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else y


def norm(spec: Norm, tensors: Tensors, name: str, x: Floats) -> Floats:
    """Over the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True) if spec.kind == "layer" else x
    y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + spec.epsilon) * tensors[f"{name}.gamma"]
    return y + tensors[f"{name}.beta"] if f"{name}.beta" in tensors else y
