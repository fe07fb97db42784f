"""The PyTorch reference of rerankers and classifiers of pairs, and its head in the bundle."""

from __future__ import annotations

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
from embedrt_export.pair_templates import template_of
from embedrt_export.pipeline import save_arrays
from embedrt_export.reference import float32_option, limit_of, load_error, quiet_libraries
from embedrt_export.score_heads import Head, Layer, head_of, yes_or_no
from embedrt_export.source import ModelSource, optional_json
from embedrt_export.tokenizer_file import settle_tokenizer
from embedrt_export.tracing import graph_inputs

_BATCH_PAIRS = 8
_ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid", "Softmax": "softmax"}


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
    head = yes_or_no(source, model, tokenizer) if causal else head_of(source, model)
    own = _pipeline_config(source)
    prompts = {name: text for name, text in (own.get("prompts") or {}).items() if text}
    return ScoreReference(
        model=model,
        tokenizer=tokenizer,
        source=source,
        head=head,
        labels=_labels(model, 1 if causal else int(model.config.num_labels)),
        activation=_activation(source, 1 if causal else int(model.config.num_labels)),
        template=template_of(source, tokenizer) if causal else None,
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
        transformer = optional_json(source.checkpoint[0].parent / "sentence_bert_config.json")
        self.max_seq_length = transformer.get("max_seq_length") or known


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
    return optional_json(source.path / "config_sentence_transformers.json")


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
