"""What stands behind the encoder: a head for each kind of output that a bundle gives."""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.encoder import Norm

POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
ATTENTION = "attention"
"""Pooling of pictures by a query of the model's own, which is the pipeline's first stage, too: see
`embedrt.pictures.attention_pooling`."""
STAGE_KINDS = ("dense", "layernorm", "normalize", ATTENTION)
ACTIVATION_NAMES = ("identity", "tanh", "relu", "gelu", "sigmoid", "silu")
SCORE_ACTIVATIONS = ("identity", "sigmoid", "softmax")
SIMILARITY_NAMES = ("cosine", "dot", "euclidean", "manhattan")
WORD_ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "quick_gelu")
WORD_POOLINGS = ("max", "max_of_twice", "sum", "sum_of_twice")
TOKEN_SIMILARITIES = ("maxsim", "meanmaxsim")


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


@dataclass(frozen=True)
class WordHead:
    """The head of a masked language model, pooled over a text's tokens; `embedrt.words` has its formulas.

    Its tensors are every variant's own, as the names there say. A variant without words.decoder.weight has it as
    embeddings.word, transposed.
    """

    activation: str  # one of WORD_ACTIVATIONS
    norm: Norm
    pooling: str  # one of WORD_POOLINGS


@dataclass(frozen=True)
class WeightHead:
    """A number for each token, of which that of a word is the largest over its tokens (BGE-M3, arXiv:2402.03216)."""

    path: str  # npz with "weight" (1, H) and "bias" (1,): max(hidden @ weight.T + bias, 0)
    skip: tuple[int, ...]  # token ids that are no words


@dataclass(frozen=True)
class SparseHead:
    """What turns hidden states into a weight for each word of a vocabulary: `words` or `weights`, one of them.

    With a `table`, queries are read without the encoder: each token that they have, at its weight there.
    """

    dimension: int  # V
    words: WordHead | None
    weights: WeightHead | None
    table: str | None  # npz with "weight" (V,)
    table_tokens: int | None  # of a query that are read, without special tokens
    default: str  # whether `encode` reads texts as "query" or as "document"
    max_active_dims: int | None  # the most weights that a text has, where the caller says nothing
    similarity: str  # as of dense vectors


@dataclass(frozen=True)
class Expansion:
    """Tokens that are put behind a short query, each of which gets a vector (ColBERT, arXiv:2004.12832)."""

    token: int
    length: int  # of the query with them
    seen: bool  # whether its own tokens see them, and they each other
    cuts: bool  # whether longer queries are cut there


@dataclass(frozen=True)
class TokenSide:
    """How queries are read, or documents."""

    max_tokens: int | None  # where it is another limit than the bundle's
    expansion: Expansion | None
    skip: tuple[int, ...]  # token ids that get no vector


@dataclass(frozen=True)
class TokenHead:
    """What turns hidden states into a vector for each token."""

    stages: tuple[Stage, ...]
    dimension: int
    skip_first: bool  # whether a text's first token gets no vector
    query: TokenSide
    document: TokenSide
    similarity: str  # one of TOKEN_SIMILARITIES


OUTPUTS = {
    "pipeline": ("vectors", "Embedder"),
    "scores": ("scores of pairs of texts", "Reranker"),
    "sparse": ("sparse vectors", "SparseEncoder"),
    "tokens": ("vectors of tokens", "MultiVectorEncoder"),
}
"""Field of the manifest that is not null where a bundle gives an output -> what that is, and the class that gives it.
A bundle may have several."""
