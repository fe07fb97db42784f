"""Files for llama.cpp with Q8_0 or bfloat16 weights: Qwen3's and EmbeddingGemma's encoders, without a tokenizer.

What is written where follows llama.cpp's own conversion (https://github.com/ggml-org/llama.cpp, conversion/qwen.py and
gemma.py); it is not used itself, because it takes only tokenizers that it knows, and the package does not carry it.
Token ids are given, so that the file needs none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize

ARCHITECTURES = {"qwen3": gguf.MODEL_ARCH.QWEN3, "gemma3_text": gguf.MODEL_ARCH.GEMMA_EMBEDDING}
"""transformers' `model_type` -> what llama.cpp calls it."""
TYPES = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "bf16": gguf.GGMLQuantizationType.BF16}


def write(model: Path, target: Path, weights: str) -> None:
    """Write the file `target` of the sentence-transformers directory `model`.

    Args:
        weights: a key of TYPES, of all matrices; vectors stay fp32.
    """
    from transformers import AutoModel

    encoder = AutoModel.from_pretrained(model).float()
    config = encoder.config
    architecture = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(target, gguf.MODEL_ARCH_NAMES[architecture])
    _describe(writer, config)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, tensor in encoder.state_dict().items():
        written = names.get_name(f"model.{name}", try_suffixes=(".weight",))
        if written is None:
            raise ValueError(f"{model}: llama.cpp has no name for {name}")
        values = tensor.numpy()
        if config.model_type == "gemma3_text" and name.endswith("norm.weight"):
            values = values + np.float32(1)  # transformers adds it in each call
        kind = TYPES[weights] if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(written, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: Any) -> None:
    rope = config.rope_parameters
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if "sliding_attention" in rope:
        writer.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
        # transformers sees what is less than the window away, llama.cpp up to half of its number, included
        writer.add_sliding_window(2 * (config.sliding_window - 1))
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(config.vocab_size)
