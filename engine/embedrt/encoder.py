"""An encoder as data: what it computes, said once for the graphs, the native executor and the tests' reference.

With T tokens, H = `hidden_size`, and weights (K, N) that rows are multiplied with from the left, x @ weight + bias::

    x = scale * embeddings.word[id]                                     (T, E), E = `embeddings.size`
        + embeddings.position[position] + embeddings.token_type[type]   where the spec has them
    x = norm(x, embeddings.norm)                                        where it has one
    x = x @ embeddings.projection.weight + .bias                        where E is not H

    of pictures, where the spec has `patches`, instead of the first two lines:
    x = rows @ embeddings.patch.weight + embeddings.position            (T, H), T = count + has_first_row
        rows (T, size): the patches' pixels, after a row of zeros where `has_first_row`

    every block, with the tensors of layers.{block.weights}:
      norms "post"       x = norm(x + attention(x), attention_norm)          x = norm(x + ffn(x), ffn_norm)
            "pre"        x = x + attention(norm(x, attention_norm))          x = x + ffn(norm(x, ffn_norm))
            "sandwich"   x = x + norm(attention(norm(x, attention_norm)), attention_after_norm), ffn alike
      (pre and sandwich: without `attention_is_normed`, attention reads x itself, as in ModernBERT's first block)

    attention(x):  q = x @ query.weight + query.bias (T, heads * head_size); k and v alike (T, kv_heads * head_size)
                   q, k = norm over each head, query_norm and key_norm       where the spec has `head_norm`
                   q, k = rotated by position * rotary.{name}.frequencies    where it has `rotary`
                   s = scale * q k^T + bias of the distance                  head h reads kv head h / (heads / kv_heads)
                   softmax over the tokens that `causal` and `window` let through, times v
                   @ attention_output.weight + .bias
    ffn(x):        down(activation(x @ ffn_up.weight + .bias))
          gated:   down(activation(x @ ffn_gate.weight + .bias) * (x @ ffn_up.weight + .bias)), down = ffn_down

    x = norm(x, final_norm)                                             where the spec has one

Static embeddings, a table of which texts are means, have no blocks, and nothing beside embeddings.word.

A bias that the file does not have is zero. Layer norms have .gamma and .beta (zero where missing), RMS norms .gamma
alone: a family that scales by 1 + gamma says so in its numbers, not here. A class token and the bias of the patches'
product are in the positions, which each row has one of. int8's files have folded norms and more
tensors, see `embedrt_export.int8.emitted`; an RMS norm may have a .beta there.

Distances are key minus query. `attention.distance_bias` (heads, 2 D + 1) has the biases of the distances -D to D, those
further away have the bias of the end (T5's and MPNet's buckets, written out); `attention.slopes` (heads,) times minus
the absolute distance is ALiBi's. Rotation turns the first 2 F of a head's numbers, F the length of the frequencies:
pairs (j, j + F), or (2 j, 2 j + 1) where `rotary_interleaved`. Scaled bases (NTK, Llama 3, YaRN) are in these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Norm:
    """Layer norm (Ba et al., 2016, arXiv:1607.06450) or RMS norm (Zhang and Sennrich, 2019, arXiv:1910.07467)."""

    kind: Literal["layer", "rms"]
    epsilon: float


@dataclass(frozen=True)
class Embeddings:
    """What a token id becomes before the first block."""

    size: int  # E, width of the token table
    num_positions: int  # rows of embeddings.position; 0: there is none
    pad_position: int | None  # None: positions count from 0; else RoBERTa's and MPNet's: tokens that are not this id
    # count from it on plus 1, and tokens of this id are at it
    has_token_types: bool  # whether a row of embeddings.token_type is added: 0, or 1 in the second text of a pair
    scale: float  # of the token's row
    norm: Norm | None


@dataclass(frozen=True)
class Patches:
    """What of a picture is read, instead of token ids: rows of pixels."""

    size: int  # pixels of a patch times 3: red, green, blue, each row by row
    edge: int  # pixels that a patch is wide and high
    count: int  # patches of a picture
    has_first_row: bool  # whether a row without pixels comes before them, as CLIP's class token


@dataclass(frozen=True)
class Attention:
    """How the tokens of a text look at each other."""

    num_heads: int
    num_kv_heads: int  # divides num_heads
    head_size: int
    scale: float  # of q k^T
    causal: bool  # a token sees itself and those before it
    window: int | None  # and those at a distance of at most this on either side
    rotary: str | None  # name of the frequencies
    rotary_interleaved: bool
    head_norm: Norm | None  # of queries and keys
    distance_bias: Literal["none", "table", "slopes"]


@dataclass(frozen=True)
class FeedForward:
    """The two products, or three where gated, after attention."""

    size: int  # F, its width between them
    activation: Literal["gelu", "gelu_tanh", "relu", "silu", "quick_gelu"]
    gated: bool


@dataclass(frozen=True)
class Block:
    """One layer."""

    weights: int  # of layers.{weights}; ALBERT's blocks all have 0
    norms: Literal["post", "pre", "sandwich"]
    norm: Norm
    attention_is_normed: bool
    attention: Attention
    feed_forward: FeedForward


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder; the names and shapes of its tensors are in this module's docstring."""

    hidden_size: int  # H
    vocab_size: int  # 0 where there are patches
    max_tokens: int | None  # the most that positions allow in one text, special tokens included; None: no limit
    embeddings: Embeddings
    blocks: tuple[Block, ...]  # none: the encoder is a table of token vectors
    final_norm: Norm | None
    patches: Patches | None = None  # of pictures' encoders; positions are the embeddings' then, and nothing else
