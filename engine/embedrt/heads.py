"""What stands behind the encoder: a head for each kind of output that a bundle gives."""

from __future__ import annotations

from dataclasses import dataclass

POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ATTENTION = "attention"
"""Pooling of pictures by a query of the model's own, which is the pipeline's first stage, too: see
`embedrt.pictures.attention_pooling`."""
STAGE_KINDS = ("dense", "layernorm", "normalize", ATTENTION)
ACTIVATION_NAMES = ("identity", "tanh", "relu", "gelu", "sigmoid", "silu")
SCORE_ACTIVATIONS = ("identity", "sigmoid", "softmax")


@dataclass(frozen=True)
class Stage:
    """One module after pooling. `dense`: y = activation(x @ weight.T + bias), arrays in the npz at `path`."""

    kind: str  # dense | layernorm | normalize
    path: str | None = None  # npz with "weight" (out, in) and optionally "bias" (out,)
    activation: str | None = None  # one of ACTIVATION_NAMES
    in_features: int | None = None
    out_features: int | None = None
    epsilon: float | None = None  # layernorm


@dataclass(frozen=True)
class Pipeline:
    """What turns hidden states into one vector: pooling modes (concatenated), then the stages in order."""

    pooling: tuple[str, ...]
    include_prompt: bool  # whether a prompt's own tokens are pooled
    stages: tuple[Stage, ...]
    dimension: int


@dataclass(frozen=True)
class PairTemplate:
    """How a model that was trained to answer reads a pair: one text, which is cut, and tokens behind it, which are not.

    Qwen3-Reranker's is its card's (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B).
    """

    text: str  # with {query}, {document} at its end, and {instruction} where the model takes one
    after: str
    instruction: str  # where the call gives none


@dataclass(frozen=True)
class ScoreHead:
    """What turns hidden states of a pair of texts into scores: pooling and stages as of a vector, then an activation.

    The last stage has a row per label: one for a reranker, several for a classifier.
    """

    pooling: tuple[str, ...]
    stages: tuple[Stage, ...]
    labels: tuple[str, ...]  # names of the scores, in order
    activation: str  # one of SCORE_ACTIVATIONS, of the scores that are asked for without another
    has_types: bool  # whether the second text's tokens have token type 1
    template: PairTemplate | None  # None: the two texts with the tokenizer's own special tokens between them


OUTPUTS = {
    "pipeline": ("vectors", "Embedder"),
    "scores": ("scores of pairs of texts", "Reranker"),
}
"""Field of the manifest that is not null where a bundle gives an output -> what that is, and the class that gives it.
A bundle may have several."""
