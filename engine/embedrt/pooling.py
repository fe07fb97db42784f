"""Hidden states to vectors: pooling, dense heads, L2 norm. Plain numpy over ragged rows.

Each text is reduced by itself, so that its vector has the same bits whatever else is in the batch.
Formulas are sentence-transformers' (`sentence_transformers.sentence_transformer.modules.pooling.Pooling`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.bundle import Bundle
from embedrt.errors import OptionError
from embedrt.heads import ATTENTION, POOLING_MODES, Pipeline, ScoreHead, Stage, TokenHead
from embedrt.manifest import pipeline_of
from embedrt.pictures.attention_pooling import ARRAYS, AttentionPooling

Floats = NDArray[np.float32]


def _weighted_mean(rows: Floats, first: int) -> Floats:
    """Weights are positions counted from 1, prompt included, as in sentence-transformers."""
    weights = np.arange(first + 1, first + 1 + len(rows), dtype=np.float32)
    return np.asarray(weights @ rows / weights.sum(), dtype=np.float32)


# name -> f(rows (n, H) of one text after its prompt, number of prompt rows) -> (H,)
_POOLERS: dict[str, Callable[[Floats, int], Floats]] = {
    "cls": lambda rows, _: rows[0],
    "mean": lambda rows, _: np.add.reduce(rows, axis=0) / np.float32(len(rows)),  # rows.mean, in a third of the time
    "max": lambda rows, _: rows.max(axis=0),
    "mean_sqrt_len_tokens": lambda rows, _: rows.sum(axis=0) / np.float32(math.sqrt(len(rows))),
    "weightedmean": _weighted_mean,
    "lasttoken": lambda rows, _: rows[-1],
}


def parse_pooling(text: str) -> tuple[str, ...]:
    """Names of poolings out of "cls", "mean+max" and the like, in their order.

    Raises:
        OptionError: one of them does not exist.
    """
    modes = tuple(text.split("+"))
    for mode in modes:
        if mode not in POOLING_MODES:
            raise OptionError(f"pooling must be of {', '.join(POOLING_MODES)} (several joined by '+'), not {mode!r}")
    return modes


def pool(hidden: Floats, offsets: NDArray[np.int32], modes: tuple[str, ...], skip: int = 0) -> Floats:
    """Pool ragged hidden states (T, H) of B texts into (B, H * len(modes)).

    Args:
        hidden: rows of all texts, end to end.
        offsets: (B + 1,) where each text's rows begin.
        modes: names out of embedrt.heads.POOLING_MODES; several are concatenated in this order.
        skip: rows at the beginning of each text that belong to a prompt and are left out (never all of them).
    """
    width = hidden.shape[1]
    out = np.empty((len(offsets) - 1, width * len(modes)), dtype=np.float32)
    for i in range(len(out)):
        begin, end = int(offsets[i]), int(offsets[i + 1])
        first = min(skip, end - begin - 1)
        rows = hidden[begin + first : end]
        for k, mode in enumerate(modes):
            out[i, k * width : (k + 1) * width] = _POOLERS[mode](rows, first)
    return out


def l2_normalize(vectors: Floats) -> Floats:
    """Rows divided by max(their L2 norm, 1e-12), as torch.nn.functional.normalize does."""
    norms = np.sqrt(np.add.reduce(vectors * vectors, axis=-1, keepdims=True))  # numpy.linalg.norm, in half the time
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _erf(x: Floats) -> Floats:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float32])(x), dtype=np.float32)


def _sigmoid(x: Floats) -> Floats:
    small = np.exp(-np.abs(x))  # never overflows
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), dtype=np.float32)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: np.asarray(0.5 * x * (1 + _erf(x / np.float32(math.sqrt(2)))), dtype=np.float32),
}


@dataclass(frozen=True)
class Head:
    """The stages after pooling, with their arrays."""

    steps: tuple[Callable[[Floats], Floats], ...]
    dimension: int  # of what comes out
    normalizes: bool  # whether that has length 1

    def __call__(self, vectors: Floats, *, unnormalized: bool = False) -> Floats:
        """The vectors after every stage; `unnormalized` leaves out an L2 norm at the end."""
        for step in self.steps_for(unnormalized=unnormalized):
            vectors = step(vectors)
        return vectors

    def steps_for(self, *, unnormalized: bool) -> tuple[Callable[[Floats], Floats], ...]:
        """The stages that such a call goes through."""
        return self.steps[:-1] if unnormalized and self.normalizes else self.steps


@dataclass(frozen=True)
class Dense:
    """What makes a text's vector out of its hidden states."""

    pooling: tuple[str, ...]
    head: Head
    include_prompt: bool  # whether a prompt's tokens are pooled too


def load_dense(bundle: Bundle, pooling: str | None) -> Dense:
    """The bundle's pipeline, with another pooling where one is given.

    Raises:
        OptionError: the bundle gives no vectors, or the pooling does not fit.
    """
    pipeline = pipeline_of(bundle.manifest)
    if pooling is not None:
        pipeline = replace(pipeline, pooling=parse_pooling(pooling))
    return Dense(pipeline.pooling, load_head(bundle, pipeline), pipeline.include_prompt)


def load_head(bundle: Bundle, pipeline: Pipeline | ScoreHead) -> Head:
    """Read the arrays of the stages behind a pooling.

    Raises:
        OptionError: the pooling chosen gives another width than the first dense layer takes.
    """
    width = bundle.manifest.architecture.hidden_size * len(pipeline.pooling)
    return _load_stages(bundle, pipeline.stages, width, f"pooling {'+'.join(pipeline.pooling)} gives", by_row=True)


def load_token_head(bundle: Bundle, head: TokenHead) -> Head:
    """Read the arrays of the stages behind each token. All rows of a text go through them together.

    Raises:
        OptionError: the first dense layer does not fit the encoder.
    """
    return _load_stages(bundle, head.stages, bundle.manifest.architecture.hidden_size, "a token has", by_row=False)


def _load_stages(bundle: Bundle, stages: Sequence[Stage], width: int, given: str, *, by_row: bool) -> Head:
    steps: list[Callable[[Floats], Floats]] = []
    for stage in stages:
        if stage.kind == "normalize":
            steps.append(l2_normalize)
            continue
        if stage.kind == ATTENTION:  # the pooling itself, see `load_attention`
            continue
        with np.load(bundle.path(str(stage.path)), allow_pickle=False) as arrays:
            data = {name: arrays[name] for name in arrays.files}
        if stage.kind == "dense":
            if data["weight"].shape[1] != width:
                takes = data["weight"].shape[1]
                raise OptionError(f"{given} {width} numbers, the model's dense layer takes {takes}")
            width = data["weight"].shape[0]
            steps.append(_dense(data, str(stage.activation), by_row=by_row))
        else:
            steps.append(_layer_norm(data, float(stage.epsilon or 1e-5)))
    normalizes = bool(stages) and stages[-1].kind == "normalize"
    return Head(tuple(steps), width, normalizes)


def load_attention(bundle: Bundle) -> AttentionPooling | None:
    """The pooling of a bundle of pictures that has one of its own."""
    first = pipeline_of(bundle.manifest).stages[:1]
    if not first or first[0].kind != ATTENTION:
        return None
    with np.load(bundle.path(str(first[0].path)), allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in ARRAYS}
    return AttentionPooling(data, str(first[0].activation), float(first[0].epsilon or 1e-6))


def _dense(arrays: dict[str, Any], activation: str, *, by_row: bool) -> Callable[[Floats], Floats]:
    weight, bias = arrays["weight"].T, arrays.get("bias", np.float32(0))
    activate = ACTIVATIONS[activation]

    def step(vectors: Floats) -> Floats:
        # Texts one row at a time: a GEMM may sum in another order than a GEMV, and bits must not depend on the batch.
        product = np.stack([row @ weight for row in vectors]) if by_row and len(vectors) else vectors @ weight
        return activate(product + bias).astype(np.float32, copy=False)

    return step


def _layer_norm(arrays: dict[str, Any], epsilon: float) -> Callable[[Floats], Floats]:
    def step(vectors: Floats) -> Floats:
        centered = vectors - vectors.mean(axis=1, keepdims=True)
        variance = (centered**2).mean(axis=1, keepdims=True)
        scaled = centered / np.sqrt(variance + epsilon) * arrays["weight"] + arrays["bias"]
        return np.asarray(scaled, dtype=np.float32)

    return step
