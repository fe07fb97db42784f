"""Encoders of other families than BERT's with the shapes of published ones and seeded weights, for `python -m bench`.

Speed does not depend on the values of weights, nor on how many rows a table of tokens has: the tables hold the 30,522
words of all-MiniLM-L6-v2's tokenizer, which all of them are given, and outputs are mean-pooled and normalized, as those
of every other model here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.models import minilm, write_pipeline
from bench.paths import cache_dir, whole_or_nothing

RECIPE = 2  # raise it when what is written below changes
_MAX_TOKENS = 512
_VOCABULARY = {"vocab_size": 30_522, "pad_token_id": 0}
_FRAME = {"bos_token_id": 101, "eos_token_id": 102}  # [CLS], [SEP]


@dataclass(frozen=True)
class Shape:
    """One published size."""

    like: str  # the model that has it
    config: str  # class of transformers
    model: str
    numbers: dict[str, Any]


SHAPES = {
    "modernbert": Shape("answerdotai/ModernBERT-base", "ModernBertConfig", "ModernBertModel", {
        **_FRAME, "cls_token_id": 101, "sep_token_id": 102, "hidden_size": 768, "num_hidden_layers": 22,
        "num_attention_heads": 12, "intermediate_size": 1152,
    }),
    "nomic": Shape("nomic-ai/nomic-embed-text-v1.5", "NomicBertConfig", "NomicBertModel", {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    }),
    "gte": Shape("Alibaba-NLP/gte-multilingual-base", "GteConfig", "GteModel", {
        "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    }),
    "qwen3": Shape("Qwen/Qwen3-Embedding-0.6B", "Qwen3Config", "Qwen3Model", {
        **_FRAME, "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 3072, "rms_norm_eps": 1e-6,
    }),
    "gemma": Shape("google/embeddinggemma-300m", "Gemma3TextConfig", "Gemma3TextModel", {
        **_FRAME, "hidden_size": 768, "num_hidden_layers": 24, "num_attention_heads": 3, "num_key_value_heads": 1,
        "head_dim": 256, "intermediate_size": 1152, "use_bidirectional_attention": True, "sliding_window": 512,
        "query_pre_attn_scalar": 256,
    }),
}  # fmt: skip
"""Name for `--model` -> shape."""


def seeded_family(name: str, layers: int | None = None) -> Path:
    """A sentence-transformers directory of SHAPES[name]; made once, then cached.

    Args:
        layers: of the encoder; None is the real depth, fewer are for trying the benchmark out.
    """
    shape = SHAPES[name]
    numbers = {**_VOCABULARY, **shape.numbers, **({"num_hidden_layers": layers} if layers else {})}
    target = cache_dir() / "models" / f"{name}-{numbers['num_hidden_layers']}l-r{RECIPE}"
    if not (target / "modules.json").is_file():
        with whole_or_nothing(target) as directory:
            model = _seeded(shape, numbers)
            model.save_pretrained(directory)
            _copy_tokenizer(directory)
            write_pipeline(directory, hidden=numbers["hidden_size"], max_tokens=_MAX_TOKENS)
            note = {"weights": f"seeded, of {shape.like}'s shape", "tokenizer": "all-MiniLM-L6-v2's"}
            detail = note | {"work": _work(model)}
            (directory / "provenance.json").write_text(json.dumps(detail, indent=1) + "\n")
    return target


def _seeded(shape: Shape, numbers: dict[str, Any]) -> Any:
    """Outputs are most of all their tokens' own rows, as those of trained encoders are, with a little from each layer:
    wider weights multiply int8's error from layer to layer, until the export refuses it."""
    import torch
    import transformers

    build: Callable[[Any], Any] = getattr(transformers, shape.model)
    torch.manual_seed(0)
    model = build(getattr(transformers, shape.config)(**numbers))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.Linear | torch.nn.Embedding):
                part.weight.normal_(0, 1.0 if part is model.get_input_embeddings() else 0.02)
    return model.eval()


def _copy_tokenizer(directory: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(minilm(), model_max_length=_MAX_TOKENS).save_pretrained(directory)


def _work(model: Any) -> dict[str, int]:
    """What `bench.models.ModelFacts` counts: weights of linear layers, and multiplications of both products of
    attention per pair of tokens. Windows and causality are not counted with: all pairs of a text are."""
    import torch

    linear = sum(one.weight.numel() for one in model.modules() if isinstance(one, torch.nn.Linear))
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {"linear": linear, "attention": 2 * config.num_hidden_layers * config.num_attention_heads * size}
