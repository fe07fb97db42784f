"""A loaded encoder as an emitted graph, where a family's file reads its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedrt.errors import UnsupportedModelError
from embedrt_export.architectures import ARCHITECTURES
from embedrt_export.emit import emit
from embedrt_export.families import Family, find_family, own_code_of
from embedrt_export.graph import EncoderGraph, count_operators


def family_to_emit(config: Mapping[str, Any]) -> Family | None:
    """The family whose file reads `config`, for an encoder that is not fused; None where that is traced instead."""
    if own_code_of(config) is not None:  # whose model_type is another class's, as JinaBERT's "bert"
        return find_family(config)
    known = ARCHITECTURES.get(str(config.get("model_type")))
    if known is not None and known.family is not None:
        return None
    return find_family(config)


def emit_encoder(config: Mapping[str, Any], encoder: Any, name: str) -> EncoderGraph | str:
    """The fp32 graph of a loaded transformers encoder with this config.json; or why it must be traced, nothing where
    that is said elsewhere.

    Raises:
        UnsupportedModelError: a setting is not known, and the architecture cannot be traced either.
        SourceError: its tensors are not those of the family.
    """
    family = family_to_emit(config)
    if family is None:
        return ""
    try:
        spec = family.spec_of(config)
    except UnsupportedModelError as exc:
        if config.get("model_type") in ARCHITECTURES and own_code_of(config) is None:
            return f"the graph is traced and runs on ONNX Runtime only, because its config is not read as data: {exc}"
        raise
    model = emit(spec, family.tensors_of(config, encoder.state_dict(), name))
    note = f"the graph is emitted from the config and the weights ({family.name}), not traced"
    return EncoderGraph(model, None, count_operators(model), (note,), spec)
