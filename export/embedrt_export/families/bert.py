"""BERT (Devlin et al., 2018, arXiv:1810.04805) and what has its blocks: RoBERTa, XLM-R, CamemBERT, ELECTRA."""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, linear, norm, numbered, table

_OFFSET = ("roberta", "xlm-roberta", "camembert")  # positions count from pad_token_id + 1


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings(str(config["model_type"]), config)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    s.only("position_embedding_type", "absolute")
    if s.family != "electra":
        s.ignore("embedding_size")
    every_norm = layer_norm(s.get("layer_norm_eps", 1e-12))
    positions = int(s.need("max_position_embeddings"))
    pad = int(s.get("pad_token_id", 1)) if s.family in _OFFSET else None
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=positions if pad is None else positions - pad - 1,
        embeddings=Embeddings(
            size=int(s.get("embedding_size", hidden)) if s.family == "electra" else hidden,
            num_positions=positions,
            pad_position=pad,
            has_token_types=int(s.get("type_vocab_size", 2)) > 0,
            scale=1.0,
            norm=every_norm,
        ),
        blocks=blocks(
            "post",
            every_norm,
            [attention(heads, s.head_size(heads))] * int(s.need("num_hidden_layers")),
            FeedForward(int(s.need("intermediate_size")), s.activation("hidden_act", "gelu"), gated=False),
        ),
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    spec = spec_of(config)
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        "embeddings.position": table("embeddings.position_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.LayerNorm"),
    }
    if spec.embeddings.has_token_types:
        out["embeddings.token_type"] = table("embeddings.token_type_embeddings.weight")
    if spec.embeddings.size != spec.hidden_size:
        out |= linear("embeddings.projection", "embeddings_project")
    block = {
        **linear("query", "attention.self.query"),
        **linear("key", "attention.self.key"),
        **linear("value", "attention.self.value"),
        **linear("attention_output", "attention.output.dense"),
        **norm("attention_norm", "attention.output.LayerNorm"),
        **linear("ffn_up", "intermediate.dense"),
        **linear("ffn_down", "output.dense"),
        **norm("ffn_norm", "output.LayerNorm"),
    }
    for i in range(len(spec.blocks)):
        out |= numbered(block, i, f"encoder.layer.{i}")
    return out


FAMILY = Family("BERT", ("bert", *_OFFSET, "electra"), (), spec_of, sources_of)
