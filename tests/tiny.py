"""Small seeded models with whole sentence-transformers pipelines, made in-process: no network, no files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import Tokenizer

from tests.tiny_tokenizers import CORPUS as CORPUS
from tests.tiny_tokenizers import unigram_json as unigram_json
from tests.tiny_tokenizers import wordpiece_json as wordpiece_json


def _bert_tokenizer() -> Any:
    return transformers.BertTokenizerFast(tokenizer_object=Tokenizer.from_str(wordpiece_json()), model_max_length=64)


def _typeless_tokenizer() -> Any:
    """As BERT's, but without token types, for DistilBERT, MPNet and ModernBERT."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(wordpiece_json()),
        cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def _xlmr_tokenizer() -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(unigram_json()),
        bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=64,
    )  # fmt: skip


_SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}

# name -> (config, model class, tokenizer)
FAMILIES: dict[str, Any] = {
    "bert": lambda: (
        transformers.BertConfig(vocab_size=400, max_position_embeddings=64, **_SHAPE),
        transformers.BertModel,
        _bert_tokenizer(),
    ),
    "xlmr": lambda: (
        transformers.XLMRobertaConfig(
            vocab_size=320, max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **_SHAPE
        ),
        transformers.XLMRobertaModel,
        _xlmr_tokenizer(),
    ),
    "distilbert": lambda: (
        transformers.DistilBertConfig(
            vocab_size=400, max_position_embeddings=64, dim=64, n_layers=2, n_heads=2, hidden_dim=128
        ),
        transformers.DistilBertModel,
        _typeless_tokenizer(),
    ),
    "mpnet": lambda: (
        transformers.MPNetConfig(vocab_size=400, max_position_embeddings=66, pad_token_id=1, **_SHAPE),
        transformers.MPNetModel,
        _typeless_tokenizer(),
    ),
    "modernbert": lambda: (
        transformers.ModernBertConfig(
            vocab_size=400, max_position_embeddings=64, pad_token_id=0, local_attention=8, reference_compile=False,
            **{**_SHAPE, "num_hidden_layers": 3},  # the first layer attends globally, the others within 8 tokens
        ),
        transformers.ModernBertModel,
        _typeless_tokenizer(),
    ),
    "qwen3": lambda: (
        transformers.Qwen3Config(
            vocab_size=400, max_position_embeddings=64, num_key_value_heads=1, head_dim=16, pad_token_id=0, **_SHAPE
        ),
        transformers.Qwen3Model,
        _typeless_tokenizer(),
    ),
}  # fmt: skip


def spread(model: torch.nn.Module, scale: float = 0.15) -> None:
    """Weights large enough that different texts get different vectors: the usual 0.02 makes all alike.

    With 0.25 the int8 variants of so narrow models lie at their gates, on this or that side by chance.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, 1.0 if "embeddings" in name else scale)


def save_encoder(
    folder: Path,
    family: str,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    activation: str | None = None,
) -> Path:
    """A plain transformers directory."""
    config, model_class, tokenizer = FAMILIES[family]()
    if activation is not None:
        config.hidden_act = activation
    torch.manual_seed(seed)
    model = model_class(config)
    spread(model)
    model.eval().to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_pipeline(
    folder: Path,
    family: str = "bert",
    *,
    pooling: str | Sequence[str] = "mean",
    dense: Sequence[int] = (),
    normalize: bool = True,
    max_tokens: int = 48,
    prompts: dict[str, str] | None = None,
    default_prompt_name: str | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    activation: str | None = None,
) -> Path:
    """A sentence-transformers directory: Transformer, Pooling, a Dense with Tanh per width in `dense`, Normalize."""
    encoder = Transformer(
        str(save_encoder(folder / "encoder", family, seed, dtype, activation)), max_seq_length=max_tokens
    )
    modules: list[Any] = [encoder, Pooling(64, pooling_mode=pooling if isinstance(pooling, str) else tuple(pooling))]
    width = modules[1].pooling_output_dimension
    for out in dense:
        modules.append(Dense(width, out))
        width = out
    if normalize:
        modules.append(Normalize())
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name=default_prompt_name)
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    return folder / "model"


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON object in place."""
    data = json.loads(path.read_text())
    data.update(changes)
    path.write_text(json.dumps(data))


def imitate_training(encoder: Any, seed: int = 0) -> None:
    """Give a BERT-like encoder of initial weights what int8 meets in trained ones; texts then get vectors of their own.

    As all-MiniLM-L6-v2, multilingual-e5-small and all-mpnet-base-v2, measured on the parity texts, it has

    - three loud channels, which the first norm of a layer makes (theirs by gains of 2 to 6 times the median) and the
      second one takes back (0.2 to 0.8 times): they are 0.2 to 0.6 of the squares that the FFN reads, 0.02 to 0.2 of
      those that attention reads, and no more than 0.02 of how texts' vectors vary;
    - words' embeddings 2 to 3 times as large as positions' and types', which all texts share;
    - queries and keys 2 to 4 times as strong as initial weights make them, values and outputs up to twice: in the last
      layer attention moves the first token's state by half of its length or more, most of it by what the text is.

    Loud channels in the last norm would be nearly the whole vector: 2 effective dimensions instead of their 40, and
    cosines so near each other that their ranks measure noise. Two channels of each FFN are stuck at 15.
    """
    generator = torch.Generator().manual_seed(seed)
    loud = torch.randperm(encoder.config.hidden_size, generator=generator)[:3]
    stuck = torch.randperm(encoder.config.intermediate_size, generator=generator)[:2]
    scales = {"position_embeddings.weight": 1 / 3, "token_type_embeddings.weight": 1 / 3, "query.weight": 2,
              "key.weight": 2, "value.weight": 2, "attention.output.dense.weight": 2}  # fmt: skip
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("intermediate.dense.bias"):
                parameter[stuck] += 15
            elif name.endswith("embeddings.LayerNorm.weight"):
                parameter[loud] *= 6
            elif name.endswith("LayerNorm.weight"):
                parameter[loud] *= 4 if "attention" in name else 1 / 4
            else:
                parameter *= next((scale for end, scale in scales.items() if name.endswith(end)), 1)
