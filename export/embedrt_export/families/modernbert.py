"""ModernBERT (Warner et al., 2024, arXiv:2412.13663): norms before, rotary positions, windows but in every third."""

from __future__ import annotations

from dataclasses import replace

from embedrt.encoder import Attention, Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.rotary import Rotary, parameters_of, rotary
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, constant, linear, norm, numbered, packed, table

_ROTARY = {"full_attention": "global", "sliding_attention": "local"}
"""layer_types of version 5 -> the spec's name of its frequencies."""


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("modernbert", config)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    for key in ("norm_bias", "attention_bias", "mlp_bias"):
        s.only(key, False, True)
    s.ignore("layer_norm_eps", "position_embedding_type")  # which the published models have from their training
    every_norm = layer_norm(s.get("norm_eps", 1e-5))
    rotaries, head_size = _rotaries(s), s.head_size(heads)
    window = int(s.get("local_attention", 128)) // 2

    def of(kind: str) -> Attention:
        return attention(
            heads,
            head_size,
            scale=head_size**-0.5 * rotaries[kind].score_scale,
            window=window if kind == "sliding_attention" else None,
            rotary=_ROTARY[kind],
        )

    ffn = FeedForward(int(s.need("intermediate_size")), s.activation("hidden_activation", "gelu"), gated=True)
    first, *others = blocks("pre", every_norm, [of(kind) for kind in _layer_types(s)], ffn)
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=int(s.get("max_position_embeddings", 8192)),
        embeddings=Embeddings(hidden, 0, None, has_token_types=False, scale=1.0, norm=every_norm),
        blocks=(replace(first, attention_is_normed=False), *others),
        final_norm=every_norm,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings("modernbert", config)
    hidden, inner = int(s.need("hidden_size")), int(s.need("intermediate_size"))
    norm_bias, bias, ffn_bias = (bool(s.get(key)) for key in ("norm_bias", "attention_bias", "mlp_bias"))
    out = {
        "embeddings.word": table("embeddings.tok_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.norm", bias=norm_bias),
        **norm("final_norm", "final_norm", bias=norm_bias),
    }
    kinds = set(_layer_types(s))
    out |= {f"rotary.{_ROTARY[k]}.frequencies": constant(r.frequencies) for k, r in _rotaries(s).items() if k in kinds}
    block = {
        **packed({"query": hidden, "key": hidden, "value": hidden}, "attn.Wqkv", bias=bias),
        **linear("attention_output", "attn.Wo", bias=bias),
        **packed({"ffn_gate": inner, "ffn_up": inner}, "mlp.Wi", bias=ffn_bias),
        **linear("ffn_down", "mlp.Wo", bias=ffn_bias),
        **norm("ffn_norm", "mlp_norm", bias=norm_bias),
    }
    for i in range(int(s.need("num_hidden_layers"))):
        first = {} if i == 0 else norm("attention_norm", "attn_norm", bias=norm_bias)
        out |= numbered({**block, **first}, i, f"layers.{i}")
    return out


def _layer_types(s: Settings) -> list[str]:
    every = int(s.get("global_attn_every_n_layers", 3))
    by_number = [list(_ROTARY)[i % every != 0] for i in range(int(s.need("num_hidden_layers")))]
    found = [str(kind) for kind in s.get("layer_types", by_number)]
    for kind in found:
        if kind not in _ROTARY:
            raise s.unsupported("layer_types", kind, " or ".join(_ROTARY))
    return found


def _rotaries(s: Settings) -> dict[str, Rotary]:
    """By layer type; a local base that is null is the global one, in version 4."""
    head_size = s.head_size(int(s.need("num_attention_heads")))
    large = s.get("global_rope_theta", 160_000.0)
    bases = {"full_attention": large, "sliding_attention": s.stated("local_rope_theta", 10_000.0) or large}
    return {kind: rotary(s, parameters_of(s, kind, base), head_size) for kind, base in bases.items()}


FAMILY = Family("ModernBERT", ("modernbert",), (), spec_of, sources_of)
