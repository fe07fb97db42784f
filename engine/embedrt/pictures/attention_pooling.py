"""SigLIP's pooling: one query that the model learned looks at all of a picture's rows, and an FFN follows.

The query is the same for every picture, so its product with the keys' weight is one matrix (H, heads), made at export;
values are weighted before they are multiplied, which takes one row of each head instead of all rows::

    a = softmax over the rows of (x @ scores)                                   (n, heads)
    m = a^T x, each head's (H,) times its columns of `value`, + value_bias      (H,)
    y = m @ output + output_bias
    y + activation(norm(y) @ up + up_bias) @ down + down_bias
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
ARRAYS = (
    "scores", "value", "value_bias", "output", "output_bias", "gamma", "beta", "up", "up_bias", "down", "down_bias",
)  # fmt: skip
ACTIVATIONS = ("gelu_tanh", "quick_gelu", "relu", "silu")


@dataclass(frozen=True)
class AttentionPooling:
    """The arrays by the names above; scores (H, heads), gamma and beta of the norm (H,), products (in, out)."""

    arrays: Mapping[str, NDArray[Any]]
    activation: str  # one of ACTIVATIONS
    epsilon: float

    def __call__(self, states: Floats) -> Floats:
        """Vectors (B, H) of states (B, n, H), each picture by itself."""
        return np.stack([self._one(rows) for rows in states])

    def _one(self, x: Floats) -> Floats:
        a = self.arrays
        scores = x @ a["scores"]
        weights = np.exp(scores - scores.max(axis=0))
        means = (weights / weights.sum(axis=0)).T @ x  # (heads, H)
        heads, width = len(means), x.shape[1] // a["scores"].shape[1]
        columns = a["value"].reshape(x.shape[1], heads, width)
        mixed = np.concatenate([means[h] @ columns[:, h] for h in range(heads)]) + a["value_bias"]
        y = mixed @ a["output"] + a["output_bias"]
        centred = y - y.mean()
        normed = centred / np.sqrt((centred**2).mean() + np.float32(self.epsilon)) * a["gamma"] + a["beta"]
        inner = _activate(self.activation, normed @ a["up"] + a["up_bias"])
        return np.asarray(y + inner @ a["down"] + a["down_bias"], np.float32)


def _activate(name: str, x: Floats) -> Floats:
    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu_tanh":
        return np.asarray(x * 0.5 * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))), np.float32)
    factor = {"quick_gelu": 1.702, "silu": 1.0}[name]
    return np.asarray(x / (1 + np.exp(-factor * x)), np.float32)


def arrays_of(state: Mapping[str, NDArray[Any]], num_heads: int) -> dict[str, Floats]:
    """The arrays out of a checkpoint's head (probe, attention, layernorm, mlp), by its names within the head."""
    probe = state["probe"].reshape(-1).astype(np.float64)
    hidden = len(probe)
    query, key, value = (part.astype(np.float64) for part in np.split(state["attention.in_proj_weight"], 3))
    query_bias, _, value_bias = np.split(state["attention.in_proj_bias"], 3)
    q = (query @ probe + query_bias).reshape(num_heads, -1) / np.sqrt(hidden / num_heads)
    scores = np.einsum("hd,hdk->kh", q, key.reshape(num_heads, -1, hidden))  # keys' bias adds the same to every row
    found = {
        "scores": scores, "value": value.T, "value_bias": value_bias,
        "output": state["attention.out_proj.weight"].T, "output_bias": state["attention.out_proj.bias"],
        "gamma": state["layernorm.weight"], "beta": state["layernorm.bias"],
        "up": state["mlp.fc1.weight"].T, "up_bias": state["mlp.fc1.bias"],
        "down": state["mlp.fc2.weight"].T, "down_bias": state["mlp.fc2.bias"],
    }  # fmt: skip
    return {name: np.ascontiguousarray(found[name], np.float32) for name in ARRAYS}
