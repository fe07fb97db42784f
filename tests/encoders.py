"""Small encoders said by a spec, with seeded tensors: each feature of `embedrt.encoder`, and the whole of a family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedrt.encoder import Attention, Block, Embeddings, EncoderSpec, FeedForward, Norm, Patches

LAYER, RMS = Norm("layer", 1e-6), Norm("rms", 1e-6)
VOCAB, WIDTH = 100, 32


def make_spec(
    *,
    embeddings: dict[str, Any] | None = None,
    attention: dict[str, Any] | None = None,
    feed_forward: dict[str, Any] | None = None,
    block: dict[str, Any] | None = None,
    blocks: int = 2,
    final_norm: Norm | None = None,
    max_tokens: int | None = 64,
) -> EncoderSpec:
    """A post-norm encoder of MPNet's kind with two blocks, but for what is said otherwise."""
    first = Embeddings(WIDTH, 64, None, has_token_types=False, scale=1.0, norm=LAYER)
    look = Attention(4, 4, 8, 8**-0.5, causal=False, window=None, rotary=None, rotary_interleaved=False,
                     head_norm=None, distance_bias="table")  # fmt: skip
    look = replace(look, **(attention or {}))
    forward = replace(FeedForward(48, "gelu", gated=False), **(feed_forward or {}))
    one = replace(Block(0, "post", LAYER, attention_is_normed=True, attention=look, feed_forward=forward),
                  **(block or {}))  # fmt: skip
    every = tuple(replace(one, weights=i) for i in range(blocks))
    return EncoderSpec(WIDTH, VOCAB, max_tokens, replace(first, **(embeddings or {})), every, final_norm)


def make_pictures_spec(
    *, has_first_row: bool = True, norm: Norm | None = LAYER, edge: int = 4, count: int = 9, **changes: Any
) -> EncoderSpec:
    """A pre-norm encoder of pictures, of CLIP's kind but for what is said otherwise."""
    rows = count + has_first_row
    whole = make_spec(
        embeddings={"num_positions": rows, "norm": norm},
        block={"norms": "pre"},
        final_norm=LAYER,
        max_tokens=rows,
        attention={"distance_bias": "none"},
        **{"feed_forward": {"activation": "quick_gelu"}, **changes},
    )
    return replace(whole, vocab_size=0, patches=Patches(3 * edge**2, edge, count, has_first_row))


def make_pictures(spec: EncoderSpec, count: int, seed: int = 0) -> NDArray[np.float32]:
    """Patches (count, N, size) of pictures; neighbours are alike, as in pictures."""
    assert spec.patches is not None
    rng = np.random.default_rng(seed)
    ground = rng.standard_normal((count, 1, spec.patches.size))
    noise = rng.standard_normal((count, spec.patches.count, spec.patches.size))
    return (ground + 0.7 * noise).astype(np.float32)


def make_tensors(spec: EncoderSpec, seed: int = 0, distances: int = 5) -> dict[str, NDArray[np.float32]]:
    """Every tensor that the spec may have, none of them trivial."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0, mean: float = 0.0) -> NDArray[np.float32]:
        return (mean + scale * rng.standard_normal(shape)).astype(np.float32)

    out: dict[str, NDArray[np.float32]] = {}

    def add_norm(name: str, norm: Norm, width: int) -> None:
        out[f"{name}.gamma"] = normal(width, scale=0.2, mean=1)
        if norm.kind == "layer":
            out[f"{name}.beta"] = normal(width, scale=0.2)

    def add_product(name: str, rows: int, columns: int) -> None:
        out[f"{name}.weight"] = normal(rows, columns, scale=1.5 * rows**-0.5)
        out[f"{name}.bias"] = normal(columns, scale=0.2)

    embeddings, width = spec.embeddings, spec.hidden_size
    if spec.patches is None:
        out["embeddings.word"] = normal(spec.vocab_size, embeddings.size)
    else:
        out["embeddings.patch.weight"] = normal(spec.patches.size, width, scale=spec.patches.size**-0.5)
    if embeddings.num_positions:
        out["embeddings.position"] = normal(embeddings.num_positions, embeddings.size)
    if embeddings.has_token_types:
        out["embeddings.token_type"] = normal(2, embeddings.size)
    if embeddings.norm is not None:
        add_norm("embeddings.norm", embeddings.norm, embeddings.size)
    if embeddings.size != width:
        add_product("embeddings.projection", embeddings.size, width)
    for block in spec.blocks:
        name, attention, forward = f"layers.{block.weights}", block.attention, block.feed_forward
        heads, kv_heads, size = attention.num_heads, attention.num_kv_heads, attention.head_size
        add_product(f"{name}.query", width, heads * size)
        add_product(f"{name}.key", width, kv_heads * size)
        add_product(f"{name}.value", width, kv_heads * size)
        add_product(f"{name}.attention_output", heads * size, width)
        add_product(f"{name}.ffn_up", width, forward.size)
        add_product(f"{name}.ffn_down", forward.size, width)
        if forward.gated:
            add_product(f"{name}.ffn_gate", width, forward.size)
        if attention.head_norm is not None:
            add_norm(f"{name}.query_norm", attention.head_norm, size)
            add_norm(f"{name}.key_norm", attention.head_norm, size)
        after = ("attention_after_norm", "ffn_after_norm") if block.norms == "sandwich" else ()
        for norm in ("attention_norm", "ffn_norm", *after):
            if norm != "attention_norm" or block.attention_is_normed:
                add_norm(f"{name}.{norm}", block.norm, width)
        if attention.distance_bias == "table":
            out["attention.distance_bias"] = normal(heads, 2 * distances + 1)
        if attention.distance_bias == "slopes":
            out["attention.slopes"] = (2.0 ** -np.arange(1, heads + 1)).astype(np.float32)
        if attention.rotary is not None:
            out[f"rotary.{attention.rotary}.frequencies"] = (
                100.0 ** -(np.arange(size // 2) / (size // 2))
            ).astype(np.float32)  # fmt: skip
    if spec.final_norm is not None:
        add_norm("final_norm", spec.final_norm, width)
    return out
