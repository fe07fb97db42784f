"""What bundles of format 1 compute follows from their architecture."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedrt._encoder_checks import check_encoder
from embedrt.encoder import FeedForward, Norm
from embedrt.errors import UnsupportedByNativeError
from embedrt.format1 import check_complete, encoder_of_format_1
from embedrt.manifest import Architecture

BERT = Architecture("bert", 96, 2, 3, 208, 80, 70, 2, "gelu_new", 1e-12, 0)
XLMR = replace(BERT, model_type="xlm-roberta", max_positions=72, pad_token_id=1, activation="gelu")


def test_bert() -> None:
    spec = encoder_of_format_1(BERT, has_token_types=True)
    check_encoder(spec, 96)
    assert (spec.hidden_size, spec.vocab_size, spec.max_tokens, spec.final_norm) == (96, 80, 70, None)
    assert (spec.embeddings.num_positions, spec.embeddings.pad_position, spec.embeddings.norm) == (
        70, None, Norm("layer", 1e-12),
    )  # fmt: skip
    assert spec.embeddings.has_token_types
    assert [block.weights for block in spec.blocks] == [0, 1]
    block = spec.blocks[1]
    assert (block.norms, block.norm, block.attention_is_normed) == ("post", Norm("layer", 1e-12), True)
    assert block.feed_forward == FeedForward(208, "gelu_tanh", gated=False)
    attention = block.attention
    assert (attention.num_heads, attention.num_kv_heads, attention.head_size) == (3, 3, 32)
    assert attention.scale == pytest.approx(32**-0.5, rel=1e-15)
    assert not attention.causal
    assert (attention.window, attention.rotary, attention.head_norm, attention.distance_bias) == (
        None,
        None,
        None,
        "none",
    )


def test_roberta_counts_positions_behind_its_pad_token() -> None:
    spec = encoder_of_format_1(XLMR, has_token_types=False)
    check_encoder(spec, 96)
    assert (spec.embeddings.num_positions, spec.embeddings.pad_position, spec.max_tokens) == (72, 1, 70)
    assert not spec.embeddings.has_token_types


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mpnet"}, "not mpnet"),
        ({"activation": "silu"}, "not silu"),
        ({"num_heads": 5}, "heads do not divide"),
        ({"num_heads": 0}, "heads do not divide"),
    ],
)
def test_what_format_1_does_not_say(changes: dict, reason: str) -> None:
    with pytest.raises(UnsupportedByNativeError, match=reason):
        encoder_of_format_1(replace(BERT, **changes), has_token_types=True)


def test_no_product_is_without_its_bias() -> None:
    names = {f"layers.{i}.{name}.bias" for i in range(2) for name in ("qkv", "attention_output", "ffn_up", "ffn_down")}
    check_complete(BERT, names)
    for name in names:
        with pytest.raises(UnsupportedByNativeError, match=f"no tensor {name}"):
            check_complete(BERT, names - {name})
