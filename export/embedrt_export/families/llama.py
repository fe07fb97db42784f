"""Llama (Touvron et al., 2023, arXiv:2302.13971) and what has its blocks: Mistral, Qwen 2 and 3, EuroBERT."""

from __future__ import annotations

from embedrt.encoder import Attention, Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.rotary import Rotary, parameters, rotary
from embedrt_export.families.settings import Config, Settings, rms_norm
from embedrt_export.families.sources import Sources, constant, linear, norm, numbered, table

_WINDOWED = ("mistral", "qwen2", "qwen3")
_SWITCHED = ("qwen2", "qwen3")  # use_sliding_window, and windows from a layer on


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings(str(config["model_type"]), config)
    hidden, heads, kv_heads = int(s.need("hidden_size")), int(s.need("num_attention_heads")), _kv_heads(s)
    _check_switches(s)
    every_norm = rms_norm(s.get("rms_norm_eps", 1e-5 if s.family == "eurobert" else 1e-6))
    rotated, head_size = _rotary(s), _head_size(s)

    def of(window: int | None) -> Attention:
        return attention(
            heads,
            head_size,
            num_kv_heads=kv_heads,
            scale=head_size**-0.5 * rotated.score_scale,
            causal=s.family != "eurobert",
            window=window,
            rotary="global",
            head_norm=every_norm if s.family == "qwen3" else None,
        )

    ffn = FeedForward(int(s.need("intermediate_size")), s.activation("hidden_act", "silu"), gated=True)
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=int(s.need("max_position_embeddings")),
        embeddings=Embeddings(hidden, 0, None, has_token_types=False, scale=1.0, norm=None),
        blocks=blocks("pre", every_norm, [of(window) for window in _windows(s)], ffn),
        final_norm=every_norm,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings(str(config["model_type"]), config)
    bias, ffn_bias = bool(s.get("attention_bias")), bool(s.get("mlp_bias"))
    into = bias or s.family == "qwen2"  # which has them there without a setting
    out = {
        "embeddings.word": table("embed_tokens.weight"),
        **norm("final_norm", "norm", bias=False),
        "rotary.global.frequencies": constant(_rotary(s).frequencies),
    }
    block = {
        **norm("attention_norm", "input_layernorm", bias=False),
        **linear("query", "self_attn.q_proj", bias=into),
        **linear("key", "self_attn.k_proj", bias=into),
        **linear("value", "self_attn.v_proj", bias=into),
        **linear("attention_output", "self_attn.o_proj", bias=bias),
        **norm("ffn_norm", "post_attention_layernorm", bias=False),
        **linear("ffn_gate", "mlp.gate_proj", bias=ffn_bias),
        **linear("ffn_up", "mlp.up_proj", bias=ffn_bias),
        **linear("ffn_down", "mlp.down_proj", bias=ffn_bias),
    }
    if s.family == "qwen3":
        block |= norm("query_norm", "self_attn.q_norm", bias=False)
        block |= norm("key_norm", "self_attn.k_norm", bias=False)
    for i in range(int(s.need("num_hidden_layers"))):
        out |= numbered(block, i, f"layers.{i}")
    return out


def _check_switches(s: Settings) -> None:
    """Biases are where the class has the setting, which it obeys."""
    s.only("attention_bias", False, *((True,) if s.family not in ("mistral", "qwen2") else ()))
    s.only("mlp_bias", False, *((True,) if s.family in ("llama", "eurobert") else ()))
    s.only("is_causal", True)  # no class obeys it


def _kv_heads(s: Settings) -> int:
    """Left out or null: version 4's defaults, by family."""
    heads = int(s.need("num_attention_heads"))
    return int(s.stated("num_key_value_heads", {"mistral": 8, "qwen2": 32, "qwen3": 32}.get(s.family)) or heads)


def _head_size(s: Settings) -> int:
    if s.family == "qwen3":
        return int(s.get("head_dim", 128))
    return s.head_size(int(s.need("num_attention_heads")))


def _rotary(s: Settings) -> Rotary:
    return rotary(s, parameters(s, 10_000.0), _head_size(s))


def _windows(s: Settings) -> list[int | None]:
    """Of each block: a token sees itself and as many before it, `sliding_window` together."""
    size, layers = s.stated("sliding_window", 4096), int(s.need("num_hidden_layers"))
    window = None if size is None or s.family not in _WINDOWED else int(size) - 1
    if s.family not in _SWITCHED:
        return [window] * layers
    first = int(s.get("max_window_layers", 28))
    used = bool(s.get("use_sliding_window", False))
    by_number = ["sliding_attention" if used and i >= first else "full_attention" for i in range(layers)]
    kinds = s.get("layer_types", by_number)
    return [window if used and kind == "sliding_attention" else None for kind in kinds]


FAMILY = Family("Llama", ("llama", "mistral", "qwen2", "qwen3", "eurobert"), ("EuroBertModel",), spec_of, sources_of)
