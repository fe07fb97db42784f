"""Gemma 3's text encoder (Gemma Team, 2025, arXiv:2503.19786) and EmbeddingGemma, which looks both ways."""

from __future__ import annotations

from embedrt.encoder import Attention, Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.rotary import Rotary, parameters_of, rotary
from embedrt_export.families.settings import Config, Settings, rms_norm
from embedrt_export.families.sources import Sources, constant, linear, numbered, one_plus, table

_ROTARY = {"full_attention": "global", "sliding_attention": "local"}
"""layer_types -> the spec's name of its frequencies."""


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("gemma3_text", config)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    s.only("attn_logit_softcapping", None)
    s.only("attention_bias", False, True)
    every_norm, rotaries, head_size = rms_norm(s.get("rms_norm_eps", 1e-6)), _rotaries(s), _head_size(s)
    both_ways, window = bool(s.get("use_bidirectional_attention", False)), int(s.get("sliding_window", 4096))

    def of(kind: str) -> Attention:
        return attention(
            heads,
            head_size,
            num_kv_heads=int(s.get("num_key_value_heads", 4)),
            scale=float(s.get("query_pre_attn_scalar", 256)) ** -0.5 * rotaries[kind].score_scale,
            causal=not both_ways,
            # `sliding_window` tokens in all: half of them on either side, or itself and those before it
            window=None if kind == "full_attention" else window // 2 if both_ways else window - 1,
            rotary=_ROTARY[kind],
            head_norm=every_norm,
        )

    ffn = FeedForward(
        int(s.need("intermediate_size")), s.activation("hidden_activation", "gelu_pytorch_tanh"), gated=True
    )
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=int(s.get("max_position_embeddings", 131_072)),
        embeddings=Embeddings(hidden, 0, None, has_token_types=False, scale=hidden**0.5, norm=None),
        blocks=blocks("sandwich", every_norm, [of(kind) for kind in _layer_types(s)], ffn),
        final_norm=every_norm,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from; norms scale by 1 + weight."""
    s = Settings("gemma3_text", config)
    bias, kinds = bool(s.get("attention_bias")), set(_layer_types(s))
    out = {"embeddings.word": table("embed_tokens.weight"), **one_plus("final_norm", "norm")}
    out |= {f"rotary.{_ROTARY[k]}.frequencies": constant(r.frequencies) for k, r in _rotaries(s).items() if k in kinds}
    block = {
        **one_plus("attention_norm", "input_layernorm"),
        **linear("query", "self_attn.q_proj", bias=bias),
        **linear("key", "self_attn.k_proj", bias=bias),
        **linear("value", "self_attn.v_proj", bias=bias),
        **linear("attention_output", "self_attn.o_proj", bias=bias),
        **one_plus("query_norm", "self_attn.q_norm"),
        **one_plus("key_norm", "self_attn.k_norm"),
        **one_plus("attention_after_norm", "post_attention_layernorm"),
        **one_plus("ffn_norm", "pre_feedforward_layernorm"),
        **linear("ffn_gate", "mlp.gate_proj", bias=False),
        **linear("ffn_up", "mlp.up_proj", bias=False),
        **linear("ffn_down", "mlp.down_proj", bias=False),
        **one_plus("ffn_after_norm", "post_feedforward_layernorm"),
    }
    for i in range(int(s.need("num_hidden_layers"))):
        out |= numbered(block, i, f"layers.{i}")
    return out


def _layer_types(s: Settings) -> list[str]:
    every = int(s.get("sliding_window_pattern", s.get("_sliding_window_pattern", 6)))
    by_number = [list(_ROTARY)[(i + 1) % every != 0] for i in range(int(s.need("num_hidden_layers")))]
    found = [str(kind) for kind in s.get("layer_types", by_number)]
    for kind in found:
        if kind not in _ROTARY:
            raise s.unsupported("layer_types", kind, " or ".join(_ROTARY))
    return found


def _head_size(s: Settings) -> int:
    return int(s.get("head_dim", 256))


def _rotaries(s: Settings) -> dict[str, Rotary]:
    """By layer type; windows are never stretched."""
    large = parameters_of(s, "full_attention", s.get("rope_theta", 1_000_000.0))
    small = parameters_of(s, "sliding_attention", s.get("rope_local_base_freq", 10_000.0), scaled=False)
    return {
        "full_attention": rotary(s, large, _head_size(s)),
        "sliding_attention": rotary(s, small, _head_size(s)),
    }


FAMILY = Family("Gemma 3", ("gemma3_text",), (), spec_of, sources_of)
