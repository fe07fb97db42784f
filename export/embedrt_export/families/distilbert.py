"""DistilBERT (Sanh et al., 2019, arXiv:1910.01108): BERT's blocks under other names, without token types."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, linear, norm, numbered, table


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("distilbert", config)
    hidden, heads = int(s.need("dim")), int(s.need("n_heads"))
    s.ignore("sinusoidal_pos_embds")  # how the table was begun; it is in the checkpoint
    every_norm, positions = layer_norm(1e-12), int(s.need("max_position_embeddings"))
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=positions,
        embeddings=Embeddings(hidden, positions, None, has_token_types=False, scale=1.0, norm=every_norm),
        blocks=blocks(
            "post",
            every_norm,
            [attention(heads, s.shared("dim", hidden, heads))] * int(s.need("n_layers")),
            FeedForward(int(s.need("hidden_dim")), s.activation("activation", "gelu"), gated=False),
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
    }
    block = {
        **linear("query", "attention.q_lin"),
        **linear("key", "attention.k_lin"),
        **linear("value", "attention.v_lin"),
        **linear("attention_output", "attention.out_lin"),
        **norm("attention_norm", "sa_layer_norm"),
        **linear("ffn_up", "ffn.lin1"),
        **linear("ffn_down", "ffn.lin2"),
        **norm("ffn_norm", "output_layer_norm"),
    }
    for i in range(int(config["n_layers"])):
        out |= numbered(block, i, f"transformer.layer.{i}")
    return out


FAMILY = Family("DistilBERT", ("distilbert",), (), spec_of, sources_of)
