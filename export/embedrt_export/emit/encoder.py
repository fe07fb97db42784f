"""A loaded encoder as an emitted graph, where a family's file reads its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedrt.errors import UnsupportedModelError
from embedrt_export.architectures import known_architecture
from embedrt_export.emit import emit
from embedrt_export.emit.fused import emit_fused
from embedrt_export.families import Family, find_family
from embedrt_export.graph import EncoderGraph, count_operators


def emit_encoder(config: Mapping[str, Any], encoder: Any, name: str) -> EncoderGraph | str:
    """The fp32 graph of a loaded transformers encoder with this config.json; or why it must be traced, nothing where
    that is said elsewhere.

    Raises:
        UnsupportedModelError: a setting is not known, and the architecture cannot be traced either.
        SourceError: its tensors are not those of the family.
    """
    family = find_family(config)
    if family is None:
        return ""
    known = known_architecture(config)
    if known is not None and known.family is not None:
        return _fused(family, known.family, encoder, name)
    try:
        spec = family.spec_of(config)
    except UnsupportedModelError as exc:
        if known is not None:
            return f"the graph is traced and runs on ONNX Runtime only, because its config is not read as data: {exc}"
        raise
    model = emit(spec, family.tensors_of(config, encoder.state_dict(), name))
    note = f"the graph is emitted from the config and the weights ({family.name}), not traced"
    return EncoderGraph(model, None, count_operators(model), (note,), spec)


def _fused(family: Family, kind: str, encoder: Any, name: str) -> EncoderGraph:
    """Of a class of transformers', whose config has defaults for what config.json leaves out, and which reads nothing
    that they do not name."""
    settings = encoder.config.to_dict()
    config = {key: settings[key] for key in type(encoder.config)().to_dict()}
    model = emit_fused(family.spec_of(config), family.tensors_of(config, encoder.state_dict(), name))
    return EncoderGraph(model, kind, count_operators(model), ())
