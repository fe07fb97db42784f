"""From the loaded sentence-transformers pipeline to what the bundle says of it: pooling, stages, tokenizer, prompts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.errors import UnsupportedModelError
from embedrt.heads import Pipeline, Stage
from embedrt.manifest import Architecture
from embedrt_export.reference import transformer_of

# torch.nn class of a Dense module's activation -> name in the bundle
_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "Sigmoid": "sigmoid",
    "SiLU": "silu",
}


def encoder_of(model: Any) -> Any:
    """The transformers encoder (a torch module) of a loaded pipeline, without the head of a task."""
    encoder = transformer_of(model).model
    return encoder.base_model if type(encoder).__name__.endswith("ForMaskedLM") else encoder


def describe_architecture(encoder: Any) -> Architecture:
    """The encoder's numbers; names differ between families (DistilBERT says dim, n_layers, n_heads)."""
    config = encoder.config

    def first(*names: str, default: Any = None) -> Any:
        return next((getattr(config, n) for n in names if getattr(config, n, None) is not None), default)

    return Architecture(
        model_type=str(config.model_type),
        hidden_size=int(first("hidden_size", "dim")),
        num_layers=int(first("num_hidden_layers", "n_layers")),
        num_heads=int(first("num_attention_heads", "n_heads")),
        # BLOOM's config states none: its FFN is always four times as wide as its states.
        intermediate_size=int(first("intermediate_size", "hidden_dim", default=4 * int(first("hidden_size", "dim")))),
        vocab_size=int(config.vocab_size),
        max_positions=int(first("max_position_embeddings", default=0)),
        type_vocab_size=int(first("type_vocab_size", default=0)),
        activation=str(first("hidden_act", "activation", "hidden_activation", default="gelu")),
        layer_norm_eps=float(first("layer_norm_eps", "norm_eps", default=1e-12)),
        pad_token_id=int(first("pad_token_id", default=0)),
    )


def write_pipeline(model: Any, root: Path) -> Pipeline:
    """Write the stages' arrays under `root`/pipeline and describe the modules after the Transformer.

    Raises:
        UnsupportedModelError: a module, its place or its activation cannot be said in a bundle.
    """
    modules = list(model)
    names = [type(module).__name__ for module in modules]
    if len(modules) < 2 or names[0] != "Transformer" or names[1] != "Pooling" or names.count("Pooling") > 1:
        raise UnsupportedModelError(
            f"the pipeline must begin with Transformer and Pooling and have one of each, this one is {', '.join(names)}"
        )
    pooling = modules[1]
    modes = pooling.pooling_mode
    return Pipeline(
        pooling=(modes,) if isinstance(modes, str) else tuple(modes),
        include_prompt=bool(pooling.include_prompt),
        stages=write_stages(modules, 2, root),
        dimension=int(model.get_embedding_dimension()),
    )


def write_stages(modules: Sequence[Any], first: int, root: Path) -> tuple[Stage, ...]:
    """Write the arrays of the modules from `first` on under `root`/pipeline, and describe them."""
    stages = [_write_stage(module, index, root) for index, module in enumerate(modules) if index >= first]
    return tuple(stage for stage in stages if stage is not None)


def write_tokenizer(tokenizer: Any, path: Path) -> None:
    """tokenizer.json as the pipeline uses it: lower-casing in its normalizer, no truncation, no padding.

    Decoders' tokenizers pad on the left, so that a batch's last tokens are one column: texts are ragged here.

    Raises:
        UnsupportedModelError: the tokenizer has no fast form, or cuts on the left.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} has no fast form (tokenizer.json); pip install tokenizers sentencepiece "
            "and save it once with transformers' AutoTokenizer(use_fast=True)"
        )
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise UnsupportedModelError(
            f"the tokenizer has truncation_side={tokenizer.truncation_side!r}; only right is supported"
        )
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["truncation"] = data["padding"] = None
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _write_stage(module: Any, index: int, root: Path) -> Stage | None:
    kind = type(module).__name__
    if kind == "Normalize":
        return Stage("normalize")
    if kind == "Dropout":
        return None  # nothing at inference
    if kind == "Dense":
        return write_dense(module, f"pipeline/dense_{index}.npz", root)
    if kind == "LayerNorm":
        path = f"pipeline/layernorm_{index}.npz"
        save_arrays(root / path, weight=module.norm.weight, bias=module.norm.bias)
        return Stage("layernorm", path=path, epsilon=float(module.norm.eps))
    raise UnsupportedModelError(f"module {index}, {type(module).__module__}.{kind}, cannot be said in a bundle")


def write_dense(module: Any, path: str, root: Path, of: str = "sentence_embedding") -> Stage:
    """Write a Dense module's arrays to `path` under `root`, and describe it; `of` is what it reads and writes."""
    activation = type(module.activation_function).__name__
    if activation not in _ACTIVATIONS or getattr(module.activation_function, "approximate", "none") != "none":
        raise UnsupportedModelError(
            f"Dense activation {module.activation_function!r} is not supported; known: {', '.join(_ACTIVATIONS)}"
        )
    if (module.module_input_name, module.module_output_name) != (of, of):
        raise UnsupportedModelError(
            f"a Dense module maps {module.module_input_name} to {module.module_output_name}; "
            f"only {of} to {of} is supported"
        )
    if getattr(module, "use_residual", False):
        raise UnsupportedModelError("a Dense module with use_residual is not supported")
    arrays = {"weight": module.linear.weight}
    if module.linear.bias is not None:
        arrays["bias"] = module.linear.bias
    save_arrays(root / path, **arrays)
    return Stage("dense", path, _ACTIVATIONS[activation], int(module.in_features), int(module.out_features))


def save_arrays(path: Path, **tensors: Any) -> None:
    """Write torch's tensors as float32 arrays of an npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}
    np.savez(path, **arrays)
