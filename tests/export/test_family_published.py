"""Families whose models have code of their own, against their published formulas in torch (published.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from embedrt import UnsupportedModelError
from embedrt_export import published
from embedrt_export.families import find_family
from embedrt_export.families.shapes import shapes_of
from tests.export.test_families import VOCAB, assert_close, texts
from tests.interpreter import run

NOMIC: dict[str, Any] = {  # nomic-embed-text-v1.5's, but for the sizes
    "model_type": "nomic_bert", "architectures": ["NomicBertModel"],
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "vocab_size": VOCAB - 3, "pad_vocab_size_multiple": 8, "n_embd": 48, "n_head": 4, "n_inner": 250, "n_layer": 2,
    "n_positions": 8192, "activation_function": "swiglu", "layer_norm_epsilon": 1e-12, "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None, "max_trained_positions": 2048, "qkv_proj_bias": False, "mlp_fc1_bias": False,
    "mlp_fc2_bias": False, "prenorm": False, "parallel_block": False, "parallel_block_tied_norm": False,
    "causal": False, "use_rms_norm": False, "type_vocab_size": 2, "attn_pdrop": 0.0, "resid_pdrop": 0.0,
    "embd_pdrop": 0.0, "fused_bias_fc": True, "fused_dropout_add_ln": True, "use_flash_attn": True,
    "use_xentropy": True, "dense_seq_output": True, "scale_attn_weights": True, "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False, "summary_type": "cls_index", "initializer_range": 0.02,
    "bos_token_id": None, "eos_token_id": None, "use_cache": True, "torch_dtype": "float32",
}  # fmt: skip
GTE: dict[str, Any] = {  # gte-multilingual-base's, but for the sizes
    "model_type": "new", "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "vocab_size": VOCAB, "hidden_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 80,
    "max_position_embeddings": 8192, "position_embedding_type": "rope", "rope_theta": 20000,
    "rope_scaling": {"factor": 8.0, "type": "ntk"}, "hidden_act": "gelu", "layer_norm_type": "layer_norm",
    "layer_norm_eps": 1e-12, "type_vocab_size": 1, "pack_qkv": True, "logn_attention_scale": False,
    "logn_attention_clip1": False, "unpad_inputs": "false", "use_memory_efficient_attention": "false",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.0, "classifier_dropout": 0.0, "pad_token_id": 1,
}  # fmt: skip
JINA: dict[str, Any] = {  # jina-embeddings-v2-base-en's, but for the sizes
    "model_type": "bert", "architectures": ["JinaBertForMaskedLM"],
    "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
    "vocab_size": VOCAB, "hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 2, "intermediate_size": 80,
    "max_position_embeddings": 8192, "model_max_length": 8192, "position_embedding_type": "alibi",
    "feed_forward_type": "geglu", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2,
    "emb_pooler": "mean", "attn_implementation": None, "hidden_dropout_prob": 0.1, "pad_token_id": 0,
}  # fmt: skip
CASES = {
    "nomic": (published.nomic, NOMIC),
    "nomic, other switches": (
        published.nomic,
        {
            **NOMIC, "rotary_emb_interleaved": True, "rotary_emb_fraction": 0.5, "activation_function": "geglu",
            "qkv_proj_bias": True, "mlp_fc1_bias": True, "mlp_fc2_bias": True,
        },
    ),
    "gte": (published.gte, GTE),
    "gte, not stretched, not packed": (
        published.gte,
        {**GTE, "rope_scaling": None, "pack_qkv": False, "type_vocab_size": 0, "rope_theta": 100},
    ),
    "gte, mixed": (published.gte, {**GTE, "rope_scaling": {"type": "ntk", "factor": 4.0, "mixed_b": 0.7}}),
    "jina": (published.jina, JINA),
    "jina, relu": (published.jina, {**JINA, "feed_forward_type": "reglu", "num_attention_heads": 4}),
}  # fmt: skip


def checkpoint(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Seeded weights with all names of the family, in torch's shapes; a packed one is its parts in a row."""
    family = find_family(config)
    assert family is not None
    shapes = shapes_of(family.spec_of(config))
    generator = torch.Generator().manual_seed(5)
    state: dict[str, torch.Tensor] = {}
    for to, source in family.sources_of(config).items():
        if source.names:
            shape = tuple(size or 2 for size in shapes[to])
            part = torch.randn(shape[::-1] if to.endswith(".weight") else shape, generator=generator)
            part = part * (0.25 if part.dim() == 2 else 0.3) + to.endswith(".gamma")
            name = source.names[0]
            state[name] = torch.cat((state[name], part)) if name in state else part
    return state


@pytest.mark.parametrize("name", CASES)
def test_a_family_computes_what_its_authors_published(name: str) -> None:
    formula, config = CASES[name]
    family = find_family(config)
    assert family is not None
    state = checkpoint(config)
    tensors = family.tensors_of(config, state)
    for ids in texts():
        expected = formula(config, state, ids).numpy()
        assert_close(run(family.spec_of(config), tensors, ids), expected)


def test_nomics_scaling_by_length_ends_the_texts_where_it_begins() -> None:
    family = find_family(NOMIC)
    assert family is not None
    assert family.spec_of(NOMIC).max_tokens == 8192
    assert family.spec_of({**NOMIC, "rotary_scaling_factor": 2}).max_tokens == 2048


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (NOMIC, {"moe_every_n_layers": 2}, "moe_every_n_layers 2"),
        (NOMIC, {"prenorm": True}, "prenorm True"),
        (NOMIC, {"activation_function": "glu"}, "activation_function 'glu'"),
        (NOMIC, {"rotary_emb_fraction": 0.0}, "rotary_emb_fraction 0.0"),
        (GTE, {"logn_attention_scale": True}, "logn_attention_scale True"),
        (GTE, {"position_embedding_type": "absolute"}, "position_embedding_type 'absolute'"),
        (JINA, {"feed_forward_type": "original"}, "feed_forward_type 'original'"),
        (JINA, {"position_embedding_type": None}, "position_embedding_type 'absolute'"),
    ],
)
def test_switches_that_no_published_model_has_are_refused(
    config: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    family = find_family(config)
    assert family is not None
    with pytest.raises(UnsupportedModelError, match=message):
        family.spec_of({**config, **changes})
