"""T5's encoder (Raffel et al., 2019, arXiv:1910.10683): no scale of scores, one bias by distance for all blocks."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.distances import by_distance
from embedrt_export.families.family import Family
from embedrt_export.families.settings import ACTIVATIONS, Config, Settings, rms_norm
from embedrt_export.families.sources import Source, Sources, linear, norm, numbered, table

_FFNS = {"relu": "relu", "gated-gelu": "gelu_new", "gated-silu": "silu", "gated-relu": "relu", "gelu": "gelu"}
"""feed_forward_proj -> transformers' activation; "gated-gelu" has meant the tanh formula from the beginning."""


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("t5", config)
    hidden, heads, ffn = int(s.need("d_model")), int(s.need("num_heads")), _ffn(s)
    s.ignore("dense_act_fn", "is_gated_act")  # what transformers made of feed_forward_proj
    s.ignore("num_decoder_layers", "scale_decoder_outputs")  # the other half's
    every_norm, _ = rms_norm(s.get("layer_norm_epsilon", 1e-6)), _buckets(s)
    one = attention(heads, int(s.need("d_kv")), scale=1.0, distance_bias="table")
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=None,
        embeddings=Embeddings(hidden, 0, None, has_token_types=False, scale=1.0, norm=None),
        blocks=blocks(
            "pre",
            every_norm,
            [one] * int(s.need("num_layers")),
            FeedForward(int(s.need("d_ff")), ACTIVATIONS[_FFNS[ffn]], gated=ffn.startswith("gated-")),  # type: ignore[arg-type]
        ),
        final_norm=every_norm,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings("t5", config)
    out = {
        "embeddings.word": table("shared.weight", "encoder.embed_tokens.weight"),
        **norm("final_norm", "encoder.final_layer_norm", bias=False),
        "attention.distance_bias": Source(
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",), by_distance(*_buckets(s))
        ),
    }
    block = {
        **norm("attention_norm", "layer.0.layer_norm", bias=False),
        **linear("query", "layer.0.SelfAttention.q", bias=False),
        **linear("key", "layer.0.SelfAttention.k", bias=False),
        **linear("value", "layer.0.SelfAttention.v", bias=False),
        **linear("attention_output", "layer.0.SelfAttention.o", bias=False),
        **norm("ffn_norm", "layer.1.layer_norm", bias=False),
        **linear("ffn_down", "layer.1.DenseReluDense.wo", bias=False),
    }
    gated = {"ffn_gate": "wi_0", "ffn_up": "wi_1"} if _ffn(s).startswith("gated-") else {"ffn_up": "wi"}
    for to, name in gated.items():
        block |= linear(to, f"layer.1.DenseReluDense.{name}", bias=False)
    for i in range(int(s.need("num_layers"))):
        out |= numbered(block, i, f"encoder.block.{i}")
    return out


def _ffn(s: Settings) -> str:
    return str(s.only("feed_forward_proj", *_FFNS))


def _buckets(s: Settings) -> tuple[int, int]:
    """How many, and the distance from which on all are in the last."""
    return int(s.get("relative_attention_num_buckets", 32)), int(s.get("relative_attention_max_distance", 128))


FAMILY = Family("T5", ("t5", "mt5"), (), spec_of, sources_of, (r"^decoder\.",))
