"""The head of a masked language model over ragged hidden states, pooled over each text's tokens: SPLADE's words.

With T tokens, V words::

    rows = norm(activation(hidden @ transform.weight + transform.bias), norm)        (T, E)
    logits = rows @ decoder.weight + decoder.bias                                    (T, V)
    largest       a word's largest logit over a text's tokens
    sum           the sum of log(1 + max(logit, 0))                             Formal et al., arXiv:2107.05720
    sum_of_twice  the sum of log(1 + log(1 + max(logit, 0)))                    Geng et al., arXiv:2504.14839

log(1 + max(x, 0)) rises with x, so its largest value over tokens is that of the largest logit (arXiv:2109.10086): the
logits are made of some columns at a time, and never are in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Norm
from embedrt.executors.words import WordPooling
from embedrt.pooling import ACTIVATIONS as SIMPLE

Floats = NDArray[np.float32]

PREFIX = "words."
TRANSFORM, NORM, DECODER = "words.transform", "words.norm", "words.decoder"
_BLOCK_COLUMNS = 2048
_MOST_NUMBERS = 1 << 23  # of the words of all texts that are in memory at once: 32 MB


# erf(z) = z P(z^2) / Q(z^2), |z| to where erf is 1 in float32, within 2e-8: as activations.h has it.
_ERF_P = np.array([2.0117470e-6, 2.8760103e-4, 3.9173169e-3, 5.3207055e-2, 1.9403562e-1, 1.1283790], np.float32)
_ERF_Q = np.array([3.7839782e-5, 1.1982016e-3, 1.5270699e-2, 1.1559073e-1, 5.0529104e-1, 1.0], np.float32)


def _gelu(x: Floats) -> Floats:
    z = np.clip(x * np.float32(0.70710678), -3.95, 3.95)
    square = z * z
    ratio = np.polyval(_ERF_P, square) / np.polyval(_ERF_Q, square)
    return np.asarray(0.5 * x * (1 + z * ratio), np.float32)


def _gelu_tanh(x: Floats) -> Floats:
    inner = np.float32(0.7978845608) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float32)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": SIMPLE["relu"],
    "silu": SIMPLE["silu"],
    "quick_gelu": lambda x: x * SIMPLE["sigmoid"](np.float32(1.702) * x),
}
"""Those of `embedrt.heads.WORD_ACTIVATIONS`."""


class Words(Protocol):
    """What runs the head."""

    @property
    def dimension(self) -> int:
        """V."""

    def __call__(self, hidden: Floats, offsets: NDArray[np.int32], pooling: WordPooling) -> Floats:
        """Hidden states (T, H) of B texts at `offsets` (B + 1,) to (B, V); each text by itself."""


@dataclass(frozen=True)
class NumpyWords:
    """The head in numpy; its weights as float32, or int8 with a scale per column."""

    arrays: Mapping[str, NDArray[Any]]  # decoder.weight (E, V), which may be a view of a table (V, E)
    activation: str
    norm: Norm

    @property
    def dimension(self) -> int:
        """V."""
        return int(self.arrays[f"{DECODER}.weight"].shape[1])

    def rows(self, hidden: Floats) -> Floats:
        """What the decoder reads of one text's states (n, H): (n, E)."""
        arrays = self.arrays
        product = hidden @ arrays[f"{TRANSFORM}.weight"]
        values = ACTIVATIONS[self.activation](product + arrays.get(f"{TRANSFORM}.bias", np.float32(0)))
        gamma, beta = arrays[f"{NORM}.gamma"], arrays.get(f"{NORM}.beta", np.float32(0))
        centered = values - values.mean(axis=1, keepdims=True) if self.norm.kind == "layer" else values
        squares = (centered**2).mean(axis=1, keepdims=True)
        return np.asarray(centered / np.sqrt(squares + self.norm.epsilon) * gamma + beta, np.float32)

    def __call__(self, hidden: Floats, offsets: NDArray[np.int32], pooling: WordPooling) -> Floats:
        """As `Words` says it. One text at a time, so that its bits are its own; a block of columns stays cached."""
        texts = [self.rows(hidden[a:b]) for a, b in pairwise(offsets)]
        weight, scale = self.arrays[f"{DECODER}.weight"], self.arrays.get(f"{DECODER}.scale")
        bias = self.arrays.get(f"{DECODER}.bias")
        out = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, self.dimension, _BLOCK_COLUMNS):
            block = slice(start, min(start + _BLOCK_COLUMNS, self.dimension))
            columns = weight[:, block].astype(np.float32, copy=False)
            if scale is not None:
                columns = columns * scale[block]
            for i, rows in enumerate(texts):
                logits = rows @ columns
                if bias is not None:
                    logits += bias[block]
                out[i, block] = logits.max(axis=0) if pooling == "largest" else _saturated(logits, pooling).sum(axis=0)
        return out


def _saturated(logits: Floats, pooling: WordPooling) -> Floats:
    once = np.log1p(np.maximum(logits, 0))
    return np.log1p(once) if pooling == "sum_of_twice" else once


def texts_at_once(dimension: int) -> int:
    """How many texts' words may be in memory together."""
    return max(1, _MOST_NUMBERS // dimension)
