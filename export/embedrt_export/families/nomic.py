"""NomicBERT (Nussbaum et al., 2024, arXiv:2402.01613): BERT with rotary positions and SwiGLU, mostly without biases.

config.json speaks as the model's own code does, with GPT-2's names, or as transformers 5 does, which keeps the names of
the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedrt.encoder import Embeddings, EncoderSpec, FeedForward
from embedrt_export.families.blocks import attention, blocks
from embedrt_export.families.family import Family
from embedrt_export.families.rotary import Rotary, parameters, rotary
from embedrt_export.families.settings import Config, Settings, layer_norm
from embedrt_export.families.sources import Sources, constant, linear, norm, numbered, packed, table
from embedrt_export.families.version_5 import renamed

_GATED = {"swiglu": "silu", "geglu": "gelu"}
_OFF = {
    "prenorm": False, "parallel_block": False, "causal": False, "use_rms_norm": False, "rotary_head_dim": False,
    "scale_attn_by_inverse_layer_idx": False, "moe_every_n_layers": 0, "rotary_emb_scale_base": None,
}  # fmt: skip
"""Settings of the model's own code that are supported as they are in the published models only."""
_NOT_READ = (
    "parallel_block_tied_norm", "dense_seq_output", "scale_attn_weights", "reorder_and_upcast_attn",
    "add_pooling_layer", "rotary_emb_dim", "max_position_embeddings", "n_ctx",
    "moe_impl", "moe_normalize_expert_weights", "moe_resid_pdrop", "moe_top_k", "num_experts", "num_shared_experts",
    "expert_choice_router", "ffn_div",
)  # fmt: skip
"""Settings that its code does not read, or reads for the switches that are off only."""


@dataclass(frozen=True)
class _Sizes:
    """What both spellings say."""

    hidden: int
    heads: int
    layers: int
    inner: int
    activation: str
    epsilon: float
    max_tokens: int
    rotary: Rotary
    interleaved: bool
    attention_bias: bool
    up_bias: bool
    down_bias: bool


def spec_of(config: Config) -> EncoderSpec:
    """What config.json says."""
    s = Settings("nomic_bert", config)
    sizes = _sizes(s)
    every_norm, head_size = layer_norm(sizes.epsilon), s.shared("n_embd", sizes.hidden, sizes.heads)
    one = attention(
        sizes.heads,
        head_size,
        scale=head_size**-0.5 * sizes.rotary.score_scale,
        rotary="global",
        rotary_interleaved=sizes.interleaved,
    )
    spec = EncoderSpec(
        hidden_size=sizes.hidden,
        vocab_size=_vocab_size(s),
        max_tokens=sizes.max_tokens,
        embeddings=Embeddings(sizes.hidden, 0, None, int(s.get("type_vocab_size", 2)) > 0, scale=1.0, norm=every_norm),
        blocks=blocks("post", every_norm, [one] * sizes.layers, FeedForward(sizes.inner, sizes.activation, gated=True)),  # type: ignore[arg-type]
        final_norm=None,
    )
    s.finish()
    return spec


def sources_of(config: Config) -> Sources:
    """Where the tensors come from."""
    s = Settings("nomic_bert", config)
    sizes = _sizes(s)
    out = {
        "embeddings.word": table("embeddings.word_embeddings.weight"),
        **norm("embeddings.norm", "emb_ln"),
        "rotary.global.frequencies": constant(sizes.rotary.frequencies),
    }
    if int(s.get("type_vocab_size", 2)):
        out["embeddings.token_type"] = table("embeddings.token_type_embeddings.weight")
    block = {
        **packed(dict.fromkeys(("query", "key", "value"), sizes.hidden), "attn.Wqkv", bias=sizes.attention_bias),
        **linear("attention_output", "attn.out_proj", bias=sizes.attention_bias),
        **norm("attention_norm", "norm1"),
        **linear("ffn_up", "mlp.fc11", bias=sizes.up_bias),
        **linear("ffn_gate", "mlp.fc12", bias=sizes.up_bias),
        **linear("ffn_down", "mlp.fc2", bias=sizes.down_bias),
        **norm("ffn_norm", "norm2"),
    }
    for i in range(sizes.layers):
        out |= numbered(block, i, f"encoder.layers.{i}")
    return out


def version_5_sources_of(config: Config) -> Sources:
    """The same, named as transformers 5 does."""
    sizes = _sizes(Settings("nomic_bert", config))
    return renamed(
        sources_of(config),
        sizes.layers,
        attention_bias=sizes.attention_bias,
        up_bias=sizes.up_bias,
        down_bias=sizes.down_bias,
        beta=True,
    )


def _sizes(s: Settings) -> _Sizes:
    return _own_sizes(s) if s.get("n_embd") is not None else _version_5_sizes(s)


def _own_sizes(s: Settings) -> _Sizes:
    for key, value in _OFF.items():
        s.only(key, value)
    s.ignore(*_NOT_READ)
    hidden, heads = int(s.need("n_embd")), int(s.need("n_head"))
    share = float(s.get("rotary_emb_fraction", 0.0))
    if share <= 0:
        raise s.unsupported("rotary_emb_fraction", share, "a share of rotary positions")
    found = {"rope_theta": s.get("rotary_emb_base", 10_000), "partial_rotary_factor": share}
    # A scaling factor works by the length of the text, beyond those of training only.
    most = int(s.get("n_positions", 2048))
    scaled, trained = s.get("rotary_scaling_factor"), int(s.get("max_trained_positions", 2048))
    inner = int(s.get("n_inner") or 8 * hidden // 3)
    return _Sizes(
        hidden=hidden,
        heads=heads,
        layers=int(s.need("n_layer")),
        inner=-(-inner // 256) * 256,
        activation=_GATED[s.only("activation_function", *_GATED)],
        epsilon=float(s.get("layer_norm_epsilon", 1e-5)),
        max_tokens=min(most, trained) if scaled else most,
        rotary=rotary(s, found, s.shared("n_embd", hidden, heads)),
        interleaved=bool(s.only("rotary_emb_interleaved", False, True)),
        attention_bias=bool(s.only("qkv_proj_bias", True, False)),
        up_bias=bool(s.only("mlp_fc1_bias", True, False)),
        down_bias=bool(s.only("mlp_fc2_bias", True, False)),
    )


def _version_5_sizes(s: Settings) -> _Sizes:
    hidden, heads = int(s.need("hidden_size")), int(s.need("num_attention_heads"))
    return _Sizes(
        hidden=hidden,
        heads=heads,
        layers=int(s.need("num_hidden_layers")),
        inner=int(s.need("intermediate_size")),
        activation=s.activation("hidden_act", "silu"),
        epsilon=float(s.get("layer_norm_eps", 1e-12)),
        max_tokens=int(s.get("max_position_embeddings", 2048)),
        rotary=rotary(s, parameters(s, 1000.0), s.only("head_dim", s.shared("hidden_size", hidden, heads))),
        interleaved=False,
        attention_bias=False,
        up_bias=False,
        down_bias=False,
    )


def _vocab_size(s: Settings) -> int:
    """Rounded up as the model's own code does."""
    multiple = int(s.get("pad_vocab_size_multiple", 1))
    return -(-int(s.need("vocab_size")) // multiple) * multiple


FAMILY = Family(
    "NomicBERT", ("nomic_bert",), ("NomicBertModel",), spec_of, sources_of, other_sources_of=version_5_sources_of
)
