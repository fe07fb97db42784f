"""What most families' blocks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from embedrt.encoder import Attention, Block, FeedForward, Norm


def attention(heads: int, head_size: int, **changes: Any) -> Attention:
    """Every token looks at every one, without positions; `changes` are the fields that differ."""
    fields: dict[str, Any] = {
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_size": head_size,
        "scale": head_size**-0.5,
        "causal": False,
        "window": None,
        "rotary": None,
        "rotary_interleaved": False,
        "head_norm": None,
        "distance_bias": "none",
    }
    return Attention(**{**fields, **changes})


def blocks(
    norms: Literal["post", "pre", "sandwich"], norm: Norm, attentions: Sequence[Attention], ffn: FeedForward
) -> tuple[Block, ...]:
    """One block for each attention, with weights of its own."""
    return tuple(
        Block(i, norms, norm, attention_is_normed=True, attention=each, feed_forward=ffn)
        for i, each in enumerate(attentions)
    )
