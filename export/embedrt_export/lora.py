"""LoRA (Hu et al., 2021, arXiv:2106.09685): adapters as peft and sentence-transformers save them, added to their base.

An adapted product is x W + scale * (x A) B. The reference computes it so, unmerged; the graph has W + scale * A B.
scale is alpha / r, or alpha / sqrt(r) where it is rank-stabilized (Kalajdzievski, 2023, arXiv:2312.03732).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from embedrt.errors import SourceError, UnsupportedModelError

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_ONLY: dict[str, tuple[Any, ...]] = {
    # These change the base's weights before training begins, and the saved factors are of the changed base.
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
    **dict.fromkeys(
        (
            "use_dora", "use_qalora", "use_bdlora", "lora_bias", "layer_replication", "trainable_token_indices",
            "target_parameters", "alora_invocation_tokens", "arrow_config", "monteclora_config", "kasa_config",
            "velora_config", "use_monteclora",
        ),
        (False, None),
    ),
}  # fmt: skip
"""Settings of another formula than LoRA's, and with which values they do nothing."""

_KNOWN = frozenset((
    *_ONLY, "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias",
    "modules_to_save", "base_model_name_or_path", "revision",
    # what to train and how, or how the factors were begun
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "inference_mode",
    "task_type", "auto_mapping", "peft_version", "corda_config", "eva_config", "loftq_config", "lora_ga_config",
    "ensure_weight_tying", "qalora_group_size", "megatron_config", "megatron_core", "runtime_config",
))  # fmt: skip
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<which>[AB])(\.weight)?")
_WRAPPERS = re.compile(r"\.(base_layer|modules_to_save)(?=\.)")  # what peft puts between a module and its parameter
_OUTSIDE = re.compile(r"^(cls|lm_head|classifier|score|pooler|.*\.pooler|qa_outputs)(\.|$)")  # heads: of no vector


@dataclass(frozen=True)
class Adapter:
    """What an adapter's directory says."""

    folder: Path
    base: str  # path or hub id, as it was trained; "" where it does not say
    config: Mapping[str, Any]
    weights: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """What decides the vectors."""
        return (self.folder / CONFIG, self.weights)


@dataclass(frozen=True)
class _Factors:
    """Of one module: A (r, K) and B (N, r); of an embedding's A (r, V) and B (H, r)."""

    down: Tensor
    up: Tensor
    scale: float
    embedding: bool

    def of(self, given: Tensor) -> Tensor:
        """What is added to the module's output for its input."""
        if self.embedding:
            return self.scale * functional.embedding(given, self.down.T) @ self.up.T
        return self.scale * functional.linear(functional.linear(given, self.down), self.up)

    def merged(self) -> Tensor:
        """What is added to a weight (N, K), or to an embedding's (V, H)."""
        added = self.scale * self.up @ self.down
        return added.T if self.embedding else added


class Applied:
    """An adapter on a loaded encoder: hooks until `merge` is called."""

    def __init__(self, encoder: nn.Module, factors: Mapping[str, _Factors]) -> None:
        self._modules = {name: encoder.get_submodule(name) for name in factors}
        self._factors = factors
        self._hooks = [self._modules[name].register_forward_hook(_adding(one)) for name, one in factors.items()]

    def merge(self) -> None:
        """Write the factors into the weights; called once."""
        for hook in self._hooks:
            hook.remove()
        with torch.no_grad():
            for name, one in self._factors.items():
                module = self._modules[name]
                added = one.merged()
                module.weight += added.T if _is_transposed(module) else added


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a directory.

    Raises:
        SourceError: there is none, or a file is damaged.
        UnsupportedModelError: it is of another kind than LoRA, or with a setting that changes the formula.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SourceError(f"{folder} holds no adapter ({CONFIG}); give the directory that peft saved") from None
    except (OSError, ValueError) as exc:
        raise SourceError(f"{folder / CONFIG} cannot be read: {exc}; download it again") from exc
    kind = str(config.get("peft_type"))
    if kind != "LORA":
        raise UnsupportedModelError(f"{folder} is a {kind} adapter; only LORA's can be merged")
    for key, allowed in _ONLY.items():
        if config.get(key) not in allowed and config.get(key) != {}:
            raise UnsupportedModelError(f"{folder}: a LoRA with {key} {config[key]!r} is not supported yet")
    unknown = sorted(key for key, value in config.items() if key not in _KNOWN and value not in (None, False, {}, []))
    if unknown:
        raise UnsupportedModelError(f"{folder}: the effect of {unknown[0]} {config[unknown[0]]!r} is not known")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise SourceError(f"{folder} has no weights ({' or '.join(WEIGHTS)}); download the adapter again")
    return Adapter(folder, str(config.get("base_model_name_or_path") or ""), config, weights)


def apply(adapter: Adapter, encoder: nn.Module) -> tuple[Applied, str]:
    """Put the adapter on a loaded encoder, and say what it is in a note.

    Raises:
        SourceError: it has weights for modules that the encoder has not, or of other shapes.
    """
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    embeddings: set[str] = set()
    replaced = 0
    parameters = dict(encoder.named_parameters())
    for stored, tensor in _read(adapter.weights).items():
        name = _WRAPPERS.sub("", stored.removeprefix("base_model.model."))
        found = _FACTOR.fullmatch(name)
        if found is None:
            replaced += _replace(adapter, parameters, _inside(name, parameters, encoder), tensor)
            continue
        module = _inside(found["module"], dict(encoder.named_modules()), encoder)
        if module is not None:
            (down if found["which"] == "A" else up)[module] = tensor.float()
            embeddings |= {module} if found["embedding"] else set()
        elif not _OUTSIDE.match(found["module"]):
            raise _misfit(adapter, stored)
    if down.keys() != up.keys() or not (down or replaced):
        raise SourceError(f"{adapter.weights} has not both factors of every product; download the adapter again")
    factors = {
        name: _Factors(down[name], up[name], _scale(adapter.config, name), name in embeddings) for name in sorted(down)
    }
    for name, one in factors.items():
        _check(adapter, name, encoder.get_submodule(name), one)
    saved = f" and {replaced} weights replaced" if replaced else ""
    return Applied(encoder, factors), (
        f"LoRA adapter {adapter.folder.name} on {adapter.base or 'its base'}: {len(factors)} products merged{saved}; "
        "the reference computes them unmerged"
    )


def _adding(factors: _Factors) -> Any:
    def hook(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out + factors.of(given[0])

    return hook


def _scale(config: Mapping[str, Any], module: str) -> float:
    """Patterns are of a module's name or its end, as peft reads them."""
    rank = float(_by_pattern(config.get("rank_pattern"), module, config["r"]))
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _inside(name: str, known: Mapping[str, Any], encoder: nn.Module) -> str | None:
    """The encoder's own name for one of the adapter's, which may be of a whole task around it."""
    prefix = f"{getattr(encoder, 'base_model_prefix', '')}."
    return next((one for one in (name, name.removeprefix(prefix)) if one in known), None)


def _replace(adapter: Adapter, parameters: Mapping[str, Tensor], name: str | None, tensor: Tensor) -> bool:
    """Put a weight that was trained whole in the place of the base's."""
    if name is None:
        return False
    if parameters[name].shape != tensor.shape:
        raise SourceError(
            f"{adapter.weights}: {name} is {tuple(tensor.shape)}, and the base's {tuple(parameters[name].shape)}; it "
            "belongs to another base, or to one whose vocabulary was resized"
        )
    with torch.no_grad():
        parameters[name].copy_(tensor)
    return True


def _check(adapter: Adapter, name: str, module: nn.Module, factors: _Factors) -> None:
    wanted = isinstance(module, nn.Embedding) if factors.embedding else hasattr(module, "weight")
    if not wanted or factors.up.shape[1] != factors.down.shape[0]:
        raise _misfit(adapter, name)
    weight = module.weight.T if _is_transposed(module) else module.weight
    if factors.merged().shape != weight.shape:
        raise _misfit(adapter, name)


def _misfit(adapter: Adapter, name: str) -> SourceError:
    return SourceError(
        f"{adapter.weights}: the base has no place for {name}; the adapter belongs to another base than this one"
    )


def _is_transposed(module: nn.Module) -> bool:
    """transformers' Conv1D, which keeps (K, N); peft's fan_in_fan_out."""
    return type(module).__name__ == "Conv1D"


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return state
    except Exception as exc:  # safetensors and torch raise many kinds
        raise SourceError(f"{file} is truncated or damaged ({exc}); download the adapter again") from exc
