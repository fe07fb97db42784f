"""JinaBERT (Günther et al., 2023, arXiv:2310.19923), of Jina's embeddings v2: BERT with ALiBi both ways, gated FFN."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.distances import alibi_slopes
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, constant, linear, norm, numbered, packed, table

_FFNS = {"geglu": "gelu", "reglu": "relu"}


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("jina_bert", config)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    s.only("position_embedding_type", "alibi", default="absolute")
    s.only("alibi_scaling", 1)
    s.ignore("hidden_act", "type_vocab_size")  # the first is its head's
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-12))
    activation = _FFNS[s.only("feed_forward_type", *_FFNS, default="original")]
    ffn = FeedForward(int(s.need("intermediate_size")), activation, gated=True)  # type: ignore[arg-type]
    one = attention(heads, s.head_size(heads), distance_bias="slopes")
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=int(s.need("max_position_embeddings")),
        embeddings=Embeddings(hidden, 0, None, has_token_types=True, scale=1.0, norm=every_norm),
        blocks=blocks("post", every_norm, [one] * int(s.need("num_hidden_layers")), ffn),
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    inner = int(config["intermediate_size"])
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        "embeddings.token_type": table("embeddings.token_type_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.LayerNorm"),
        "attention.slopes": constant(alibi_slopes(int(config["num_attention_heads"]))),
    }
    block = {
        **linear("query", "attention.self.query"),
        **linear("key", "attention.self.key"),
        **linear("value", "attention.self.value"),
        **linear("attention_output", "attention.output.dense"),
        **norm("attention_norm", "attention.output.LayerNorm"),
        **packed({"ffn_gate": inner, "ffn_up": inner}, "mlp.gated_layers", bias=False),
        **linear("ffn_down", "mlp.wo"),
        **norm("ffn_norm", "mlp.layernorm"),
    }
    for i in range(int(config["num_hidden_layers"])):
        out |= numbered(block, i, f"encoder.layer.{i}")
    return out


FAMILY = Family("JinaBERT", (), ("JinaBertModel",), spec_of, sources_of)
