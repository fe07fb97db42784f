"""The kernels in numpy: float64 but for what is rounded to 8 bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle

Floats = NDArray[np.floating[Any]]


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


def silu(x: Floats) -> Floats:
    """x times its logistic function."""
    return x * np.exp(-np.logaddexp(0, -x))


def quick_gelu(x: Floats) -> Floats:
    """CLIP's approximation of gelu."""
    return x * np.exp(-np.logaddexp(0, -1.702 * x))


ACTIVATIONS = {"gelu": gelu_erf, "gelu_tanh": gelu_tanh, "relu": relu, "silu": silu, "quick_gelu": quick_gelu}


def quantize(x: Floats, zero: int) -> tuple[NDArray[np.int64], Floats]:
    """Rows without their zero point, and scales (T, 1)."""
    x = np.asarray(x, np.float32)
    least = np.float32(1e-30) if zero == 128 else np.float32(0.17) / np.float32(zero) * np.float32(255 - zero)
    largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), least)
    scale = largest * np.float32(1 / (255 - zero))
    return np.clip(np.rint(x / scale), -zero, 255 - zero).astype(np.int64), scale.astype(np.float64)


def remainder_of(x: Floats) -> Floats:
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


def rms_norm(x: Floats, gamma: Floats, beta: Floats, epsilon: float) -> Floats:
    """Over the last axis."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon) * gamma + beta


def bfloat16(x: Floats) -> Floats:
    """Rounded to 8 significant bits, ties to even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


def attention(
    q: Floats,
    k: Floats,
    v: Floats,
    narrow: bool = False,
    *,
    factor: float | None = None,
    bias: Floats | None = None,
    seen: NDArray[np.bool_] | None = None,
) -> Floats:
    """softmax(q k^T / sqrt(d) + bias) v of one head, over the keys that are seen (n, n).

    Args:
        narrow: Q (scaled), K, V and the weights in bfloat16.
        factor: what Q is multiplied with, where that is not log2(e) / sqrt(d): scores are powers of two.
    """
    q = q * (np.log2(np.e) / np.sqrt(q.shape[1]) if factor is None else factor)
    if narrow:
        q, k, v = bfloat16(q), bfloat16(k), bfloat16(v)
    scores = q @ k.T
    if bias is not None:
        scores = scores + np.log2(np.e) * bias
    if seen is not None:
        scores = np.where(seen, scores, -np.inf)
    weights = np.exp2(scores - scores.max(axis=1, keepdims=True))
    rounded = bfloat16(weights) if narrow else weights
    return rounded / weights.sum(axis=1, keepdims=True) @ v


def rotate(x: Floats, turn: Floats, *, interleaved: bool) -> Floats:
    """Rows (T, d) turned by their cosines and sines (T, 2, F)."""
    pairs = turn.shape[2]
    one, two = (
        (slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)) if interleaved else (slice(pairs), slice(pairs, 2 * pairs))
    )
    out = np.array(x, np.float64)
    out[:, one] = x[:, one] * turn[:, 0] - x[:, two] * turn[:, 1]
    out[:, two] = x[:, two] * turn[:, 0] + x[:, one] * turn[:, 1]
    return out


def read_tensors(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The int8 variant's tensors."""
    out = {}
    for entry in bundle.variant("int8").tensors:
        raw = np.fromfile(bundle.path(entry.path), np.uint8, entry.size, offset=entry.offset)
        out[entry.name] = raw.view(entry.dtype).reshape(entry.shape)
    return out
