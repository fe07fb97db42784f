"""Rerankers and classifiers of pairs: the PyTorch reference, and its head as pooling and stages.

What `*ForSequenceClassification` puts behind its encoder is a few small layers over one row. Of a causal language model
that answers yes or no (Qwen3-Reranker) it is one dense row: the difference of the two words' rows of its `lm_head`,
since the softmax over their two logits is the sigmoid of the difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedrt.errors import SourceError, UnsupportedModelError
from embedrt.heads import PairTemplate, ScoreHead, Stage
from embedrt.pairs import Pair
from embedrt_export.checkpoint import modern_name, tensor_names
from embedrt_export.pipeline import save_arrays
from embedrt_export.reference import float32_option, limit_of, load_error, quiet_libraries
from embedrt_export.source import ModelSource, read_modules
from embedrt_export.tokenizer_file import settle_tokenizer
from embedrt_export.tracing import graph_inputs

_BATCH_PAIRS = 8
_ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}
_STAGE_ACTIVATIONS = {"gelu": "gelu", "gelu_python": "gelu", "relu": "relu", "silu": "silu", "tanh": "tanh"}

QWEN3_TEMPLATE = PairTemplate(
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "Given a web search query, retrieve relevant passages that answer the query",
)
"""Of Qwen3-Reranker, as its card has it: https://huggingface.co/Qwen/Qwen3-Reranker-0.6B."""


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


@dataclass(frozen=True)
class ScoreReference:
    """A loaded model of pairs."""

    model: Any  # transformers' model with its head, fp32, on the CPU, in eval mode
    tokenizer: Any
    source: ModelSource
    head: Head
    labels: tuple[str, ...]
    activation: str
    template: PairTemplate | None
    prompts: dict[str, str]
    default_prompt_name: str | None
    max_tokens: int
    notes: tuple[str, ...]

    @property
    def encoder(self) -> Any:
        """The model without its head."""
        return getattr(self.model, self.model.base_model_prefix)

    @property
    def has_types(self) -> bool:
        """Whether the tokenizer gives the second text another token type, and the encoder reads it."""
        given = "token_type_ids" in self.tokenizer.model_input_names
        return given and "token_type_ids" in graph_inputs(self.encoder)

    def logits(
        self, pairs: Sequence[Pair], prompt: str = "", advance: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.float32]:
        """(N, L), by transformers alone."""
        rows = []
        for k in range(0, len(pairs), _BATCH_PAIRS):
            batch = pairs[k : k + _BATCH_PAIRS]
            rows.append(self._alone(batch, prompt) if self.template else self._together(batch, prompt))
            advance(len(batch))
        return np.concatenate(rows).astype(np.float32, copy=False)

    def _together(self, pairs: Sequence[Pair], prompt: str) -> NDArray[np.float32]:
        firsts, seconds = [prompt + one for one, _ in pairs], [two for _, two in pairs]
        options = {"padding": True, "truncation": "longest_first", "max_length": self.max_tokens}
        batch = self.tokenizer(firsts, seconds, return_tensors="pt", **options)
        with torch.no_grad():
            return np.asarray(self.model(**batch).logits.float().numpy())

    def _alone(self, pairs: Sequence[Pair], prompt: str) -> NDArray[np.float32]:
        """One by one, so that nothing is padded; yes less no, as the sigmoid of it is what the card computes."""
        assert self.template is not None
        (row,) = (layer.weight for layer in self.head.layers)
        after = self.tokenizer(self.template.after, add_special_tokens=False)["input_ids"]
        rows = []
        for one, two in pairs:
            text = self.template.text.replace("{instruction}", prompt or self.template.instruction)
            before, _, rest = text.partition("{query}")
            text = before + one + rest.replace("{document}", "") + two
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_tokens - len(after)] + after
            with torch.no_grad():
                hidden = self.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            rows.append((row.float() @ hidden).numpy())
        return np.stack(rows)


def load_scores(source: ModelSource, *, max_tokens: int | None = None) -> ScoreReference:
    """Load a model of pairs in fp32.

    Raises:
        UnsupportedModelError: its head, its activation or how it reads pairs cannot be said in a bundle.
        OptionError: `max_tokens` is out of range.
        SourceError: the checkpoint is not the model's, or transformers cannot load it.
    """
    import transformers

    causal = _is_causal(source)
    name = "AutoModelForCausalLM" if causal else "AutoModelForSequenceClassification"
    load = getattr(transformers, name).from_pretrained
    folder = str(source.checkpoint[0].parent)
    with quiet_libraries():
        try:
            model = load(folder, **float32_option()).float().eval()
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        except Exception as exc:  # transformers raises many kinds
            raise load_error(source, exc) from exc
    _check_weights(source, model)
    notes = (*source.notes, *settle_tokenizer(tokenizer))
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(int(source.config.get("pad_token_id") or 0))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    head = _yes_or_no(source, model, tokenizer) if causal else _head_of(source, model)
    own = _pipeline_config(source)
    prompts = {name: text for name, text in (own.get("prompts") or {}).items() if text}
    return ScoreReference(
        model=model,
        tokenizer=tokenizer,
        source=source,
        head=head,
        labels=_labels(model, 1 if causal else int(model.config.num_labels)),
        activation=_activation(source, 1 if causal else int(model.config.num_labels)),
        template=_template(source, tokenizer) if causal else None,
        prompts=prompts,
        default_prompt_name=own.get("default_prompt_name") if own.get("default_prompt_name") in prompts else None,
        max_tokens=limit_of(_Limit(tokenizer, source), source, max_tokens),
        notes=notes,
    )


def write_head(reference: ScoreReference, root: Path) -> ScoreHead:
    """Write the head's arrays under `root`/pipeline, and describe it."""
    stages = [_write_layer(layer, f"pipeline/scores_{k}.npz", root) for k, layer in enumerate(reference.head.layers)]
    return ScoreHead(
        pooling=(reference.head.pooling,),
        stages=tuple(stages),
        labels=reference.labels,
        activation=reference.activation,
        has_types=reference.has_types,
        template=reference.template,
    )


def _write_layer(layer: Layer, path: str, root: Path) -> Stage:
    if layer.epsilon is not None:
        bias = torch.zeros_like(layer.weight) if layer.bias is None else layer.bias
        save_arrays(root / path, weight=layer.weight, bias=bias)
        return Stage("layernorm", path, epsilon=layer.epsilon)
    save_arrays(root / path, weight=layer.weight, **({} if layer.bias is None else {"bias": layer.bias}))
    wide, narrow = layer.weight.shape
    return Stage("dense", path, layer.activation, int(narrow), int(wide))


class _Limit:
    """The tokenizer's limit under the name that `limit_of` reads."""

    def __init__(self, tokenizer: Any, source: ModelSource) -> None:
        own = int(tokenizer.model_max_length)
        known = own if own < 1_000_000 else None  # transformers' way to say that there is none
        transformer = _json(source.checkpoint[0].parent / "sentence_bert_config.json")
        self.max_seq_length = transformer.get("max_seq_length") or known


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


def _head_of(source: ModelSource, model: Any) -> Head:
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


def _yes_or_no(source: ModelSource, model: Any, tokenizer: Any) -> Head:
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
            return _json(source.path / str(module.get("path", "")) / "config.json")
    return {}


def _template(source: ModelSource, tokenizer: Any) -> PairTemplate:
    """How the model's own chat template puts a pair, or Qwen3-Reranker's card.

    Raises:
        UnsupportedModelError: nobody says it.
    """
    found = _chat_template(tokenizer)
    if found is not None:
        return found
    if "qwen3-reranker" in f"{source.name} {source.config.get('_name_or_path', '')}".casefold():
        return QWEN3_TEMPLATE
    raise UnsupportedModelError(
        f"{source.name}: its files do not say how it reads a pair: its chat template takes no messages of the roles "
        "query and document, as sentence-transformers writes them"
    )


def _chat_template(tokenizer: Any) -> PairTemplate | None:
    """The template rendered with marks, and taken apart at them; None where it does not put a pair."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    marks = {"query": "\ue000query\ue001", "document": "\ue000document\ue001"}
    messages = [{"role": role, "content": mark} for role, mark in marks.items()]
    instruction = {"role": "system", "content": "\ue000instruction\ue001"}

    def rendered(given: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True))

    try:
        plain, told = rendered(messages), rendered([instruction, *messages])
    except Exception:  # whatever a template's own code raises for roles that it does not know
        return None
    if any(text.count(mark) != 1 for text in (plain, told) for mark in marks.values()):
        return None
    takes = told.count(instruction["content"]) == 1
    text, _, after = (told if takes else plain).partition(marks["document"])
    if takes:
        # what stands at the instruction's place where there is none
        before, _, behind = text.partition(instruction["content"])
        bare = plain.partition(marks["document"])[0]
        fits = bare.startswith(before) and bare.endswith(behind) and after == plain.partition(marks["document"])[2]
        if not fits:
            return None
        default = bare[len(before) : len(bare) - len(behind)]
        text = f"{before}{{instruction}}{behind}"
    else:
        default = ""
    return PairTemplate(text.replace(marks["query"], "{query}") + "{document}", after, default)


def _labels(model: Any, count: int) -> tuple[str, ...]:
    known = getattr(model.config, "id2label", None) or {}
    return tuple(str(known.get(k, f"LABEL_{k}")) for k in range(count))


def _activation(source: ModelSource, num_labels: int) -> str:
    """What sentence-transformers applies to the logits, by the keys of its versions 5, 4 and before.

    Where they are not there it is the sigmoid of one label, and nothing of several.

    Raises:
        UnsupportedModelError: it is code of the model's own, or another function.
    """
    own = source.config.get("sentence_transformers")
    named = (
        _pipeline_config(source).get("activation_fn")
        or (own.get("activation_fn") if isinstance(own, dict) else None)
        or source.config.get("sbert_ce_default_activation_function")
    )
    if named is None:
        return "sigmoid" if num_labels == 1 else "identity"
    package, _, kind = str(named).rpartition(".")
    if not package.startswith("torch") or kind not in _ACTIVATIONS:
        raise UnsupportedModelError(
            f"{source.name}: scores by the activation {named} are not supported; known are torch's "
            + ", ".join(_ACTIVATIONS)
        )
    return _ACTIVATIONS[kind]


def _pipeline_config(source: ModelSource) -> dict[str, Any]:
    return _json(source.path / "config_sentence_transformers.json")


def _json(file: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file."""
    data = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not isinstance(data, dict):
        raise SourceError(f"{file} is not a JSON object; download the model again")
    return data


def _is_causal(source: ModelSource) -> bool:
    return any(str(one).endswith("ForCausalLM") for one in source.config.get("architectures") or ())


def _check_weights(source: ModelSource, model: Any) -> None:
    """Refuse a checkpoint that lacks a weight of the model, or has one that the model has no place for.

    transformers would fill the first with random numbers and drop the second.

    Raises:
        SourceError: the message names the first.
    """
    stored = {modern_name(name) for name in tensor_names(source.checkpoint)}
    groups: dict[int, set[str]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), set()).add(name)
    spared = ("position_ids", "token_type_ids", "inv_freq")
    missing = sorted(min(g) for g in groups.values() if not g & stored and not min(g).endswith(spared))
    left = sorted(n for n in stored - set().union(*groups.values()) if not n.endswith(spared))
    if missing:
        raise SourceError(
            f"{source.name}: its checkpoint lacks {len(missing)} of the model's {len(groups)} weights, the first is "
            f"{missing[0]}; it belongs to another architecture than config.json says, or has no head for scores"
        )
    if left:
        raise SourceError(
            f"{source.name}: its checkpoint has {len(left)} weights for which the model has no place, the first is "
            f"{left[0]}; leaving them out would give other scores than the model's"
        )
