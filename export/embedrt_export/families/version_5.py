"""The names that transformers 5's classes of NomicBERT and GTE have in memory; on disk they keep their authors'."""

from __future__ import annotations

from embedrt_export.families.sources import Sources, linear, norm, numbered


def renamed(own: Sources, layers: int, *, attention_bias: bool, up_bias: bool, down_bias: bool, beta: bool) -> Sources:
    """The sources of an encoder of `layers`, from those of its authors' names; its tables are called the same."""
    out = {to: source for to, source in own.items() if not to.startswith("layers.")}
    out |= norm("embeddings.norm", "embeddings.LayerNorm", bias=beta)
    block = {
        **linear("query", "self_attn.q_proj", bias=attention_bias),
        **linear("key", "self_attn.k_proj", bias=attention_bias),
        **linear("value", "self_attn.v_proj", bias=attention_bias),
        **linear("attention_output", "self_attn.o_proj", bias=attention_bias),
        **norm("attention_norm", "post_attention_layernorm", bias=beta),
        **linear("ffn_gate", "mlp.gate_proj", bias=up_bias),
        **linear("ffn_up", "mlp.up_proj", bias=up_bias),
        **linear("ffn_down", "mlp.down_proj", bias=down_bias),
        **norm("ffn_norm", "post_mlp_layernorm", bias=beta),
    }
    for i in range(layers):
        out |= numbered(block, i, f"layers.{i}")
    return out
