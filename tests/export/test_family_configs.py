"""Configs with the keys that published models have: nothing of them may be refused, and the numbers are theirs."""

from __future__ import annotations

from typing import Any

import pytest

from embedrt_export.families import find_family

_TRANSFORMERS: dict[str, Any] = {
    "architectures": ["SomeModel"], "torch_dtype": "float32", "transformers_version": "4.40.0", "use_cache": True,
    "initializer_range": 0.02, "_name_or_path": "x",
}  # fmt: skip
_BERT: dict[str, Any] = {
    **_TRANSFORMERS, "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "sentence-transformers/LaBSE": {
        **_BERT, "model_type": "bert", "directionality": "bidi", "hidden_size": 768, "intermediate_size": 3072,
        "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "type_vocab_size": 2, "vocab_size": 501153,
    },
    "BAAI/bge-m3": {
        **_BERT, "model_type": "xlm-roberta", "bos_token_id": 0, "eos_token_id": 2, "hidden_size": 1024,
        "intermediate_size": 4096, "layer_norm_eps": 1e-05, "max_position_embeddings": 8194,
        "num_attention_heads": 16, "num_hidden_layers": 24, "output_past": True, "pad_token_id": 1,
        "type_vocab_size": 1, "vocab_size": 250002,
    },
    "answerdotai/ModernBERT-base": {
        **_TRANSFORMERS, "model_type": "modernbert", "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 50281, "classifier_activation": "gelu", "classifier_bias": False, "classifier_dropout": 0.0,
        "classifier_pooling": "mean", "cls_token_id": 50281, "decoder_bias": True, "deterministic_flash_attn": False,
        "embedding_dropout": 0.0, "eos_token_id": 50282, "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0, "gradient_checkpointing": False, "hidden_activation": "gelu",
        "hidden_size": 768, "initializer_cutoff_factor": 2.0, "intermediate_size": 1152, "layer_norm_eps": 1e-05,
        "local_attention": 128, "local_rope_theta": 10000.0, "max_position_embeddings": 8192, "mlp_bias": False,
        "mlp_dropout": 0.0, "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 12, "num_hidden_layers": 22,
        "pad_token_id": 50283, "position_embedding_type": "absolute", "reference_compile": None,
        "repad_logits_with_grad": False, "sep_token_id": 50282, "sparse_pred_ignore_index": -100,
        "sparse_prediction": False, "tie_word_embeddings": True, "vocab_size": 50368,
    },
    "Qwen/Qwen3-Embedding-0.6B": {
        **_TRANSFORMERS, "model_type": "qwen3", "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151643, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024,
        "intermediate_size": 3072, "max_position_embeddings": 32768, "max_window_layers": 28,
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True,
        "use_sliding_window": False, "vocab_size": 151669,
    },
    "google/embeddinggemma-300m": {
        **_TRANSFORMERS, "model_type": "gemma3_text", "_sliding_window_pattern": 6, "attention_bias": False,
        "attention_dropout": 0.0, "attn_logit_softcapping": None, "bos_token_id": 2, "dtype": "float32",
        "eos_token_id": 1, "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 768, "intermediate_size": 1152,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 4, "max_position_embeddings": 2048,
        "num_attention_heads": 3, "num_hidden_layers": 24, "num_key_value_heads": 1, "pad_token_id": 0,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "rope_theta": 1000000.0, "sliding_window": 512, "use_bidirectional_attention": True, "vocab_size": 262144,
    },
    "intfloat/e5-mistral-7b-instruct": {
        **_TRANSFORMERS, "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "pad_token_id": 2, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
    },
    "sentence-transformers/sentence-t5-base": {
        **_TRANSFORMERS, "model_type": "t5", "d_ff": 3072, "d_kv": 64, "d_model": 768, "decoder_start_token_id": 0,
        "dense_act_fn": "relu", "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "relu",
        "gradient_checkpointing": False, "initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": False,
        "layer_norm_epsilon": 1e-06, "n_positions": 512, "num_decoder_layers": 12, "num_heads": 12, "num_layers": 12,
        "output_past": True, "pad_token_id": 0, "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32, "task_specific_params": {"summarization": {"num_beams": 4}},
        "vocab_size": 32128,
    },
    "sentence-transformers/paraphrase-albert-small-v2": {
        **_BERT, "model_type": "albert", "bos_token_id": 2, "classifier_dropout_prob": 0.1, "down_scale_factor": 1,
        "embedding_size": 128, "eos_token_id": 3, "gap_size": 0, "hidden_act": "gelu_new", "hidden_size": 768,
        "inner_group_num": 1, "intermediate_size": 3072, "layers_to_keep": [], "max_position_embeddings": 512,
        "net_structure_type": 0, "num_attention_heads": 12, "num_hidden_groups": 1, "num_hidden_layers": 6,
        "num_memory_blocks": 0, "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": 30000,
    },
}  # fmt: skip
NUMBERS = {  # layers, hidden size, query and key heads, their size, tokens, windows of the first six blocks
    "sentence-transformers/LaBSE": (12, 768, 12, 12, 64, 512, [None] * 6),
    "BAAI/bge-m3": (24, 1024, 16, 16, 64, 8192, [None] * 6),
    "answerdotai/ModernBERT-base": (22, 768, 12, 12, 64, 8192, [None, 64, 64] * 2),
    "Qwen/Qwen3-Embedding-0.6B": (28, 1024, 16, 8, 128, 32768, [None] * 6),
    "google/embeddinggemma-300m": (24, 768, 3, 1, 256, 2048, [256] * 5 + [None]),
    "intfloat/e5-mistral-7b-instruct": (32, 4096, 32, 8, 128, 32768, [4095] * 6),
    "sentence-transformers/sentence-t5-base": (12, 768, 12, 12, 64, None, [None] * 6),
    "sentence-transformers/paraphrase-albert-small-v2": (6, 768, 12, 12, 64, 512, [None] * 6),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_config_is_read_whole(name: str) -> None:
    family = find_family(CONFIGS[name])
    assert family is not None
    spec = family.spec_of(CONFIGS[name])
    one = spec.blocks[0].attention
    windows = [block.attention.window for block in spec.blocks[:6]]
    assert (
        len(spec.blocks), spec.hidden_size, one.num_heads, one.num_kv_heads, one.head_size, spec.max_tokens, windows,
    ) == NUMBERS[name]  # fmt: skip
    assert "embeddings.word" in family.sources_of(CONFIGS[name])
