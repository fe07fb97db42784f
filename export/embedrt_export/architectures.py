"""Which transformers architectures can be exported, and which settings of a config the installed transformers knows;
both asked of config.json alone, before any work.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from embedrt.errors import UnsupportedModelError
from embedrt.manifest import VARIANT_NAMES
from embedrt_export.families import FAMILIES, find_family, own_code_of

FUSED_ACTIVATIONS = frozenset({"gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"})
"""hidden_act of the fused families; all have an operator in `embedrt_export.emit.fused`."""


@dataclass(frozen=True)
class Architecture:
    """How an architecture is exported."""

    family: str | None = None  # one that is written in fused operators; None: emitted in plain ones, or traced
    only: Mapping[str, Any] = field(default_factory=dict)  # settings that have one value, or one of a set
    defaults: Mapping[str, Any] = field(default_factory=dict)  # of these settings, where the config leaves them out
    variants: tuple[str, ...] = VARIANT_NAMES


_FUSED_ONLY: dict[str, Any] = {"position_embedding_type": "absolute", "is_decoder": False}


def _fused(family: str, activation: str = "hidden_act") -> Architecture:
    return Architecture(
        family,
        {**_FUSED_ONLY, activation: FUSED_ACTIVATIONS},
        {**_FUSED_ONLY, activation: "gelu"},
    )


_TRACED = Architecture()
_EMITTED = Architecture()  # by a file of `embedrt_export.families`, and not to be traced instead

ARCHITECTURES: dict[str, Architecture] = {
    "bert": _fused("bert"),
    "roberta": _fused("roberta"),
    "xlm-roberta": _fused("roberta"),
    "camembert": _fused("roberta"),
    "distilbert": _fused("distilbert", "activation"),
    # The block-sparse form picks its blocks at random, and another set for each length.
    "big_bird": Architecture(
        only={"attention_type": "original_full"}, defaults={"attention_type": "block_sparse"}
    ),
    # It multiplies positions as well, whose rows are no tokens: fp16 and int8 cannot measure them yet.
    "deberta": Architecture(variants=("fp32",)),
    **dict.fromkeys(
        (
            "albert", "bloom", "data2vec-text", "deberta-v2", "electra", "ernie", "esm", "eurobert", "gemma", "gemma2",
            "gemma3_text", "gpt_neox", "ibert", "megatron-bert", "modernbert", "mpnet", "olmo2", "phi3", "rembert",
            "roberta-prelayernorm", "roformer", "smollm3", "splinter", "squeezebert", "xlm-roberta-xl",
        ),
        _TRACED,
    ),
}  # fmt: skip
"""transformers' model_type -> how it is exported. Each has been exported and has passed parity; others fail in tracing,
or give other vectors in a padded batch (ConvBERT, MobileBERT, Nystromformer, XLM, FlauBERT)."""

_UPGRADE = "pip install --upgrade transformers sentence-transformers"
_NO_EFFECT = {
    "transformers_version": "which version wrote it",
    "_name_or_path": "where it was loaded from",
    "_commit_hash": "where it was loaded from",
    "model_type": "chooses the class",
    "architectures": "chooses the head, which an encoder has none of",
    "auto_map": "code of its own, asked about elsewhere",
    "dtype": "of the stored weights, which are widened to float32",
    "torch_dtype": "the older name of dtype",
    "_attn_implementation": "which of several programs of the same formula runs",
    "_attn_implementation_autoset": "which of several programs of the same formula runs",
    "use_cache": "a decoder's memory between calls",
    "num_labels": "a head's",
    "sentence_transformers": "its version, and a reranker's activation, refused elsewhere",
}
"""Keys of config.json that change no vector, and why."""


def known_architecture(config: Mapping[str, Any]) -> Architecture | None:
    """What the table has for `config`; nothing for code of a model's own, whose model_type is another class's."""
    return None if own_code_of(config) is not None else ARCHITECTURES.get(str(config.get("model_type")))


def check_architecture(name: str, config: Mapping[str, Any]) -> Architecture:
    """How the architecture of `config` is exported.

    Raises:
        UnsupportedModelError: not at all yet, or not with one of its settings.
    """
    kind = str(config.get("model_type"))
    found = known_architecture(config)
    if found is None:
        family = find_family(config)
        if own_code_of(config) is not None and family is None:
            return _TRACED  # by its own code, which somebody trusts
        if family is None:
            known = sorted({*ARCHITECTURES, *(name for one in FAMILIES for name in one.model_types)})
            raise UnsupportedModelError(
                f"{name}: the architecture {kind!r} is not supported yet; supported are {', '.join(known)}"
            )
        family.spec_of(config)
        return _EMITTED
    for key, allowed in found.only.items():
        value = config.get(key, found.defaults[key])
        choices = allowed if isinstance(allowed, frozenset) else {allowed}
        if value not in choices:
            raise UnsupportedModelError(
                f"{name}: {kind!r} with {key} {value!r} is not supported yet, only "
                + ", ".join(map(str, sorted(choices)))
            )
    return found


def check_variants(name: str, config: Mapping[str, Any], variants: Sequence[str]) -> None:
    """Refuse variants that the architecture of `config` cannot have yet.

    Raises:
        UnsupportedModelError: the message has the option that leaves them out.
    """
    kind = str(config.get("model_type"))
    known = (known_architecture(config) or _EMITTED).variants
    missing = [variant for variant in variants if variant not in known]
    if missing:
        raise UnsupportedModelError(
            f"{name}: {', '.join(missing)} of the architecture {kind!r} is not supported yet; "
            f"--variants {','.join(known)}"
        )


def check_settings(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a config that a newer major version of transformers wrote, unless the installed one knows all its keys.

    transformers keeps what it does not know without a word and computes without it; PyTorch, which parity is measured
    against, would be as wrong as the bundle.

    Raises:
        UnsupportedModelError: the message names both versions and the keys, or the architecture is of a later version.
    """
    import transformers

    if own_code_of(config) is not None:
        return  # read by a file of `embedrt_export.families`, which refuses what it does not know, or by its own code
    if config.get("model_type") not in transformers.CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"{name}: the architecture {config.get('model_type')!r} is of a later version of transformers than the "
            f"installed {transformers.__version__}: {_UPGRADE}"
        )
    unknown = unknown_settings(config, transformers.__version__, _understood(str(config.get("model_type"))))
    if unknown:
        raise UnsupportedModelError(
            f"{name}: config.json was written by transformers {config.get('transformers_version', '(not said)')}, and "
            f"the installed {transformers.__version__} does not know its {', '.join(unknown)}; without "
            f"{'it' if len(unknown) == 1 else 'them'} the vectors would be wrong: {_UPGRADE}"
        )


def check_tokenizer(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a tokenizer_config.json whose class the installed transformers does not have.

    Raises:
        UnsupportedModelError: version 5 saves what has no class of its own as one that version 4 has not got.
    """
    import transformers

    kind = str(config.get("tokenizer_class"))
    if kind == "TokenizersBackend" and not hasattr(transformers, kind):
        raise UnsupportedModelError(
            f"{name}: its tokenizer was saved by transformers 5 ({kind}), which the installed "
            f"{transformers.__version__} cannot read: {_UPGRADE}"
        )


def unknown_settings(config: Mapping[str, Any], installed: str, understood: Set[str]) -> tuple[str, ...]:
    """Keys of `config` that can change vectors and that version `installed` does not understand, sorted.

    Of the same major version or an older one, unknown keys are what users and training programs left behind; but
    rope_parameters, which version 5 writes where there is rotary attention, counts whatever version is stated.
    """
    written = str(config.get("transformers_version") or "0")
    unknown = sorted(set(config) - understood - set(_NO_EFFECT))
    return tuple(key for key in unknown if _major(written) > _major(installed) or key == "rope_parameters")


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def _understood(model_type: str) -> set[str]:
    """Keys that the installed transformers' config class of this type reads."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    config_class = CONFIG_MAPPING[model_type]
    keys = set(PretrainedConfig().to_dict()) | set(config_class().to_dict()) | set(config_class.attribute_map)
    return keys | set(inspect.signature(config_class.__init__).parameters)
