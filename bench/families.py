"""Encoders of several families at their real widths, a few layers of each, for `bench.native --families`."""

from __future__ import annotations

from typing import Any

from tests.native.specs import LAYER, RMS

from embedrt.encoder import Attention, Block, Embeddings, EncoderSpec, FeedForward, Norm

VOCABULARY, LAYERS = 1000, 4


def _attention(heads: int, kv_heads: int, size: int, **changes: Any) -> Attention:
    plain: dict[str, Any] = {
        "scale": size**-0.5, "causal": False, "window": None, "rotary": None, "rotary_interleaved": False,
        "head_norm": None, "distance_bias": "none",
    }  # fmt: skip
    return Attention(heads, kv_heads, size, **{**plain, **changes})


def _spec(hidden: int, blocks: list[Block], *, norm: Norm | None = LAYER, final: Norm | None = None) -> EncoderSpec:
    embeddings = Embeddings(hidden, 0, None, has_token_types=False, scale=1.0, norm=norm)
    return EncoderSpec(hidden, VOCABULARY, None, embeddings, tuple(blocks), final)


def _modernbert(i: int) -> Block:
    far = i % 3 == 0
    look = _attention(12, 12, 64, rotary="far" if far else "near", window=None if far else 64)
    return Block(i, "pre", LAYER, i > 0, look, FeedForward(1152, "gelu", gated=True))


def _blocks(norms: Any, norm: Norm, attention: Attention, ffn: FeedForward) -> list[Block]:
    return [
        Block(i, norms, norm, attention_is_normed=True, attention=attention, feed_forward=ffn) for i in range(LAYERS)
    ]


FAMILIES = {
    "mpnet": _spec(
        768,
        _blocks("post", LAYER, _attention(12, 12, 64, distance_bias="table"), FeedForward(3072, "gelu", gated=False)),
    ),
    "modernbert": _spec(768, [_modernbert(i) for i in range(LAYERS)], final=LAYER),
    "nomic": _spec(
        768, _blocks("post", LAYER, _attention(12, 12, 64, rotary="far"), FeedForward(3072, "silu", gated=True))
    ),
    "qwen3": _spec(
        1024,
        _blocks(
            "pre", RMS, _attention(16, 8, 128, rotary="far", causal=True, head_norm=RMS),
            FeedForward(3072, "silu", gated=True),
        ),
        norm=None, final=RMS,
    ),
    "gemma3": _spec(
        768,
        _blocks(
            "sandwich", RMS, _attention(3, 1, 256, rotary="far", window=256, head_norm=RMS),
            FeedForward(1152, "gelu_tanh", gated=True),
        ),
        norm=None, final=RMS,
    ),
    "t5": _spec(
        768,
        _blocks(
            "pre", RMS, _attention(12, 12, 64, scale=1.0, distance_bias="table"), FeedForward(3072, "relu", gated=False)
        ),
        norm=None, final=RMS,
    ),
}  # fmt: skip


def operations(spec: EncoderSpec) -> int:
    """Of the products, per token; attention left out."""
    total = 0
    for block in spec.blocks:
        attention, ffn = block.attention, block.feed_forward
        queries = attention.num_heads * attention.head_size
        keys = attention.num_kv_heads * attention.head_size
        total += 2 * spec.hidden_size * (2 * queries + 2 * keys + (3 if ffn.gated else 2) * ffn.size)
    return total
