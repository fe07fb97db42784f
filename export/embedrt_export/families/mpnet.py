"""MPNet (Song et al., 2020, arXiv:2004.09297): BERT with a bias by distance, which all blocks share."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.distances import by_distance
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Source, Sources, linear, norm, numbered, table

_PAD = 1  # in the class itself, whatever pad_token_id says
_BUCKETS, _LARGEST = 32, 128  # in the class itself


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("mpnet", config)
    s.only("relative_attention_num_buckets", _BUCKETS)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-12))
    positions = int(s.need("max_position_embeddings"))
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=positions - _PAD - 1,
        embeddings=Embeddings(hidden, positions, _PAD, has_token_types=False, scale=1.0, norm=every_norm),
        blocks=blocks(
            "post",
            every_norm,
            [attention(heads, s.head_size(heads), distance_bias="table")] * int(s.need("num_hidden_layers")),
            FeedForward(int(s.need("intermediate_size")), s.activation("hidden_act", "gelu"), gated=False),
        ),
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        "embeddings.position": table("embeddings.position_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.LayerNorm"),
        "attention.distance_bias": Source(("encoder.relative_attention_bias.weight",), by_distance(_BUCKETS, _LARGEST)),
    }
    block = {
        **linear("query", "attention.attn.q"),
        **linear("key", "attention.attn.k"),
        **linear("value", "attention.attn.v"),
        **linear("attention_output", "attention.attn.o"),
        **norm("attention_norm", "attention.LayerNorm"),
        **linear("ffn_up", "intermediate.dense"),
        **linear("ffn_down", "output.dense"),
        **norm("ffn_norm", "output.LayerNorm"),
    }
    for i in range(int(config["num_hidden_layers"])):
        out |= numbered(block, i, f"encoder.layer.{i}")
    return out


FAMILY = Family("MPNet", ("mpnet",), (), spec_of, sources_of)
