"""Models whose class is code beside their weights: run by it where the user trusts it, else by `published`'s formula.

sentence-transformers loads a pipeline from a directory whose config.json names a class of transformers. A formula
becomes such a class here, and the directory a copy of the model's, of links, with another config.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from embedrt.errors import SourceError
from embedrt_export.families import find_family, own_class, own_code_of
from embedrt_export.families.family import prefix_of
from embedrt_export.links import link
from embedrt_export.published import FORMULAS
from embedrt_export.source import ModelSource, encoder_folder, read_modules

_KIND = "embedrt_published"


class PublishedConfig(PretrainedConfig):  # type: ignore[misc]
    """A model's config.json, kept as it is in `published`, beside the numbers that everybody asks a config for."""

    model_type = _KIND


class PublishedEncoder(PreTrainedModel):  # type: ignore[misc]
    """An encoder that a formula of `embedrt_export.published` computes, with the names of its checkpoint."""

    config_class = PublishedConfig

    def __init__(self, config: PublishedConfig, state: dict[str, torch.Tensor]) -> None:
        super().__init__(config)
        self._words: str = config.words
        self._formula = FORMULAS[config.formula]
        for name, tensor in state.items():
            place, _, last = name.rpartition(".")
            _module(self, place).register_parameter(last, nn.Parameter(tensor, requires_grad=False))

    @classmethod
    def from_pretrained(cls, path: str, *_: Any, config: PublishedConfig, **__: Any) -> PublishedEncoder:
        """From the files that `config` names, in float32, whatever else a loader of transformers may ask for."""
        del path
        state: dict[str, torch.Tensor] = {}
        for file in config.files:
            state |= _read(Path(file))
        prefix = prefix_of(state, (config.words,))
        inside = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
        named = {name.removeprefix(f"{prefix}." if prefix else ""): t.float() for name, t in inside.items()}
        made = cls(config, {name: tensor for name, tensor in named.items() if tensor.dim()})
        made.base_model_prefix = prefix  # what the checkpoint puts before its names
        return made

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> BaseModelOutput:
        """Hidden states (B, S, H) of ids (B, S), each text by itself, zeros where it is padded."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        state = dict(self.state_dict())
        out = torch.zeros(*input_ids.shape, self.config.hidden_size)
        for row, (ids, seen) in enumerate(zip(input_ids, mask.bool(), strict=True)):
            out[row, seen] = self._formula(self.config.published, state, ids[seen].tolist())
        return BaseModelOutput(last_hidden_state=out)

    def get_input_embeddings(self) -> nn.Module:
        """What holds the token table as its weight."""
        return self.get_submodule(self._words.rpartition(".")[0])


def describe(source: ModelSource) -> str | None:
    """The bundle's note on a model with code of its own: whether that was run, and what else was compared with."""
    code = own_code_of(source.config)
    if code is None:
        return None
    if source.trusted:
        return f"--trust-remote-code: the model's own code was run for the reference, {code}{_sha256(source, code)}"
    if uses_formula(source):
        return (
            f"the reference is the published formula of {own_class(source.config)}, not the model's own code ({code})"
        )
    return f"the reference is transformers' own {own_class(source.config)}, not the model's own code ({code})"


def uses_formula(source: ModelSource) -> bool:
    """Whether the model's own code may not be run, and a formula takes its place."""
    return own_class(source.config) in FORMULAS and not source.trusted


@contextlib.contextmanager
def unregistered() -> Iterator[None]:
    """Classes of a model's own code loaded within stay its own.

    transformers 4 registers them for their config's class, so that every later BERT of this process would be one.
    """
    registered = AutoModel._model_mapping._extra_content
    before = dict(registered)
    try:
        yield
    finally:
        registered.clear()
        registered.update(before)


@contextlib.contextmanager
def with_formula(source: ModelSource) -> Iterator[Path]:
    """A directory that sentence-transformers loads with `PublishedEncoder` as its encoder; gone at the end."""
    AutoConfig.register(_KIND, PublishedConfig, exist_ok=True)
    AutoModel.register(PublishedConfig, PublishedEncoder, exist_ok=True)
    first = encoder_folder(source.path, read_modules(source.path) if source.is_pipeline else None)
    with tempfile.TemporaryDirectory(prefix="embedrt-") as made:
        root = Path(made) / "model"
        link(source.path, root, lambda file: file not in source.checkpoint and file.suffix != ".py")
        config = root / first.relative_to(source.path) / "config.json"
        config.unlink()
        config.write_text(json.dumps(_config(source)), encoding="utf-8")
        yield root


def _config(source: ModelSource) -> dict[str, Any]:
    family = find_family(source.config)
    assert family is not None
    spec = family.spec_of(source.config)
    return {
        "model_type": _KIND,
        "formula": own_class(source.config),
        "published": source.config,
        "files": [str(file.resolve()) for file in source.checkpoint],
        "words": family.sources_of(source.config)["embeddings.word"].names[0],
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": spec.blocks[0].attention.num_heads,
        "intermediate_size": spec.blocks[0].feed_forward.size,
        "hidden_act": spec.blocks[0].feed_forward.activation,
        "layer_norm_eps": spec.blocks[0].norm.epsilon,
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": spec.max_tokens,
        "type_vocab_size": 2 if spec.embeddings.has_token_types else 0,
        "pad_token_id": source.config.get("pad_token_id") or 0,
    }


def _module(root: nn.Module, place: str) -> nn.Module:
    """The module at a dotted name, made where there is none."""
    for name in filter(None, place.split(".")):
        if name not in root._modules:
            root.add_module(name, nn.Module())
        root = root._modules[name]
    return root


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(file))
    state: dict[str, torch.Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def _sha256(source: ModelSource, code: str) -> str:
    """Of the file of code, where it lies beside the weights."""
    folder = encoder_folder(source.path, read_modules(source.path) if source.is_pipeline else None)
    file = folder / f"{code.partition('.')[0]}.py"
    try:
        return f" (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}...)" if file.is_file() else ""
    except OSError as exc:
        raise SourceError(f"{file} cannot be read: {exc}") from exc
