"""ALBERT (Lan et al., 2019, arXiv:1909.11942): narrow embeddings, and blocks that share their weights by groups."""

from __future__ import annotations

from dataclasses import replace

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, linear, norm, numbered, table


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("albert", config)
    hidden, heads, size = (
        int(s.need("hidden_size")),
        int(s.need("num_attention_heads")),
        int(s.get("embedding_size", 128)),
    )
    for key, value in (("position_embedding_type", "absolute"), ("down_scale_factor", 1)):
        s.only(key, value)
    s.only("layers_to_keep", [])
    for key, value in (("gap_size", 0), ("net_structure_type", 0), ("num_memory_blocks", 0)):  # of old checkpoints
        s.only(key, value)
    if size == hidden:  # the class has a projection all the same, of which the spec does not speak
        raise s.unsupported("embedding_size", size, "another than hidden_size")
    every_norm, positions = layer_norm(s.get("layer_norm_eps", 1e-12)), int(s.need("max_position_embeddings"))
    shared = _shared(s)
    ffn = FeedForward(int(s.need("intermediate_size")), s.activation("hidden_act", "gelu_new"), gated=False)
    own = blocks("post", every_norm, [attention(heads, s.head_size(heads))] * len(shared), ffn)
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=positions,
        embeddings=Embeddings(size, positions, None, int(s.get("type_vocab_size", 2)) > 0, scale=1.0, norm=every_norm),
        blocks=tuple(replace(block, weights=weights) for block, weights in zip(own, shared, strict=True)),
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings("albert", config)
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        "embeddings.position": table("embeddings.position_embeddings.weight"),
        "embeddings.token_type": table("embeddings.token_type_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.LayerNorm"),
        **linear("embeddings.projection", "encoder.embedding_hidden_mapping_in"),
    }
    block = {
        **linear("query", "attention.query"),
        **linear("key", "attention.key"),
        **linear("value", "attention.value"),
        **linear("attention_output", "attention.dense"),
        **norm("attention_norm", "attention.LayerNorm"),
        **linear("ffn_up", "ffn"),
        **linear("ffn_down", "ffn_output"),
        **norm("ffn_norm", "full_layer_layer_norm"),
    }
    inner = _inner(s)
    for i in range(int(s.get("num_hidden_groups", 1)) * inner):
        out |= numbered(block, i, f"encoder.albert_layer_groups.{i // inner}.albert_layers.{i % inner}")
    return out


def _inner(s: Settings) -> int:
    return int(s.get("inner_group_num", 1))


def _shared(s: Settings) -> list[int]:
    """Which weights each block has: a layer runs all blocks of its group, and the groups share the layers evenly."""
    layers, groups, inner = int(s.need("num_hidden_layers")), int(s.get("num_hidden_groups", 1)), _inner(s)
    return [int(i / (layers / groups)) * inner + k for i in range(layers) for k in range(inner)]


FAMILY = Family("ALBERT", ("albert",), (), spec_of, sources_of)
