"""Small seeded models of pairs, made in-process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tests import tiny
from tests.training import learn_merges, numbered, words_of

_SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
_NAMES = {
    "bert": "Bert",
    "xlmr": "XLMRoberta",
    "distilbert": "DistilBert",
    "mpnet": "MPNet",
    "modernbert": "ModernBert",
    "qwen3": "Qwen3",
    "albert": "Albert",
    "electra": "Electra",
}
CLASSES: dict[str, Any] = {  # that this transformers has
    family: getattr(transformers, f"{name}ForSequenceClassification")
    for family, name in _NAMES.items()
    if hasattr(transformers, f"{name}ForSequenceClassification")
}
_MORE: dict[str, Any] = {
    "albert": lambda: transformers.AlbertConfig(
        vocab_size=400, embedding_size=32, max_position_embeddings=64, hidden_act="gelu", **_SHAPE
    ),
    "electra": lambda: transformers.ElectraConfig(
        vocab_size=400, embedding_size=32, max_position_embeddings=64, **_SHAPE
    ),
}
SCALE = {"qwen3": 0.2}


def save_classifier(folder: Path, family: str = "bert", *, num_labels: int = 1, seed: int = 0, **config: Any) -> Path:
    """A `*ForSequenceClassification`'s directory, whose token types differ."""
    if family in _MORE:
        made, tokenizer = _MORE[family](), tiny._bert_tokenizer()
    else:
        made, _, tokenizer = tiny.FAMILIES[family]()
    for key, value in {"num_labels": num_labels, **config}.items():
        setattr(made, key, value)
    torch.manual_seed(seed)
    model = CLASSES[family](made)
    tiny.spread(model, 0.2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("classifier.weight", "out_proj.weight", "score.weight")):
                parameter *= 4  # logits as far apart as trained ones
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen_tokenizer(chat_template: str | None = None) -> Any:
    """Byte-level BPE as Qwen's, without special tokens around a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    symbols, merges = learn_merges(words_of(tokenizer, tiny.CORPUS), 220)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.model = models.BPE(numbered([*special, *alphabet, *symbols]), merges)
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(["yes", "no"])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>", padding_side="left",
        model_max_length=512, chat_template=chat_template, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def save_answerer(folder: Path, chat_template: str | None = None, **config: Any) -> Path:
    """A Qwen3ForCausalLM's directory; skips the test where this transformers has no such class."""
    if not hasattr(transformers, "Qwen3Config"):
        pytest.skip("this transformers has no Qwen3")
    torch.manual_seed(0)
    made = transformers.Qwen3Config(
        vocab_size=400, max_position_embeddings=512, num_key_value_heads=1, head_dim=32, pad_token_id=0, **_SHAPE,
        **config,
    )  # fmt: skip
    model = transformers.Qwen3ForCausalLM(made)
    tiny.spread(model, 0.1)
    model.eval().save_pretrained(folder)
    qwen_tokenizer(chat_template).save_pretrained(folder)
    return folder
