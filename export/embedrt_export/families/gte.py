"""GTE's encoder (Zhang et al., 2024, arXiv:2407.19669), "new" in its own code: BERT with rotary positions, gated FFN.

transformers 5 has a class for it, "gte", and keeps the names of the checkpoint.
"""

from __future__ import annotations

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward, Norm
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.rotary import Rotary, parameters, rotary
from embedrt_export.families.settings import Config, Settings
from embedrt_export.families.sources import Sources, constant, linear, norm, numbered, packed, table
from embedrt_export.families.version_5 import renamed

_NORMS = {"layer_norm": "layer", "rms_norm": "rms"}


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings(str(config["model_type"]), config)
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    s.only("position_embedding_type", "rope")
    s.only("logn_attention_scale", False)
    s.only("logn_attention_clip1", False, True)  # of the scale that is off
    s.only("pack_qkv", True, False)
    every_norm = Norm(_norm_kind(s), float(s.get("layer_norm_eps", 1e-12)))  # type: ignore[arg-type]
    rotated, head_size = _rotary(s), _head_size(s)
    one = attention(heads, head_size, scale=head_size**-0.5 * rotated.score_scale, rotary="global")
    ffn = FeedForward(int(s.need("intermediate_size")), s.activation("hidden_act", "gelu"), gated=True)
    spec = EncoderSpec(
        hidden_size=hidden,
        vocab_size=int(s.need("vocab_size")),
        max_tokens=int(s.get("max_position_embeddings", 8192)),
        embeddings=Embeddings(hidden, 0, None, _has_types(s), scale=1.0, norm=every_norm),
        blocks=blocks("post", every_norm, [one] * int(s.need("num_hidden_layers")), ffn),
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings(str(config["model_type"]), config)
    hidden, inner, beta = int(s.need("hidden_size")), int(s.need("intermediate_size")), _norm_kind(s) == "layer"
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        **norm("embeddings.norm", "embeddings.LayerNorm", bias=beta),
        "rotary.global.frequencies": constant(_rotary(s).frequencies),
    }
    if _has_types(s):
        out["embeddings.token_type"] = table("embeddings.token_type_embeddings.weight")
    block = {
        **linear("attention_output", "attention.o_proj"),
        **norm("attention_norm", "attn_ln", bias=beta),
        **packed({"ffn_up": inner, "ffn_gate": inner}, "mlp.up_gate_proj", bias=False),
        **linear("ffn_down", "mlp.down_proj"),
        **norm("ffn_norm", "mlp_ln", bias=beta),
    }
    if s.get("pack_qkv", True):
        block |= packed(dict.fromkeys(("query", "key", "value"), hidden), "attention.qkv_proj")
    else:
        for to in ("query", "key", "value"):
            block |= linear(to, f"attention.{to[0]}_proj")
    for i in range(int(s.need("num_hidden_layers"))):
        out |= numbered(block, i, f"encoder.layer.{i}")
    return out


def version_5_sources_of(config: Config) -> Sources:
    """The same, named as transformers 5 does."""
    s = Settings(str(config["model_type"]), config)
    layers, beta = int(s.need("num_hidden_layers")), _norm_kind(s) == "layer"
    return renamed(sources_of(config), layers, attention_bias=True, up_bias=False, down_bias=True, beta=beta)


def _head_size(s: Settings) -> int:
    heads = int(s.need("num_attention_heads"))
    return int(s.only("head_dim", s.shared("hidden_size", int(s.need("hidden_size")), heads)))


def _rotary(s: Settings) -> Rotary:
    own = s.family == "new" or s.get("position_embedding_type") is not None  # its own code has another default
    return rotary(s, parameters(s, 10_000.0 if own else 160_000.0), _head_size(s))


def _norm_kind(s: Settings) -> str:
    return _NORMS[s.only("layer_norm_type", *_NORMS)]


def _has_types(s: Settings) -> bool:
    return int(s.get("type_vocab_size", 1)) > 0


FAMILY = Family(
    "GTE", ("new", "gte"), ("NewModel", "GteModel"), spec_of, sources_of, other_sources_of=version_5_sources_of
)
