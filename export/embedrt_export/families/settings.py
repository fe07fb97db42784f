"""A config.json of which every setting is either read or known to change no vector."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from embedrt.encoder import Norm
from embedrt.errors import UnsupportedModelError

Config = Mapping[str, Any]

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "quick_gelu": "quick_gelu",
}
"""transformers' name of an activation -> the spec's."""

_NO_EFFECT = re.compile(
    "|".join(
        (
            r"_.*|model_type|architectures|auto_map|transformers_version|name|language|license",
            r"(torch_)?dtype|use_bfloat16|xla_device",  # numbers are widened
            r"sentence_transformers|sbert_ce_.*|adapters|author|comment|vocab_size_or_config_json_file",
            r"tokenizer_class|do_lower_case|(model_)?max_(seq_)?len(gth)?|seq_length",  # a tokenizer's
            # training, and heads that an encoder has none of
            r".*drop(out|path)?(_.*)?|.*_pdrop|initiali[sz]er_.*|init_.*|gradient_checkpointing|.*_loss(_.*)?",
            r"id2label|label2id|num_labels|(classifier|clf)_.*|problem_type|finetuning_task|summary_.*|pooler_.*",
            r"decoder_bias|tie_.*|sparse_pred.*|emb_pooler|num_classes|task_specific_params|pretraining_tp|mlm_.*",
            r"repad_logits.*|final_logit_softcapping|directionality|layer_norm_training|token_dropout",
            # ids of tokens with a role: the tokenizer puts them; where a family counts positions with one, it reads it
            r".*_token_ids?|.*_token(_index)?|decoder_start_.*",
            # how a class is run: another program of the same formula, and what it returns
            r"use_cache|output_.*|return_.*|torchscript|chunk_size_feed_forward|reference_compile|unpad_inputs",
            r".*flash_attn.*|use_memory_efficient_attention|attn_implementation|use_xentropy|fused_.*",
            r"is_encoder_decoder|cross_attention_hidden_size|add_cross_attention|ignore_keys.*|keys_to_ignore.*",
            # generating text
            r"do_sample|num_beams?(_groups)?|temperature|top_[kp]|typical_p|repetition_penalty|length_penalty",
            r"(min|max)_length|no_repeat_ngram_size|encoder_no_repeat_ngram_size|bad_words_ids|early_stopping",
            r"num_return_sequences|diversity_penalty|remove_invalid_values|exponential_decay.*|suppress_tokens",
            r"begin_suppress_tokens|prefix|output_past|n_positions|cache_implementation",
        )
    )
)
"""Settings that change no hidden state."""

_AS_EVERY_CONFIG = {"is_decoder": False, "pruned_heads": {}}
"""Settings that transformers 4 writes for every architecture, and what they say where they change nothing."""


class Settings:
    """A config.json being read; `finish` refuses what nobody read."""

    def __init__(self, family: str, config: Config) -> None:
        self.family = family
        self._config = config
        self._read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`; `default` where it is left out or null."""
        self._read.add(key)
        value = self._config.get(key)
        return default if value is None else value

    def stated(self, key: str, default: Any) -> Any:
        """The value of a key that may be null and mean it; `default` only where it is left out."""
        self._read.add(key)
        return self._config.get(key, default)

    def need(self, key: str) -> Any:
        """The value of a key that has no default.

        Raises:
            UnsupportedModelError: it is not there.
        """
        value = self.get(key)
        if value is None:
            raise UnsupportedModelError(f"{self.family}: config.json does not say {key}; download the model again")
        return value

    def only(self, key: str, *allowed: Any, default: Any = None) -> Any:
        """The value of a key that may have these values; `default`, the first, where it is left out.

        Raises:
            UnsupportedModelError: it has another.
        """
        value = self.get(key, allowed[0] if default is None else default)
        if value not in allowed:
            raise self.unsupported(key, value, " or ".join(map(repr, allowed)))
        return value

    def activation(self, key: str, default: str) -> Any:
        """The spec's name of an activation.

        Raises:
            UnsupportedModelError: the spec has none for it.
        """
        return ACTIVATIONS[self.only(key, *ACTIVATIONS, default=default)]

    def ignore(self, *keys: str) -> None:
        """Settings that the class of this family does not read, whatever other classes do with them."""
        self._read.update(keys)

    def head_size(self, heads: int, key: str = "head_dim") -> int:
        """What `key` says, else the hidden size divided among the heads.

        Raises:
            UnsupportedModelError: they do not divide it.
        """
        said = self.get(key)
        return int(said) if said is not None else self.shared("hidden_size", int(self.need("hidden_size")), heads)

    def shared(self, key: str, size: int, heads: int) -> int:
        """The share of each head in `size`, which `key` says.

        Raises:
            UnsupportedModelError: they do not divide it.
        """
        if size % heads:
            raise self.unsupported(key, size, f"a multiple of the {heads} heads")
        return size // heads

    def unsupported(self, key: str, value: Any, allowed: str) -> UnsupportedModelError:
        """The error for a setting that would change the numbers."""
        return UnsupportedModelError(f"{self.family!r} with {key} {value!r} is not supported yet, only {allowed}")

    def finish(self) -> None:
        """Refuse settings that were not read and are not known to change nothing; null says nothing.

        Raises:
            UnsupportedModelError: the message names the first and its value.
        """
        for key in sorted(set(self._config) - self._read):
            value = self._config[key]
            if key in _AS_EVERY_CONFIG:
                self.only(key, _AS_EVERY_CONFIG[key])
            elif value is not None and not _NO_EFFECT.fullmatch(key):
                raise UnsupportedModelError(
                    f"{self.family!r} with {key} {value!r} is not supported: its effect is not known. If it changes no "
                    "vector, remove it from config.json"
                )


def layer_norm(epsilon: Any) -> Norm:
    """A layer norm."""
    return Norm("layer", float(epsilon))


def rms_norm(epsilon: Any) -> Norm:
    """An RMS norm."""
    return Norm("rms", float(epsilon))
