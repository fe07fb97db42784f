"""What stands behind an encoder that scores pairs, as pooling and a few layers over one row.

Of `*ForSequenceClassification` it is the classifier. Of a causal language model that answers yes or no (Qwen3-Reranker)
it is one dense row: the difference of the two words' rows of its `lm_head`, since the softmax over their two logits is
the sigmoid of the difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from embedrt.errors import UnsupportedModelError
from embedrt_export.source import ModelSource, optional_json, read_modules

_STAGE_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "relu": "relu", "silu": "silu", "tanh": "tanh"}


@dataclass(frozen=True)
class Layer:
    """A layer of a head: a linear one with what follows it, or a layer norm."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str = "identity"
    epsilon: float | None = None  # of a norm


@dataclass(frozen=True)
class Head:
    """What is behind the encoder."""

    pooling: str
    layers: tuple[Layer, ...]


def _linear(module: Any, activation: str = "identity") -> Layer:
    return Layer(module.weight.detach(), None if module.bias is None else module.bias.detach(), activation)


def _of_pooler(model: Any) -> Head:
    """BERT's, ALBERT's and GTE's: tanh of a dense layer over the first token, then the classifier."""
    pooler = getattr(model, model.base_model_prefix).pooler
    return Head("cls", (_linear(getattr(pooler, "dense", pooler), "tanh"), _linear(model.classifier)))


def _of_classification_head(activation: str) -> Callable[[Any], Head]:
    """RoBERTa's, MPNet's and ELECTRA's."""
    return lambda model: Head("cls", (_linear(model.classifier.dense, activation), _linear(model.classifier.out_proj)))


def _of_distilbert(model: Any) -> Head:
    return Head("cls", (_linear(model.pre_classifier, "relu"), _linear(model.classifier)))


def _of_modernbert(model: Any) -> Head:
    activation = _stage_activation(model.config.classifier_activation)
    norm = model.head.norm
    middle = Layer(norm.weight.detach(), None if norm.bias is None else norm.bias.detach(), epsilon=float(norm.eps))
    pooling = str(model.config.classifier_pooling)
    return Head(pooling, (_linear(model.head.dense, activation), middle, _linear(model.classifier)))


def _of_deberta(model: Any) -> Head:
    activation = _stage_activation(model.config.pooler_hidden_act)
    return Head("cls", (_linear(model.pooler.dense, activation), _linear(model.classifier)))


def _of_decoder(model: Any) -> Head:
    """The last token's row, which is that of the last that is not padding."""
    return Head("lasttoken", (_linear(model.score),))


_HEADS: dict[str, Callable[[Any], Head]] = {
    "bert": _of_pooler,
    "albert": _of_pooler,
    "gte": _of_pooler,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet"), _of_classification_head("tanh")),
    "electra": _of_classification_head("gelu"),
    "distilbert": _of_distilbert,
    "modernbert": _of_modernbert,
    "deberta-v2": _of_deberta,
    **dict.fromkeys(("qwen2", "qwen3", "llama", "mistral"), _of_decoder),
}
"""model_type -> the head of its `*ForSequenceClassification`."""


def head_of(source: ModelSource, model: Any) -> Head:
    kind = str(model.config.model_type)
    if kind not in _HEADS:
        raise UnsupportedModelError(
            f"{source.name}: scores of the architecture {kind!r} are not supported yet; supported are "
            + ", ".join(sorted(_HEADS))
        )
    if len(read_modules(source.path)) > 1 if source.is_pipeline else False:
        raise UnsupportedModelError(f"{source.name}: modules behind its classifier cannot be said in a bundle")
    return _HEADS[kind](model)


def _stage_activation(name: str) -> str:
    if name not in _STAGE_ACTIVATIONS:
        raise UnsupportedModelError(f"a classifier with the activation {name!r} is not supported yet")
    return _STAGE_ACTIVATIONS[name]


def yes_or_no(source: ModelSource, model: Any, tokenizer: Any) -> Head:
    """One row of the language model's head less another."""
    if getattr(model.config, "final_logit_softcapping", None):
        raise UnsupportedModelError(f"{source.name}: logits that are capped cannot be said in a bundle")
    if model.lm_head.bias is not None:
        raise UnsupportedModelError(f"{source.name}: a language model's head with a bias is not supported yet")
    own = _logit_score(source)
    yes = own.get("true_token_id", tokenizer.convert_tokens_to_ids("yes"))
    no = own["false_token_id"] if "false_token_id" in own else tokenizer.convert_tokens_to_ids("no")
    weight = model.lm_head.weight.detach()
    row = weight[yes] if no is None else weight[yes] - weight[no]
    return Head("lasttoken", (Layer(row[None], None),))


def _logit_score(source: ModelSource) -> dict[str, Any]:
    """The settings of a LogitScore module, if the model has one."""
    for module in read_modules(source.path) if source.is_pipeline else ():
        if str(module["type"]).endswith(".LogitScore"):
            return optional_json(source.path / str(module.get("path", "")) / "config.json")
    return {}
